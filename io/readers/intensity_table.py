"""Imaging mass cytometry, CODEX and cyclic immunofluorescence: tables of segmented cells and their mean intensities."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from aivc_graph import names
from aivc_graph.errors import Faults, ReadError, unknown_name
from aivc_graph.io.intake import controls
from aivc_graph.io.intensity_files import (
    AREAS,
    CELLS,
    CENTRES,
    IMAGES,
    MARKERS,
    is_intensity_folder,
    is_intensity_table,
    layers_of_markers,
    marker_columns,
    named_markers,
    read_intensities,
    stated_um_per_pixel,
)
from aivc_graph.io.lattice import check_scale, stated_um_per_unit
from aivc_graph.io.matrices import count_table
from aivc_graph.io.options import PositionOptions
from aivc_graph.io.reading import READERS
from aivc_graph.io.rows import AbstractRowsReader, Rows, or_fault
from aivc_graph.io.tables import need_columns, numbers
from aivc_graph.tissue.doubt import doubt
from aivc_graph.tissue.naming import names_of
from aivc_graph.tissue.schema import spacing_um
from aivc_graph.tissue.section import add_observation

log = logging.getLogger(__name__)

AREA = "cell_area_um2"
# Two images of which the smaller lies in the other by more than this are in frames of their own.
_SAME_GROUND = 0.5
# Means of pixels are rarely whole, and seldom this small where they are.
_FEW = 20.0
# Fields of view of one scan mostly share its frame.
_ONE_FRAME = ("fov",)


@dataclass(frozen=True)
class IntensityRows(Rows):
    """Rows of cells with intensities, their scale if known, and the column that names their image."""

    um_per_unit: float | None = None
    image: str | None = None


@READERS.register(
    "intensity_table",
    expects="a CSV of cells with centroids and markers (MCMICRO, cytomapper, CODEX), or an MCMICRO or steinbock folder",
)
class IntensityTableReader(PositionOptions, AbstractRowsReader):
    """Reads mean intensities of markers as level ``cell``: values as they are, which no one takes for counts.

    Every numeric column that is no place, name, shape or annotation is a marker; blanks are dropped. A cell is called
    as the table names it, after its image as well where names repeat. Images whose cells lie on top of each other are
    in frames of their own: each is a section, by ``sections_by:``.

    Parameters
    ----------
    um_per_unit
        Microns a pixel, 1 in imaging mass cytometry; by default as the picture that MCMICRO measured states it.
    image
        Column that names the image; by default a usual one.
    markers
        The columns that are markers, where not all that look like one are.
    ignore
        Columns that are no markers.
    layer
        Which values, where the table has several of each marker: ``counts`` of ``counts_CD8`` and ``exprs_CD8``.
    area
        Column with areas [µm²]; by default the vendor's, which counts pixels.

    See `aivc_graph.io.options.PositionOptions` and `aivc_graph.io.rows.AbstractRowsReader` for the others.

    Raises
    ------
    ReadError
        A missing or damaged file, missing columns, no scale, several layers and none chosen, images on top of each
        other, a value that is no number.

    References
    ----------
    Schapiro et al. 2022, doi:10.1038/s41592-021-01308-y (MCMICRO); Windhager et al. 2023,
    doi:10.1038/s41596-023-00881-0 (steinbock).
    """

    level: Literal["cell", "patch"] | None = names.CELL
    area: str | None = AREA
    image: str | None = None
    markers: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    layer: str | None = None

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return is_intensity_table(path) if path.is_file() else is_intensity_folder(path)

    def rows(self, path: Path) -> IntensityRows:
        table, where = read_intensities(path), str(path)
        x, y = self._axes(table, where)
        xy = np.column_stack([numbers(table[name], where) for name in (x, y)])
        image = self._image(table, where)
        barcodes = _barcodes(table, image, where)
        um = stated_um_per_pixel(path)
        if self.um_per_unit is not None:
            check_scale(self.um_per_unit, um, "the registered picture", where)
            um = self.um_per_unit
        columns = self._columns(table, path, um, xy)
        values = np.column_stack([numbers(table[name], where) for name in columns.values()]).astype(np.float32)
        markers = count_table(values, barcodes, pd.DataFrame(index=pd.Index(list(columns))))
        rest = table.drop(columns=list(columns.values()))
        if (area := next((name for name in AREAS if name in table), None)) is not None:
            rest[AREA] = numbers(table[area], where) * (1.0 if um is None else um) ** 2
        return IntensityRows(pd.Index(barcodes), rest, xy, markers, where, um_per_unit=um, image=image)

    def scale(self, rows: Rows, path: Path) -> float | None:
        return rows.um_per_unit if isinstance(rows, IntensityRows) else self.um_per_unit

    def laid(self, rows: Rows, path: Path, section: str) -> Any:
        if isinstance(rows, IntensityRows):
            _check_one_image(rows)
        if self.area == AREA and AREA not in rows.columns:
            return super(IntensityTableReader, self.model_copy(update={"area": None})).laid(rows, path, section)
        return super().laid(rows, path, section)

    def measure(self, tissue: Any, level: str, table: Any, path: Path) -> None:
        control = controls(table.var_names)
        if control.any():
            log.info("%s: %s dropped as controls", path, ", ".join(table.var_names[control]))
        values = np.asarray(table.X)[:, ~control]
        if values.size and (values == np.floor(values)).all() and float(values.mean()) < _FEW:
            found = f"whole numbers alone, {values.mean():.3g} on average, as counts of molecules are"
            doubt(str(path), found, "mean intensities", "if they are counts, read them by `reader: plain_table`")
        add_observation(tissue, level, names.INTENSITY, table[:, ~control])

    def preview(self, path: Path) -> dict[str, Any] | None:
        layers = list(layers_of_markers(self._markers(read_intensities(path))))
        rows = self.model_copy(update={"layer": self.layer or next(iter(layers), None)}).rows(path)
        images = 1 if rows.image is None else int(rows.columns[rows.image].nunique())
        needs = [] if rows.um_per_unit is not None else ["um_per_unit: microns a pixel (1 in imaging mass cytometry)"]
        if layers and self.layer is None:
            needs.append(f"layer: {' or '.join(layers)}")
        if images > 1:
            needs.append(f"sections_by: {rows.image}, for each of the {images:,} images is in a frame of its own")
        if not needs:
            return None
        here = np.isfinite(rows.xy).all(axis=1)
        if rows.image is not None:
            here &= (rows.columns[rows.image] == rows.columns[rows.image].iloc[0]).to_numpy()
        return {
            "kind": "intensities",
            "rows": len(rows.barcodes),
            "markers": list(rows.counts.var_names),
            "columns": [str(name) for name in rows.columns if name],
            "spacing_in_units": round(spacing_um(rows.xy[here]), 4),
            "needs": needs,
        }

    def _axes(self, table: pd.DataFrame, where: str) -> tuple[str, str]:
        if self.x is not None and self.y is not None:
            need_columns(table, (self.x, self.y), where)
            return self.x, self.y
        for pair in CENTRES:
            if set(pair) <= set(table):
                need_columns(table, pair, where)
                return pair
        shown = ", ".join(map(str, table.columns[:8]))
        raise ReadError(where, f"columns {shown}", "X_centroid and Y_centroid, or others", "name them as `x:` and `y:`")

    def _image(self, table: pd.DataFrame, where: str) -> str | None:
        if self.image is not None:
            need_columns(table, (self.image,), where)
        return self.image or next((name for name in IMAGES if name in table), None)

    def _markers(self, table: pd.DataFrame) -> list[str]:
        """Return the columns that look like markers."""
        named = {*self.columns, *self.ignore, *self.keep, self.label, self.area, self.x, self.y, self.image}
        numeric = [str(name) for name, kind in zip(table.columns, table.dtypes, strict=True) if kind.kind in "iuf"]
        return [name for name in marker_columns(numeric) if name not in named]

    def _columns(self, table: pd.DataFrame, path: Path, um: float | None, xy: np.ndarray) -> dict[str, str]:
        """Return the columns of the markers, by marker; what else is missing is told with them."""
        where = str(path)
        if self.markers:
            need_columns(table, self.markers, where)
            return {name: name for name in self.markers}
        found = self._markers(table)
        if twice := sorted({name for name in found if found.count(name) > 1}):
            raise ReadError(where, f"marker {twice[0]!r} twice", "each once", "rename or drop one of them")
        listed = [name for name in named_markers(path) if name in found]
        if listed and (others := [name for name in found if name not in listed]):
            told = f"{len(others):,} columns that look like markers and are not listed: {', '.join(others[:6])}"
            mend = "they are left out; name what is wanted as `markers:`"
            doubt(f"{where} · {MARKERS}", told, "all markers", mend)
        layers = {} if listed else layers_of_markers(found)
        if self.layer is not None and self.layer not in layers:
            raise unknown_name(ReadError, where, "layer", self.layer, layers)
        if layers and self.layer is None:
            several = " and ".join(f"{len(columns)} of {layer!r}" for layer, columns in layers.items())
            first = next(iter(layers))
            faults = Faults(ReadError)
            faults.add(
                f"{where} · layer", f"several values of each marker: {several}", "one", f"choose: `layer: {first}`"
            )
            or_fault(faults, lambda: stated_um_per_unit(um, xy, path), 1.0)
            faults.raise_if_any()
        chosen = layers[self.layer] if self.layer is not None else {name: name for name in listed or found}
        if not chosen:
            raise ReadError(where, "no marker among the columns", "numeric columns", "name them as `markers:`")
        log.info("%s: %d markers: %s", where, len(chosen), ", ".join(chosen))
        return chosen


def _barcodes(table: pd.DataFrame, image: str | None, where: str) -> np.ndarray:
    """Return the names of the cells, after their image where they repeat."""
    first = str(table.columns[0])
    key = first if first == "" else next((name for name in CELLS if name in table), None)
    if key is None:
        raise ReadError(where, f"columns {', '.join(map(str, table.columns[:8]))}", f"one of {', '.join(CELLS)}")
    cells = pd.Series(names_of(table[key]), dtype=object)
    if cells.isna().any():
        raise ReadError(f"{where} · {key!r}", f"{int(cells.isna().sum()):,} rows without a name", "a name each")
    if cells.duplicated().any() and image is not None:
        cells = pd.Series(names_of(table[image]), dtype=object).astype(str) + "_" + cells
    if cells.duplicated().any():
        twice = cells[cells.duplicated()].iloc[0]
        mend = "are these several images? name the column that tells them apart as `image:`"
        raise ReadError(f"{where} · {key!r}", f"{twice!r} twice", "each cell once", mend)
    return cells.to_numpy()


def _check_one_image(rows: IntensityRows) -> None:
    """Refuse cells of several images that lie on top of each other."""
    if rows.image is None or rows.columns[rows.image].nunique() < 2:
        return
    images = names_of(rows.columns[rows.image])
    boxes = pd.DataFrame(rows.xy[:, :2]).groupby(images).agg(["min", "max"])
    low, high = boxes.xs("min", axis=1, level=1).to_numpy(), boxes.xs("max", axis=1, level=1).to_numpy()
    sides = np.clip(np.minimum(high[:, None], high[None]) - np.maximum(low[:, None], low[None]), 0, None)
    own = (high - low).prod(axis=1)
    share = sides.prod(axis=2) / np.maximum(np.minimum(own[:, None], own[None]), np.finfo(float).tiny)
    np.fill_diagonal(share, 0.0)
    by = f"`sections_by: {rows.image}`"
    if share.max() > _SAME_GROUND:
        a, b = (str(boxes.index[i]) for i in np.unravel_index(share.argmax(), share.shape))
        found = f"{len(boxes):,} images, of which {a!r} and {b!r} lie on top of each other"
        mend = f"read each as a section by {by}, or one by `keep: {{{rows.image}: {a}}}`"
        raise ReadError(rows.where, found, "one frame", mend)
    if rows.image not in _ONE_FRAME:
        found = f"{len(boxes):,} images (column {rows.image!r}) as one section"
        doubt(rows.where, found, "one piece of tissue a section", f"are they in one frame? if not, {by}")
