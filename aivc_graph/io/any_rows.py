"""Rows as anybody writes them: positions or none; counts, logarithms, effects, intensities, or types alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import Faults, ReadError
from aivc_graph.io.intake import left_out
from aivc_graph.io.rows import AbstractRowsReader, Rows
from aivc_graph.tissue.doubt import doubt
from aivc_graph.tissue.schema import check_counts, check_measured
from aivc_graph.tissue.section import add_cells, add_observation, new_section

DENSE = {"log": names.LOG_EXPRESSION, "effect": names.EFFECT, "intensity": names.INTENSITY}
TYPES = "types"
# Options that say nothing of rows without positions, or of values that are no counts: refused, not ignored.
OF_PLACES = ("um_per_unit", "diameter_um", "area")
OF_COUNTS = ("modality", "duplicates", "organism")
NO_PLACES = "of cells without positions say `dissociated: true`"


class NoPositions(ReadError):
    """A file does not say where its rows lie."""


class AbstractAnyRowsReader(AbstractRowsReader):
    """Reads what anybody writes: positions or none; counts, logarithms, effects, intensities, or types alone.

    Parameters
    ----------
    dissociated
        The rows have no positions: cells taken out of their tissue, or conditions of a screen.
    modality
        Whose counts they are.
    values
        ``counts``; ``log``, log-normalised expression; ``effect``, what was measured against an untreated control, one
        row a condition: z-scores, log ratios, fitness, NaN where nothing was measured; ``intensity``, amounts that
        are neither counts nor logarithms: mean intensities of markers, counts divided by a cell's volume, profiles of
        images. They stay as they are, and models take their arcsinh; or ``types``, where nothing is known of a row but
        its label.

    See `AbstractRowsReader` for the others.
    """

    dissociated: bool = False
    modality: Literal["rna", "protein", "atac"] = "rna"
    values: Literal["counts", "log", "effect", "intensity", "types"] = "counts"

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.dissociated and self.level == names.PATCH:
            raise ValueError("found `level: patch` of a dissociated sample, which has cells alone; leave it out")
        without = {f"a dissociated sample has no `{one}:`": self.dissociated for one in OF_PLACES}
        without |= {f"`values: {self.values}` have no `{one}:`": self.values != "counts" for one in OF_COUNTS}
        for (said, applies), name in zip(without.items(), (*OF_PLACES, *OF_COUNTS), strict=True):
            if applies and name in self.model_fields_set:
                raise ValueError(f"{said}; leave it out")
        if self.values == TYPES and self.label is None:
            raise ValueError("`values: types` without a `label:`; name the column that holds the type of each row")
        return self

    def section_of(self, rows: Rows, path: Path, section: str) -> Any:
        if not self.dissociated:
            if len(rows.xy) and not np.isfinite(rows.xy).any():
                raise NoPositions(rows.where, "no row with a position", "positions", NO_PLACES)
            return self.laid(rows, path, section)
        tissue = new_section(section)
        add_cells(tissue, rows.barcodes, self.annotation(rows))
        self._measured(tissue, names.CELL, rows, path)
        return tissue

    def _measured(self, tissue: Any, level: str, rows: Rows, path: Path) -> None:
        if self.values == "counts":
            faults = Faults(ReadError)
            check_counts(rows.counts, str(path), faults, layer_hint(rows.layers))
            faults.raise_if_any()
        super()._measured(tissue, level, rows, path)

    def measure(self, tissue: Any, level: str, table: Any, path: Path) -> None:
        if self.values == TYPES:
            return
        if self.values != "counts":
            add_dense(tissue, level, DENSE[self.values], table, path, strip_suffix=self.strip_suffix)
        elif self.modality == names.RNA:
            super().measure(tissue, level, table, path)
        else:
            refuse_twice(table, path)
            add_observation(tissue, level, self.modality, table, strip_suffix=self.strip_suffix)

    def wants(self, rows: Rows, path: Path) -> list[str]:
        faults = Faults(ReadError)
        if self.values == "counts":
            check_counts(rows.counts, str(path), faults, layer_hint(rows.layers))
        return [f"counts: {message.partition(': ')[2]}" for message in faults.messages]

    def preview(self, path: Path) -> dict[str, Any] | None:
        try:
            return super().preview(path)
        except NoPositions as error:
            seen = super(AbstractAnyRowsReader, self.model_copy(update={"dissociated": True})).preview(path)
            needs = [
                f"dissociated: true, for no row says where it lies ({error})",
                "values: log, effect or intensity, if they are no counts",
            ]
            return {**(seen or {}), "needs": needs}


def no_positions(rows: int) -> NDArray[np.float64]:
    """Return the positions ``(row, 2)`` of rows that have none."""
    return np.full((rows, 2), np.nan)


def add_dense(tissue: Any, level: str, modality: str, table: Any, path: Path, *, strip_suffix: bool = False) -> None:
    """Hang logarithms, effects or intensities on a level: dense float32, as they are; refuse what can be none.

    Control probes are left out, and of logarithms what is annotation by its name or of another kind than genes.
    """
    faults = Faults(ReadError)
    refuse_twice(table, path)
    left = left_out(table, genes_alone=modality == names.LOG_EXPRESSION)
    if left.any():
        first = ", ".join(table.var_names[left][:3])
        doubt(str(path), f"{left.sum():,} of {table.n_vars:,} features left out (first {first})", "genes")
    table = table[:, ~left].copy()
    table.X = np.asarray(table.X.toarray() if sparse.issparse(table.X) else table.X, dtype=np.float32)
    check_measured(table, modality, str(path), faults)
    faults.raise_if_any()
    add_observation(tissue, level, modality, table, strip_suffix=strip_suffix)


def refuse_twice(table: Any, path: Path) -> None:
    """Raise a `ReadError` if a feature stands in a table twice, whose values cannot be added up."""
    twice = table.var_names[table.var_names.duplicated()]
    if len(twice):
        raise ReadError(f"{path} · var", f"feature {twice[0]!r} twice", "each once", "rename or drop one of them")


def layer_hint(layers: tuple[str, ...]) -> str:
    """Say what a user of `layer:` and `values:` can do about values that are no counts."""
    logs = "of logarithms say `values: log`, of counts by volume or mean intensities `values: intensity`"
    return (
        f"name the layer that holds raw counts as `layer:` (layers: {', '.join(layers)}), or {logs}" if layers else logs
    )
