"""Anybody's predictions of a table of responses: matched by names of genes, conditions and contexts, and laid out."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.errors import Faults, ReadError
from aivc_graph.evaluation.responses.asking import Exam
from aivc_graph.evaluation.responses.cells import LOG_MOST, Cells, are_counts, jackknife, sums
from aivc_graph.evaluation.responses.differential import differential_of
from aivc_graph.evaluation.responses.scale import check_not_effects, check_scale
from aivc_graph.evaluation.responses.spread import Space
from aivc_graph.evaluation.responses.table import EVERYWHERE, Responses, column_of, matrix_of
from aivc_graph.evaluation.responses.views import Predicted
from aivc_graph.operators.intervention.condition_profiles import DEPTH, profiles_of
from aivc_graph.tissue.conditions import parts_of
from aivc_graph.tissue.doubt import tell

LEAST_SHARED = 0.5
LEAST_CONTROLS, FEW_CONTROLS = 2, 10
TRAIN, TEST = "train", "test"


def shared_genes(predictions: Any, measured: Any, where: str) -> list[str]:
    """Return the genes that both AnnData have, in the order of the measured one.

    Raises
    ------
    ReadError
        Fewer than half of the measured genes are predicted, a gene is there twice, or either has no ``X``.
    """
    faults = Faults(ReadError)
    for name, table in (("predictions", predictions), ("measured", measured)):
        matrix_of(table, f"{where} · {name}")
        twice = table.var_names[table.var_names.duplicated()]
        if len(twice):
            faults.add(f"{where} · {name}", f"gene {twice[0]!r} twice", "each gene once", "sum or rename its columns")
    faults.raise_if_any()
    found = [gene for gene in measured.var_names if gene in set(predictions.var_names)]
    if len(found) < LEAST_SHARED * measured.n_vars:
        there = (
            f"{len(found):,} of the {measured.n_vars:,} measured genes, such as {measured.var_names[0]!r}; predicted "
        )
        there += f"are {predictions.n_vars:,}, such as {predictions.var_names[0]!r}"
        raise ReadError(
            where, there, "at least half of them predicted", "bring both to the same gene names (var_names)"
        )
    return found


def sides_of(measured: Any, table: Responses, split: str | None, predicted: set[tuple[str, str]], where: str) -> Any:
    """Return which rows train and which are asked about, each (row,).

    Told by the column `split` of the measured cells, ``train`` or ``test``; without one, what is predicted is asked
    about and all else trains.

    Raises
    ------
    ReadError
        Cells of one condition on two sides, another label, nothing on a side, a tested condition without prediction.
    """
    keys = list(zip(table.context, table.condition, strict=True))
    has = np.array([key in predicted for key in keys]) & ~table.is_control
    if split is None:
        train, asked = ~has & ~table.is_control, has
    else:
        labels = column_of(measured, split, where)
        _check_labels(labels[~table.is_control[table.cells.row]], f"{where} · obs[{split!r}]")
        sides = np.zeros((len(keys), 2), bool)
        for k, label in enumerate((TRAIN, TEST)):
            sides[np.unique(table.cells.row[labels == label]), k] = True
        both = np.flatnonzero(sides.all(axis=1) & ~table.is_control)
        if len(both):
            found = f"{str(table.condition[both[0]])!r} has cells that train and cells that test"
            raise ReadError(f"{where} · obs[{split!r}]", found, "each condition on one side", "split by condition")
        train, asked = (sides[:, k] & ~table.is_control for k in (0, 1))
        missing = np.flatnonzero(asked & ~has)
        if len(missing):
            some = ", ".join(repr(str(name)) for name in table.condition[missing[:5]])
            found = f"no prediction of {len(missing)} tested conditions, such as {some}{_unknown(predicted, table)}"
            raise ReadError(where, found, "all of them predicted", "leaving some out would flatter; predict them all")
    for rows, what, mend in (
        (train, "no condition to train on", f"label some {TRAIN!r}: baselines and axes are learned from them"),
        (asked, "no predicted condition that was measured", "check the names of conditions and contexts"),
    ):
        if not rows.any():
            raise ReadError(where, what, "some", mend)
    return train, asked


def _check_labels(labels: NDArray[np.str_], where: str) -> None:
    found = sorted(set(labels.tolist()))
    if not set(found) <= {TRAIN, TEST}:
        shown = ", ".join(map(repr, found[:8])) + (f", … {len(found) - 8} more" if len(found) > 8 else "")
        mend = "write the labels so, or leave out the cells of neither side"
        raise ReadError(where, f"the labels {shown}", f"{TRAIN!r} and {TEST!r}", mend)


def _unknown(predicted: set[tuple[str, str]], table: Responses) -> str:
    """Say which predicted names were not measured, each with the measured name nearest to it."""
    known = {name.lower(): name for name in table.condition.tolist()}
    names = sorted({name for _, name in predicted} - set(known.values()))
    told = []
    for name in names[:5]:
        close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
        told.append(f"{name!r}" + (f" (did you mean {known[close[0]]!r}?)" if close else ""))
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"; predicted but not measured: {', '.join(told)}{more}" if told else ""


def check_controls(table: Responses, where: str) -> None:
    """Warn of contexts with fewer than ten control cells, whose error stands in every effect alike and flatters.

    Raises
    ------
    ReadError
        A context has one control cell: how far its profile is off cannot be told at all.
    """
    for row in np.flatnonzero(table.is_control).tolist():
        n, place = int(table.n_cells[row]), f"{table.condition[row]!s} in context {table.context[row]!s}"
        if n < LEAST_CONTROLS:
            found = f"{n} control cell ({place})"
            raise ReadError(
                where, found, f"at least {LEAST_CONTROLS}", "give more control cells; every effect is of them"
            )
        if n < FEW_CONTROLS:
            told = f"{n} control cells ({place}): their error is in every effect alike, so scores flatter"
            tell(f"{where}: {told}; give at least {FEW_CONTROLS}")


def matched(keys: NDArray[np.str_], table: Responses, control: str) -> NDArray[np.str_]:
    """Return keys (row, 2) with what is measured under another order of its parts called as there: A+B for B+A.

    A name that was itself measured, or whose other order is predicted as well, stays as it is.
    """
    known = set(_pairs(table))
    said = {(str(one), str(name)) for one, name in keys}
    by_parts = {(one, parts): name for (one, name), parts in zip(_pairs(table), table.parts, strict=True) if parts}
    found = []
    for one, name in keys.tolist():
        other = by_parts.get((one, parts_of(name, control=(control,))), name)
        found.append((one, name if (one, name) in known or (one, other) in said else other))
    return np.array(found, np.str_).reshape(-1, 2)


def _pairs(table: Responses) -> list[tuple[str, str]]:
    return list(zip(table.context.tolist(), table.condition.tolist(), strict=True))


def keys_of(predictions: Any, condition: str, context: str | None, where: str) -> NDArray[np.str_]:
    """Return context and condition of each row of predictions (row, 2)."""
    names = column_of(predictions, condition, where)
    contexts = np.full(len(names), EVERYWHERE) if context is None else column_of(predictions, context, where)
    return np.column_stack([contexts, names])


def view_of(predictions: Any, keys: NDArray[np.str_], exam: Exam, where: str) -> Predicted:
    """Return predictions of the rows asked about, laid out as all others are.

    One row a condition is a profile; several are cells. A logarithm of any depth is brought to the measured one where
    the measurement is in counts; where it is log-normalised, predictions must be so as well, at the same depth.
    """
    x = sparse.csr_matrix(predictions.X)
    table, counts = exam.table, exam.table.cells.counts
    at = {(table.context[row], table.condition[row]): i for i, row in enumerate(exam.rows)}
    place = np.array([at.get((context, name), -1) for context, name in keys])
    kept = np.flatnonzero(place >= 0)
    x, place = x[kept], place[kept]
    n_cells = np.bincount(place, minlength=len(exam.rows))
    if (n_cells > 1).any():
        view = _of_cells(Cells(_as_measured(x, counts, where), place, counts), exam)
        if not counts:
            check_scale(view.profile, exam.measured.control, where)
        return view
    whole = len(x.data) > 0 and bool((x.data == np.floor(x.data)).all())
    profile = np.zeros((len(exam.rows), len(table.genes)))
    profile[place] = x.toarray()
    if not (whole and counts) and np.abs(x.data).max(initial=0) > LOG_MOST:
        mend = "give profiles as log1p of expression, or counts where the measurement is in counts"
        raise ReadError(where, f"values up to {np.abs(x.data).max(initial=0):.4g}", "profiles up to 20", mend)
    check_not_effects(profile, exam.measured.control, where)
    if not counts:
        check_scale(profile, exam.measured.control, where)
    else:
        shares = profile if whole else np.expm1(np.maximum(profile, 0))
        profile = np.log1p(DEPTH * shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-12))
    return exam.of_profiles(profile)


def _as_measured(x: sparse.csr_matrix, counts: bool, where: str) -> sparse.csr_matrix:
    """Return predicted cells in the kind of the measured ones; of logarithms, counts up to their depth are known."""
    predicted = are_counts(x, where)
    if predicted and not counts:
        raise ReadError(where, "counts", "log-normalised values, as measured", "normalise them as the measurement was")
    if counts and not predicted:
        x = x.astype(np.float64)
        x.data = np.expm1(x.data)
    return x


def _of_cells(cells: Cells, exam: Exam) -> Predicted:
    n = len(exam.rows)
    total, n_cells = sums(cells, n)
    view = Predicted(profiles_of(total, n_cells, cells.counts), jackknife(cells, total, n_cells))
    if exam.axes is None:
        return view
    control = exam.table.control[exam.rows]
    base = exam.table.cells.take(np.flatnonzero(np.isin(exam.table.cells.row, control)))
    both = Cells(
        sparse.csr_matrix(sparse.vstack([cells.x, base.x])), np.concatenate([cells.row, n + base.row]), cells.counts
    )
    rows: NDArray[np.intp] = np.arange(n)
    return dataclasses.replace(
        view,
        differential=differential_of(both, rows, n + control),
        space=Space(exam.axes.of_rows(cells, rows), exam.axes.bandwidths),
    )
