"""Files of rows: one row a cell or patch, with annotation, counts and, as a rule, positions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.errors import Faults, ReadError
from aivc_graph.io.ground import check_one_ground, check_one_plane, section_column
from aivc_graph.io.intake import SUMS, add_counts, check_totals, kept_rows, section_names
from aivc_graph.io.lattice import SPOT_UM, check_pitch, stated_radius, stated_um_per_unit
from aivc_graph.io.options import CountOptions, NodeOptions, Positive
from aivc_graph.io.reading import AbstractReader
from aivc_graph.io.tables import labels_of, need_columns, numbers
from aivc_graph.tissue.doubt import doubt
from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.parting import cut_to_nodes
from aivc_graph.tissue.schema import spacing_um
from aivc_graph.tissue.section import add_level, add_observation, new_section

# Columns that say how high a node lies, in the unit of its positions.
HEIGHTS = ("z", "Z", "center_z", "z_centroid", "global_z", "z_location")
_SHOWN = 40
_NEEDS = {
    "level": "level: cell or patch",
    "um_per_unit": "um_per_unit: microns per unit of the positions (1 if they are microns)",
    "diameter_um": "diameter_um: of a node, or area: the column that holds it",
}


@dataclass(frozen=True)
class Rows:
    """What a file says, before anybody said what a row is.

    Parameters
    ----------
    barcodes
        Names of the nodes.
    columns
        Annotation, one row a node, in their order.
    xy
        Positions ``(node, 2)``, or with a height ``(node, 3)``, in the file's unit; NaN where there are none.
    counts
        AnnData ``(row, feature)``, joined to the nodes by name.
    where
        Names the place of the annotation in messages.
    layers
        What else the reader's ``layer:`` could name, for messages.
    beside
        Tables of other modalities of the same nodes, by modality.
    symbols
        What the reader's ``symbols:`` could name to call genes by symbols, where they are called by ids.
    """

    barcodes: pd.Index
    columns: pd.DataFrame
    xy: NDArray[np.float64]
    counts: Any
    where: str
    layers: tuple[str, ...] = ()
    beside: Mapping[str, Any] = field(default_factory=dict)
    symbols: tuple[str, ...] = ()

    def heights(self) -> NDArray[np.float64]:
        """Return how high each node lies ``(node,)`` in the file's unit; 0 where nothing says so."""
        if self.xy.shape[1] > 2:
            return self.xy[:, 2]
        column = next((name for name in HEIGHTS if name in self.columns), None)
        flat = np.zeros(len(self.xy))
        return flat if column is None else pd.to_numeric(self.columns[column], errors="coerce").to_numpy(np.float64)

    def take(self, kept: NDArray[np.bool_]) -> Rows:
        """Return some of the nodes; of tables in their order the same rows, of others those of no node left out."""
        if kept.all():
            return self

        def of(table: Any) -> Any:
            if table.n_obs == len(kept) and bool((table.obs_names == self.barcodes).all()):
                return table[kept]
            return table[~table.obs_names.isin(self.barcodes[~kept].difference(self.barcodes[kept]))]

        some = {modality: of(table) for modality, table in self.beside.items()}
        rows = replace(self, barcodes=self.barcodes[kept], columns=self.columns[kept], xy=self.xy[kept])
        return replace(rows, counts=of(self.counts), beside=some)


class AbstractTableReader(NodeOptions, AbstractReader):
    """Reads a file of rows as sections; its fields are the options that all such readers share.

    Parameters
    ----------
    columns
        Columns kept as annotation.

    See `aivc_graph.io.options.NodeOptions` for `keep` and `label`.
    """

    columns: tuple[str, ...] = ()

    @abstractmethod
    def rows(self, path: Path) -> Rows:
        """Return what `path` holds."""

    @abstractmethod
    def section_of(self, rows: Rows, path: Path, section: str) -> Any:
        """Return the rows that were kept as a section."""

    def read(self, path: Path, section: str) -> Any:
        return self.section_of(self._named_rows(path), path, section)

    def read_by(self, path: Path, by: tuple[str, ...]) -> dict[str, Any]:
        rows = self._named_rows(path, by)
        name = section_names(rows.columns, by, rows.where)
        parts = {one: self.section_of(rows.take(name == one), path, one) for one in sorted(set(name))}
        for part in parts.values():
            cut_to_nodes(part)
        return parts

    def annotation(self, rows: Rows) -> pd.DataFrame:
        """Return the columns that were asked for, one of them the label."""
        annotation = rows.columns[list(dict.fromkeys(self.columns))].copy()
        if self.label is not None or names.LABEL in annotation:
            annotation[names.LABEL] = labels_of(rows.columns[self.label or names.LABEL])
            if len(annotation) and annotation[names.LABEL].isna().all():
                doubt(f"{rows.where} · {self.label or names.LABEL}", "no row with a label", "some", "check `label:`")
        return annotation

    def preview(self, path: Path) -> dict[str, Any] | None:
        own = type(self).model_fields
        needs = [text for name, text in _NEEDS.items() if name in own and own[name].default is None]
        if not needs:
            return None
        rows = self.rows(path)
        finite: NDArray[np.bool_] = np.asarray(np.isfinite(rows.xy[:, :2]).all(axis=1))
        placed = rows.take(finite)
        if finite.any() and not finite.all():
            doubt(rows.where, f"{(~finite).sum():,} rows without a position", "all placed", "drop or mend these rows")
        check_one_ground(placed.barcodes, placed.columns, placed.xy[:, :2], rows.where)
        return {
            "kind": "rows",
            "rows": len(rows.barcodes),
            "features": rows.counts.n_vars,
            **({"beside": {name: table.n_vars for name, table in rows.beside.items()}} if rows.beside else {}),
            "columns": list(map(str, rows.columns[:_SHOWN])),
            "spacing_in_units": round(spacing_um(placed.xy[:, :2]), 4) if finite.any() else "no positions",
            "needs": [*needs, *self.wants(rows, path)],
        }

    def wants(self, rows: Rows, path: Path) -> list[str]:
        """Say what else only the user can tell, by what the values are."""
        return []

    @property
    def named(self) -> tuple[str, ...]:
        """The columns that the options name."""
        return (*self.keep, *self.columns, *([self.label] if self.label else []))

    def _named_rows(self, path: Path, by: tuple[str, ...] = ()) -> Rows:
        """Return the rows that are kept of a file that has all the columns that are named."""
        rows = self.rows(path)
        need_columns(rows.columns, (*by, *self.named), rows.where)
        return self._kept(rows)

    def _kept(self, rows: Rows) -> Rows:
        return rows.take(kept_rows(rows.columns, self.keep, False, rows.where))


class AbstractRowsReader(CountOptions, AbstractTableReader):
    """Reads a file of rows as one level of nodes that have positions.

    Parameters
    ----------
    level
        What a row is.
    um_per_unit
        Microns a unit of the positions.
    diameter_um
        Diameter of every node [µm], if there is no `area`.
    area
        Column with areas [µm²].
    only_in_tissue
        Leave out rows whose column ``in_tissue`` is 0.

    See `AbstractTableReader` and `aivc_graph.io.options` for the others.
    """

    level: Literal["cell", "patch"] | None = None
    um_per_unit: Positive | None = None
    diameter_um: Positive | None = None
    area: str | None = None
    only_in_tissue: bool = True

    def scale(self, rows: Rows, path: Path) -> float | None:
        """Return the microns per unit of the positions as the user or the file says, `None` if neither does."""
        return self.um_per_unit

    def section_of(self, rows: Rows, path: Path, section: str) -> Any:
        return self.laid(rows, path, section)

    def laid(self, rows: Rows, path: Path, section: str) -> Any:
        """Return `rows` as a section of nodes with positions."""
        self._check_names(rows)
        um_per_unit, radius = self._sizes(rows, path)
        tissue, level, xy = new_section(section), str(self.level), rows.xy[:, :2]
        add_level(tissue, level, rows.barcodes, xy, radius, scale_affine(um_per_unit), self.annotation(rows))
        check_one_ground(rows.barcodes, rows.columns, xy, rows.where)
        check_one_plane(rows.heights() * um_per_unit, rows.where)
        check_totals(rows.counts, rows.columns.set_axis(rows.barcodes), SUMS, rows.where)
        self._measured(tissue, level, rows, path)
        return tissue

    def measure(self, tissue: Any, level: str, table: Any, path: Path) -> None:
        """Add what was measured of the rows that were kept."""
        add_counts(tissue, level, table, str(path), **self.count_options)

    @property
    def named(self) -> tuple[str, ...]:
        asked = self.area if "area" in self.model_fields_set else None  # a vendor's own may be missing
        return (*super().named, *([asked] if asked else []))

    def _kept(self, rows: Rows) -> Rows:
        return rows.take(kept_rows(rows.columns, self.keep, self.only_in_tissue, rows.where))

    def _measured(self, tissue: Any, level: str, rows: Rows, path: Path) -> None:
        self.measure(tissue, level, rows.counts, path)
        for modality, table in rows.beside.items():
            add_observation(tissue, level, modality, table, strip_suffix=self.strip_suffix)

    def _check_names(self, rows: Rows) -> None:
        """Refuse names that repeat where a column tells the sections apart within which they do not."""
        if rows.barcodes.has_duplicates and (column := section_column(rows.barcodes, rows.columns)) is not None:
            found = f"{rows.barcodes.duplicated().sum():,} names of rows twice, none within one {column!r}"
            mend = f"read each as a section of its own by `sections_by: {column}`"
            raise ReadError(rows.where, found, "unique names in a section", mend)

    def _sizes(self, rows: Rows, path: Path) -> tuple[float, NDArray[np.float64]]:
        """Return the microns per unit and the radii in units; every option that is missing is named at once."""
        faults = Faults(ReadError)
        if self.level is None:
            faults.add(f"{path} · level", "none", "cell or patch", "say what a row is by `level:`")
        um_per_unit = or_fault(faults, lambda: stated_um_per_unit(self.scale(rows, path), rows.xy[:, :2], path), 1.0)
        area = None if self.area is None else numbers(rows.columns[self.area], rows.where)
        radius = or_fault(faults, lambda: stated_radius(um_per_unit, self.diameter_um, area, path), 1.0)
        faults.raise_if_any()
        if self.level == names.PATCH and self.diameter_um == SPOT_UM:
            check_pitch(rows.xy[:, :2] * um_per_unit, str(path))
        return um_per_unit, np.broadcast_to(radius, (len(rows.xy),))


def or_fault(faults: Faults, ask: Callable[[], Any], otherwise: float) -> Any:
    """Return what `ask` returns; if that is a fault, note it among `faults` and return `otherwise`."""
    try:
        return ask()
    except ReadError as error:
        faults.messages.append(str(error))
        return otherwise
