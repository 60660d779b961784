"""NanoString CosMx: cells, their counts, outlines and transcripts, as flat files."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import ReadError
from aivc_graph.io.flat_files import CELLS, COUNTS, SLIDE, AbstractFlatFilesReader, Files, FlatRows, known_areas
from aivc_graph.io.intake import check_totals
from aivc_graph.io.lattice import check_scale
from aivc_graph.io.matrices import count_table
from aivc_graph.io.molecules import MoleculeColumns, add_molecules
from aivc_graph.io.outlines import polygons_of
from aivc_graph.io.reading import READERS
from aivc_graph.io.tables import column_names, need_columns, numbers, read_frame
from aivc_graph.io.wide_table import read_wide
from aivc_graph.tissue.doubt import doubt, tell
from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.naming import names_of
from aivc_graph.tissue.section import add_outlines

log = logging.getLogger(__name__)

UM_PER_PX = 0.12028
# Fields of the first instruments were 5,472 × 3,648 pixels of 0.18 µm; those since are 4,256 × 4,256 of 0.12028 µm.
FIELD_PX = 4256
FIELDS, POLYGONS, MOLECULES = "fields", "polygons", "molecules"
FOV, NUMBER = "fov", "cell_ID"
GLOBAL, LOCAL = ("CenterX_global_px", "CenterY_global_px"), ("CenterX_local_px", "CenterY_local_px")
_CORNER = ("x_global_px", "y_global_px")
_NUMBERS = (NUMBER, "cellID", "cell_id")
_TOTALS = ("nCount_RNA", "totalcounts", "total_counts")
_SLIDES = ("slide_ID", "slide_ID_numeric", "slide_id", "Run_Tissue_name")
_TEXT = ("cell", FOV, "FOV", *_NUMBERS, *_SLIDES)
_UNITS = ("px", "mm")
_LEAST_GENES = 3


@READERS.register("cosmx", expects="a folder with CosMx flat files: …_exprMat_file.csv and …_metadata_file.csv (.gz)")
class CosMxReader(AbstractFlatFilesReader):
    """Reads the flat files of a CosMx slide as level ``cell``, in its global pixels; all fields are one section.

    A cell is called after its field and its number, ``12_345``. Counts of number 0, which lie in no cell, are left out
    and told; negative and system controls are dropped.

    Parameters
    ----------
    um_per_unit
        Microns a global pixel; by default as the list of fields states it, or else 0.12028, which is told.

    See `aivc_graph.io.flat_files.AbstractFlatFilesReader` for the others.

    Raises
    ------
    ReadError
        A missing or damaged file, missing columns, several slides and none chosen, counts and metadata of other cells.

    References
    ----------
    He et al. 2022, doi:10.1038/s41587-022-01483-z (the platform).
    """

    platform: ClassVar[str] = "CosMx"
    vendor_names: ClassVar[dict[str, str]] = {COUNTS: "…_exprMat_file.csv", CELLS: "…_metadata_file.csv"}
    endings: ClassVar[re.Pattern[str]] = re.compile(
        r"(?:^|[-_. ])(?:expr_?mat|metadata|fov_?positions|polygons|tx)(?:[-_]?file)?(?:\.[a-z]+)+$", re.IGNORECASE
    )

    @classmethod
    def kind_of(cls, columns: list[str], path: Path) -> str | None:
        lower = {name.lower() for name in columns}
        if FOV not in lower:
            return None
        if lower.isdisjoint(name.lower() for name in _NUMBERS):
            return FIELDS if not lower.isdisjoint({"x_global_px", "x_global_mm", "x_px", "x_mm"}) else None
        if "target" in lower:
            return MOLECULES
        if set(GLOBAL) <= set(columns) or set(LOCAL) <= set(columns):
            return CELLS
        if {"x_global_px", "y_global_px"} <= lower or {"x_local_px", "y_local_px"} <= lower:
            return POLYGONS
        return COUNTS if NUMBER in columns and len(columns) >= len((FOV, NUMBER)) + _LEAST_GENES else None

    def slide_rows(self, slide: str, files: Files) -> FlatRows:
        where = str(files[CELLS])
        cells = _called_so(read_frame(files[CELLS], text=_TEXT), files[CELLS])
        cells = cells[_in_cell(cells)].reset_index(drop=True)
        named, genes, counts = read_wide(files[COUNTS], _TEXT)
        named = _called_so(named, files[COUNTS])
        keys = _keys(cells, named, files[CELLS])
        assigned = _in_cell(named)
        _tell_unassigned(counts[~assigned], named[~assigned], files[COUNTS])
        rows = _named(named[assigned], keys, files[COUNTS])
        table = count_table(counts[assigned], rows, pd.DataFrame(index=genes))
        barcodes = pd.Index(_named(cells, keys, files[CELLS]))
        check_totals(table, cells.set_axis(barcodes), _TOTALS, str(files[COUNTS]))
        um = self._um_per_px(cells, files)
        check_scale(um, _um_by_areas(cells), "Area.um2 beside Area", where)
        cells = cells.assign(**{SLIDE: slide} | _areas(cells, um, where))
        xy = _places(cells, where)
        return FlatRows(barcodes, cells, xy, table, where, um_per_unit=um, files=files, keys=keys)

    def complete(self, tissue: Any, rows: FlatRows) -> None:
        if not set(GLOBAL) <= set(rows.columns):
            return
        files, to_um = rows.files, scale_affine(rows.um_per_unit)
        if self.outlines and POLYGONS in files:
            corners = _called_so(read_frame(files[POLYGONS], text=_TEXT), files[POLYGONS])
            where = str(files[POLYGONS])
            need_columns(corners, _CORNER, where)
            xy = np.column_stack([numbers(corners[name], where) for name in _CORNER])
            add_outlines(tissue, names.CELL, *polygons_of(_named(corners, rows.keys, files[POLYGONS]), xy), to_um)
        if self.transcripts and MOLECULES in files:
            there = _number_column(column_names(files[MOLECULES]), files[MOLECULES])
            keys = tuple(there if name == NUMBER else name for name in rows.keys)
            columns = MoleculeColumns(*_CORNER, "target", keys, no_cell=("0",))
            add_molecules(tissue, files[MOLECULES], columns, to_um, whole=not self.keep)

    def _um_per_px(self, cells: pd.DataFrame, files: Files) -> float:
        stated = _stated_um_per_px(files[FIELDS]) if FIELDS in files else None
        if self.um_per_unit is not None:
            check_scale(self.um_per_unit, stated, files[FIELDS].name if stated else "", str(files[CELLS]))
            return self.um_per_unit
        if stated is not None:
            log.info("%s: %.5f µm a pixel", files[FIELDS], stated)
            return stated
        where = f"{files[CELLS]} · um_per_unit"
        widest = max((float(cells[name].max()) for name in LOCAL if name in cells), default=0.0)
        if widest > FIELD_PX:
            found = f"fields up to {widest:,.0f} pixels wide, as those of the first instruments (0.18 µm a pixel) were"
            doubt(where, found, f"{FIELD_PX:,} pixels of {UM_PER_PX} µm, which is taken", "give `um_per_unit: 0.18`")
        else:
            tell(f"{where}: no file states it; {UM_PER_PX} µm a pixel is taken")
        return UM_PER_PX


def _stated_um_per_px(fields: Path) -> float | None:
    """Return the microns a pixel of a list of fields that gives their places in both units, or `None`."""
    table = read_frame(fields)
    lower = {str(name).lower(): name for name in table.columns}
    for axis in "xy":
        px, mm = (next((lower[n] for n in (f"{axis}_global_{u}", f"{axis}_{u}") if n in lower), None) for u in _UNITS)
        if px is None or mm is None:
            continue
        pixels, length = (numbers(table[name], str(fields)) for name in (px, mm))
        whole = np.isfinite(pixels) & np.isfinite(length)
        if whole.any() and np.ptp(pixels[whole]) > 0:
            return float(abs(np.polyfit(pixels[whole] - pixels[whole].mean(), length[whole], 1)[0]) * 1000)
    return None


def _number_column(columns: Iterable[str], path: Path) -> str:
    """Return which of `columns` is the number of a cell in its field."""
    known = list(map(str, columns))
    found = next((name for name in _NUMBERS if name in known), None)
    if found is None:
        raise ReadError(str(path), f"columns {', '.join(known[:8])}", f"one of {', '.join(_NUMBERS)}")
    return found


def _called_so(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return a table of cells whose columns of field and number are called as the vendor calls them now."""
    fov = next((name for name in (FOV, FOV.upper()) if name in table), FOV)
    number = _number_column(table.columns, path)
    need_columns(table, (fov, number), str(path))
    return table.rename(columns={fov: FOV, number: NUMBER})


def _keys(cells: pd.DataFrame, counts: pd.DataFrame, path: Path) -> tuple[str, ...]:
    """Return the columns that name a cell: its field and number, or where those repeat what both tables share."""
    usual = (FOV, NUMBER)
    shared = set(cells.columns) & set(counts.columns)
    for keys in (usual, *((name, *usual) for name in _SLIDES), ("cell",), ("cell_id",)):
        if set(keys) <= shared and not cells.duplicated(list(keys)).any():
            return keys
    twice = cells[cells.duplicated(list(usual))].iloc[0]
    found = f"cell {twice[NUMBER]} of field {twice[FOV]} twice"
    apart = ", ".join(name for name in _SLIDES if name in cells) or "none"
    mend = f"are these several slides (columns that tell: {apart})? The counts do not say of which: give those of one"
    raise ReadError(str(path), found, "each cell of a field once", mend)


def _named(table: pd.DataFrame, keys: tuple[str, ...], path: Path) -> np.ndarray:
    """Return the names of the cells of the rows."""
    need_columns(table, keys, str(path))
    parts = [names_of(table[name]) for name in keys]
    empty = np.logical_or.reduce([pd.isna(part) for part in parts])
    if empty.any():
        found = f"{empty.sum():,} rows without {' or '.join(keys)}, first row {np.flatnonzero(empty)[0] + 1}"
        raise ReadError(str(path), found, "a name each", "is the file whole?")
    return np.array(["_".join(row) for row in zip(*parts, strict=True)], dtype=object)


def _in_cell(table: pd.DataFrame) -> np.ndarray:
    """Return which rows ``(row,)`` are of a cell; number 0 is what lies between cells."""
    return np.asarray(names_of(table[NUMBER]) != "0", dtype=bool)


def _tell_unassigned(counts: sparse.csr_matrix, named: pd.DataFrame, path: Path) -> None:
    if counts.shape[0]:
        fields = named[FOV].nunique()
        tell(f"{path}: {counts.sum():,.0f} counts of {fields:,} fields lie in no cell (cell_ID 0) and are left out")


def _places(cells: pd.DataFrame, where: str) -> np.ndarray:
    """Return positions ``(cell, 2)`` in global pixels, or of a single field in its own."""
    if set(GLOBAL) <= set(cells):
        return np.column_stack([numbers(cells[name], where) for name in GLOBAL])
    need_columns(cells, LOCAL, where)
    if cells[FOV].nunique() > 1:
        found = f"{', '.join(LOCAL)} of {cells[FOV].nunique():,} fields, each in a frame of its own"
        raise ReadError(where, found, " and ".join(GLOBAL), "take the metadata that has global positions")
    return np.column_stack([numbers(cells[name], where) for name in LOCAL])


def _um_by_areas(cells: pd.DataFrame) -> float | None:
    """Return the microns a pixel by areas that stand there in both units, or `None`."""
    if not {"Area", "Area.um2"} <= set(cells):
        return None
    ratio = pd.to_numeric(cells["Area.um2"], errors="coerce") / pd.to_numeric(cells["Area"], errors="coerce")
    ratio = ratio[np.isfinite(ratio) & (ratio > 0)]
    return float(np.sqrt(ratio.median())) if len(ratio) else None


def _areas(cells: pd.DataFrame, um_per_px: float, where: str) -> dict[str, np.ndarray]:
    known = {"Area.um2": 1.0, "Area": um_per_px**2}
    name = next((name for name in known if name in cells), None)
    return {} if name is None else known_areas(numbers(cells[name], where) * known[name])
