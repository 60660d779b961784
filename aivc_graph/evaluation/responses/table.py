"""A table of responses: the profile of every condition in every context beside the control of that context."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.errors import ReadError, unknown_name
from aivc_graph.evaluation.responses.cells import Cells, Floats, Ints, are_counts, jackknife, profiles
from aivc_graph.splits.copies import copy_labels
from aivc_graph.tissue.conditions import read_conditions
from aivc_graph.tissue.doubt import doubt

EVERYWHERE = "all"


@dataclass(frozen=True)
class Responses:
    """One row a condition in a context, controls among them.

    Parameters
    ----------
    genes
        Name of each gene.
    condition, context
        Name of each row's condition and of the context, such as a cell line, it was measured in (row,).
    parts
        What was done in each row, in alphabetical order; nothing in a control (row,).
    n_cells
        Cells behind each row (row,).
    profile, variance
        Profile of each row and its jackknife variance (row, gene); see `profiles_of` and `jackknife`.
    control
        The row that is each row's control (row,).
    cells
        The cells themselves; of a table of effects its rows as they were given.
    unmeasured
        Of a table of effects, what was not measured of a row and stands as unchanged in its profile (row, gene); None
        where cells were measured.
    place, amounts
        What each row's context is but for doses and hours, and the mean logarithms of these (row,), (row, 2); see
        `log_amounts`. None where contexts have none.
    """

    genes: tuple[str, ...]
    condition: NDArray[np.str_]
    context: NDArray[np.str_]
    parts: tuple[tuple[str, ...], ...]
    n_cells: Floats
    profile: Floats
    variance: Floats
    control: Ints
    cells: Cells
    unmeasured: NDArray[np.bool_] | None = None
    place: NDArray[np.str_] | None = None
    amounts: Floats | None = None

    @property
    def is_control(self) -> NDArray[np.bool_]:
        """Which rows are controls (row,)."""
        return self.control == np.arange(len(self.control))

    @cached_property
    def effect(self) -> Floats:
        """Profile less that of the control (row, gene)."""
        return self.profile - self.profile[self.control]

    @cached_property
    def hashes(self) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """A label of each cell's values (cell,), one for copies, and who has enough to compare; see `copy_labels`."""
        x = self.cells.x
        if self.unmeasured is not None:
            x = x.copy()
            x.data = np.nan_to_num(x.data)
        return copy_labels(x, self.genes)

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """Everything that was done anywhere, in alphabetical order."""
        return tuple(sorted({part for parts in self.parts for part in parts}))

    @cached_property
    def design(self) -> NDArray[np.bool_]:
        """Which target was part of which row (row, target)."""
        return np.array([[target in parts for target in self.targets] for parts in self.parts], bool).reshape(
            len(self.parts), len(self.targets)
        )

    @cached_property
    def panel(self) -> Ints:
        """Which gene each target is among those measured, -1 for none (target,)."""
        at = {gene: i for i, gene in enumerate(self.genes)}
        return np.array([at.get(target, -1) for target in self.targets], np.int64)

    @cached_property
    def own(self) -> NDArray[np.bool_]:
        """What no score looks at in a row: genes that are themselves its targets, and the unmeasured (row, gene)."""
        found = np.array([np.isin(self.genes, parts) for parts in self.parts]).reshape(len(self.parts), len(self.genes))
        return found if self.unmeasured is None else found | self.unmeasured

    def learned(self, train: NDArray[np.bool_]) -> Floats:
        """Return effects (row, gene); what was not measured is the mean over the `train` rows that were (row,)."""
        if self.unmeasured is None:
            return self.effect
        known = train[:, None] & ~self.unmeasured
        mean = np.where(known, self.effect, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        return np.where(self.unmeasured, mean, self.effect)

    def halves(self, seed: int) -> tuple[Floats, Floats]:
        """Return the profiles of two random halves of each row's cells (row, gene), the replicates of a measurement."""
        half, n = halves_of(self.cells.row, seed), len(self.parts)
        profile, _ = profiles(Cells(self.cells.x, self.cells.row + n * half, self.cells.counts), 2 * n)
        return profile[:n], profile[n:]


def halves_of(row: Ints, seed: int) -> Ints:
    """Return the half, 0 or 1, that each cell falls in (cell,), as even as can be within its row."""
    shuffled = np.random.default_rng(seed).permutation(len(row))
    order = shuffled[np.argsort(row[shuffled], kind="stable")]
    starts = np.concatenate([[0], np.cumsum(np.bincount(row))])[row[order]]
    half = np.empty(len(row), np.int64)
    half[order] = (np.arange(len(row)) - starts) % 2
    return half


def responses_of(table: Any, condition: str, control: str, context: str | None = None, *, where: str = "") -> Responses:
    """Return the table of responses in an AnnData with one row a cell.

    Parameters
    ----------
    table
        AnnData (cell, gene) of counts or of log-normalised values; the values tell which.
    condition, context
        Columns of ``obs``; a pair is written ``A+B``. Without a context all cells are of one.
    control
        The condition to which nothing was done.
    where
        What messages call the table, such as its file.

    Raises
    ------
    ReadError
        A column, condition or matrix that is not there, a context without control, a second name of controls,
        values that are neither kind or all zero.
    """
    where = where or "table of responses"
    names = column_of(table, condition, where)
    contexts = np.full(len(names), EVERYWHERE) if context is None else column_of(table, context, where)
    if not (names == control).any():
        raise unknown_name(ReadError, f"{where} · obs[{condition!r}]", "control", control, np.unique(names))
    parts = _parts(names, control, f"{where} · obs[{condition!r}]")
    check_targets({part for one in parts.values() for part in one}, table.var, where)
    x = sparse.csr_matrix(matrix_of(table, where))
    if not x.count_nonzero():
        raise ReadError(where, "no count above zero", "measured expression", "give the layer that holds it")
    keys, row = np.unique(np.column_stack([contexts, names]), axis=0, return_inverse=True)
    at = {(one, name): i for i, (one, name) in enumerate(keys)}
    alone = sorted({one for one, _ in keys if (one, control) not in at})
    if alone:
        mend = f"leave those cells out, or name another column than {context!r} as context"
        raise ReadError(where, f"no cell of {control!r} in {', '.join(alone[:5])}", "a control in every context", mend)
    cells = Cells(x, row.reshape(-1), are_counts(x, where))
    profile, n_cells = profiles(cells, len(keys))
    return Responses(
        genes=tuple(map(str, table.var_names)),
        condition=keys[:, 1],
        context=keys[:, 0],
        parts=tuple(parts[str(name)] for _, name in keys),
        n_cells=n_cells,
        profile=profile,
        variance=jackknife(cells, len(keys)),
        control=np.array([at[one, control] for one, _ in keys]),
        cells=cells,
    )


def check_targets(targets: set[str], var: pd.DataFrame, where: str) -> None:
    """Doubt that genes are named as the targets are, where a column of ``var`` names more of the targets than they do.

    Drugs are in neither, and nothing is said of them.
    """
    found = len(targets & set(var.index.astype(str)))
    words = {str(name): set(var[name].dropna().astype(str)) for name in var if var[name].dtype.kind != "f"}
    named = {name: len(targets & text) for name, text in words.items()}
    best = max(named, key=lambda name: named[name], default=None)
    if best is not None and named[best] > 2 * found:
        told = f"{found} of {len(targets)} targets among the genes, and {named[best]} in the column {best!r} of var"
        doubt(
            where, told, "genes named as the targets are", f"name genes by {best!r}: no target is told from the others"
        )


def column_of(table: Any, name: str, where: str) -> NDArray[np.str_]:
    """Return a column of ``obs`` as words; a missing column or value is an error that names it."""
    if name not in table.obs:
        raise unknown_name(ReadError, f"{where} · obs", "column", name, table.obs.columns)
    if pd.isna(table.obs[name]).any():
        found = f"{int(pd.isna(table.obs[name]).sum()):,} cells without a value"
        raise ReadError(f"{where} · obs[{name!r}]", found, "a value for every cell", "leave those cells out")
    return table.obs[name].astype(str).to_numpy().astype(str)


def matrix_of(table: Any, where: str) -> Any:
    """Return the values of an AnnData; an error where there are none."""
    if table.X is None:
        found = f"no X (layers: {', '.join(table.layers) or 'none'})"
        raise ReadError(where, found, "values in X", "put them there, as in `table.X = table.layers[...]`")
    return table.X


def _parts(names: NDArray[np.str_], control: str, where: str) -> dict[str, tuple[str, ...]]:
    """Return what each name says was done; a second name of controls is refused."""
    known = np.unique(names)
    read = read_conditions(known.tolist(), control=control, where=where).read
    parts = {str(name): one.parts for name, one in zip(known, read, strict=True)}
    other = [name for name, done in parts.items() if name != control and not done]
    if other:
        found = f"{', '.join(map(repr, other[:5]))} beside {control!r}, in which nothing was done either"
        raise ReadError(where, found, "one name of controls", "give all controls one name, or leave those cells out")
    return parts
