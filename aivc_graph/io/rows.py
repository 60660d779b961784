"""Files that anybody writes: one row a cell or patch, with annotation, positions and counts, in any layout."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from aivc_graph import names
from aivc_graph.errors import Faults, ReadError
from aivc_graph.io.genes import Duplicates
from aivc_graph.io.intake import Keep, add_counts, check_one_ground, check_one_plane, kept_rows
from aivc_graph.io.lattice import stated_radius, stated_um_per_unit
from aivc_graph.io.reading import AbstractReader
from aivc_graph.io.tables import labels_of, need_columns, numbers
from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.schema import spacing_um
from aivc_graph.tissue.section import add_level, new_section

# Columns that say how high a node lies, in the unit of its positions.
HEIGHTS = ("z", "Z", "center_z", "z_centroid", "global_z", "z_location")
_SHOWN = 40
_NEEDS = (
    "level: cell or patch",
    "um_per_unit: microns a unit of the positions (1 if they are microns)",
    "diameter_um: of a node, or area: the column that holds it",
)


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
        Positions ``(node, 2)``, or with a height ``(node, 3)``, in the file's unit.
    counts
        AnnData ``(row, feature)``, joined to the nodes by name.
    where
        Names the place of the annotation in messages.
    """

    barcodes: pd.Index
    columns: pd.DataFrame
    xy: NDArray[np.float64]
    counts: Any
    where: str

    def heights(self) -> NDArray[np.float64]:
        """Return how high each node lies ``(node,)`` in the file's unit; 0 where nothing says so."""
        if self.xy.shape[1] > 2:
            return self.xy[:, 2]
        column = next((name for name in HEIGHTS if name in self.columns), None)
        flat = np.zeros(len(self.xy))
        return flat if column is None else pd.to_numeric(self.columns[column], errors="coerce").to_numpy(np.float64)


class AbstractRowsReader(AbstractReader):
    """Reads a file of rows as one level; its fields are the options that all such readers share.

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
    label
        Column that becomes the label.
    columns
        Columns kept as annotation.
    keep
        Columns and the value, or one of the values, they must have, such as ``{Valid: 1}``; other rows are left out.
    only_in_tissue
        Leave out rows whose column ``in_tissue`` is 0.
    strip_suffix
        Join counts and positions without their ``-1``.
    duplicates, organism
        See `aivc_graph.io.genes.name_genes`.
    """

    level: Literal["cell", "patch"] | None = None
    um_per_unit: float | None = None
    diameter_um: float | None = None
    area: str | None = None
    label: str | None = None
    columns: tuple[str, ...] = ()
    keep: Keep = Field(default_factory=dict)
    only_in_tissue: bool = True
    strip_suffix: bool = False
    duplicates: Duplicates = "sum"
    organism: str | None = None

    @abstractmethod
    def rows(self, path: Path) -> Rows:
        """Return what `path` holds."""

    def scale(self, rows: Rows, path: Path) -> float | None:
        """Return the microns a unit of the positions as the user or the file says, `None` if neither does."""
        return self.um_per_unit

    def read(self, path: Path, section: str) -> Any:
        return self.laid(self.rows(path), path, section)

    def laid(self, rows: Rows, path: Path, section: str) -> Any:
        """Return `rows` as a section, with what was asked of their annotation."""
        need_columns(rows.columns, tuple(c for c in (*self.columns, self.label, self.area) if c), rows.where)
        um_per_unit, radius = self._sizes(rows, path)
        kept = kept_rows(rows.columns, self.keep, self.only_in_tissue, rows.where)
        columns, xy, barcodes = rows.columns[kept], rows.xy[kept, :2], rows.barcodes[kept]
        annotation = columns[list(self.columns)].copy()
        if self.label is not None or names.LABEL in annotation:
            annotation[names.LABEL] = labels_of(columns[self.label or names.LABEL])
        tissue = new_section(section)
        level = str(self.level)
        add_level(tissue, level, barcodes, xy, radius[kept], scale_affine(um_per_unit), annotation)
        check_one_ground(barcodes, columns, xy, rows.where)
        check_one_plane(rows.heights()[kept] * um_per_unit, rows.where)
        left_out = rows.barcodes[~kept]
        self.measure(tissue, level, rows.counts[~rows.counts.obs_names.isin(left_out)], path)
        return tissue

    def measure(self, tissue: Any, level: str, table: Any, path: Path) -> None:
        """Add what was measured of the rows that were kept."""
        named, strip = self.duplicates, self.strip_suffix
        add_counts(tissue, level, table, str(path), duplicates=named, organism=self.organism, strip_suffix=strip)

    def preview(self, path: Path) -> dict[str, Any] | None:
        rows = self.rows(path)
        finite = np.isfinite(rows.xy[:, :2]).all(axis=1)
        return {
            "kind": "rows",
            "rows": len(rows.barcodes),
            "features": rows.counts.n_vars,
            "columns": list(map(str, rows.columns[:_SHOWN])),
            "spacing_in_units": round(spacing_um(rows.xy[finite, :2]), 4),
            "needs": [*_NEEDS],
        }

    def _sizes(self, rows: Rows, path: Path) -> tuple[float, NDArray[np.float64]]:
        """Return the microns a unit and the radii in units; every option that is missing is named at once."""
        faults = Faults(ReadError)
        if self.level is None:
            faults.add(f"{path} · level", "none", "cell or patch", "say what a row is by `level:`")
        um_per_unit = _or_fault(faults, lambda: stated_um_per_unit(self.scale(rows, path), rows.xy[:, :2], path), 1.0)
        area = None if self.area is None else numbers(rows.columns[self.area], rows.where)
        radius = _or_fault(faults, lambda: stated_radius(um_per_unit, self.diameter_um, area, path), 1.0)
        faults.raise_if_any()
        return um_per_unit, np.broadcast_to(radius, (len(rows.xy),))


def _or_fault(faults: Faults, ask: Callable[[], Any], otherwise: float) -> Any:
    try:
        return ask()
    except ReadError as error:
        faults.messages.append(str(error))
        return otherwise
