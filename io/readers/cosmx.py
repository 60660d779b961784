"""NanoString CosMx: cells, their counts, outlines and transcripts, as flat files."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import ReadError, unknown_name
from aivc_graph.io.cosmx_folder import (
    COUNTS,
    FIELDS,
    GLOBAL,
    LOCAL,
    METADATA,
    MOLECULES,
    POLYGONS,
    cell_column,
    flat_files,
    slide_of,
    um_per_pixel,
)
from aivc_graph.io.intake import check_totals
from aivc_graph.io.matrices import count_table
from aivc_graph.io.molecules import MoleculeColumns, lazy_molecules
from aivc_graph.io.outlines import polygons_of
from aivc_graph.io.reading import READERS
from aivc_graph.io.rows import AbstractRowsReader, Rows
from aivc_graph.io.tables import column_names, names_of, need_columns, numbers, read_frame
from aivc_graph.io.wide_table import read_wide
from aivc_graph.tissue.doubt import doubt, tell
from aivc_graph.tissue.frame import affine_of
from aivc_graph.tissue.section import add_outlines, add_transcripts, metadata_of

log = logging.getLogger(__name__)

UM_PER_PX = 0.12028
# Fields of the first instruments were 5,472 × 3,648 pixels of 0.18 µm; those since are 4,256 × 4,256 of 0.12028 µm.
FIELD_PX = 4256
AREA, SLIDE, NUMBER = "cell_area_um2", "slide", "cell_ID"
_CORNER = ("x_global_px", "y_global_px")
TOTALS = ("nCount_RNA", "totalcounts", "total_counts")
_SLIDES = ("slide_ID", "slide_ID_numeric", "slide_id", "Run_Tissue_name")
_TEXT = ("cell", "cell_id", "cell_ID", "cellID", "fov", *_SLIDES)


@dataclass(frozen=True)
class CosMxRows(Rows):
    """Rows of a CosMx slide, their pixel size, and the columns that name a cell in every file."""

    um_per_px: float = UM_PER_PX
    keys: tuple[str, ...] = ()


@READERS.register("cosmx", expects="a folder with CosMx flat files: …_exprMat_file.csv and …_metadata_file.csv (.gz)")
class CosMxReader(AbstractRowsReader):
    """Reads the flat files of a CosMx slide as level ``cell``, in its global pixels; all fields are one section.

    A cell is called after its field and its number, ``12_345``. Counts of number 0, which lie in no cell, are left out
    and told; negative and system controls are dropped.

    Parameters
    ----------
    slide
        What the names of the flat files begin with, where a folder holds those of several slides.
    um_per_unit
        Microns a global pixel; by default as the list of fields states it, or else 0.12028, which is told.
    outlines, transcripts
        Whether to add the outlines of cells and the transcripts, where the folder has them.

    See `aivc_graph.io.rows.AbstractRowsReader` for the others; `columns`, `keep` and `label` are those of the metadata.
    ``sections_by: slide_ID`` (or ``slide``, the beginning of the names) reads each slide as a section of its own.

    Raises
    ------
    ReadError
        A missing or damaged file, missing columns, several slides and none chosen, counts and metadata of other cells.

    References
    ----------
    He et al. 2022, doi:10.1038/s41587-022-01483-z (the platform).
    """

    platform: ClassVar[str] = "CosMx"
    level: Literal["cell", "patch"] | None = names.CELL
    area: str | None = AREA
    slide: str | None = None
    outlines: bool = True
    transcripts: bool = True

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return path.is_dir() and any({COUNTS, METADATA} & set(files) for files in flat_files(path).values())

    def preview(self, path: Path) -> dict[str, Any] | None:
        return None

    def read_by(self, path: Path, by: tuple[str, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for slide in flat_files(path) if self.slide is None else (self.slide,):
            parts = super(CosMxReader, self.model_copy(update={"slide": slide})).read_by(path, by)
            if twice := sorted(set(parts) & set(found)):
                mend = f"name `{SLIDE}` in `sections_by:` too"
                raise ReadError(f"{path} · {slide}", f"a second {twice[0]!r}", "a name each", mend)
            found |= parts
        return found

    def rows(self, path: Path) -> CosMxRows:
        slide, files = self._files(path)
        where = str(files[METADATA])
        cells = _table(files[METADATA], read_frame(files[METADATA], text=_TEXT))
        cells = cells[_in_cell(cells)].reset_index(drop=True)
        named, genes, counts = read_wide(files[COUNTS], _TEXT)
        named = _table(files[COUNTS], named)
        keys = _keys(cells, named, files[METADATA])
        assigned = _in_cell(named)
        _tell_unassigned(counts[~assigned], named[~assigned], files[COUNTS])
        rows = _named(named[assigned], keys, files[COUNTS])
        table = count_table(counts[assigned], rows, pd.DataFrame(index=genes))
        barcodes = pd.Index(_named(cells, keys, files[METADATA]))
        check_totals(table, pd.DataFrame(cells).set_axis(barcodes), TOTALS, str(files[COUNTS]))
        um_per_px = self._um_per_px(cells, files)
        cells = cells.assign(**{SLIDE: slide} | _areas(cells, um_per_px, where))
        return CosMxRows(barcodes, cells, _places(cells, where), table, where, um_per_px=um_per_px, keys=keys)

    def scale(self, rows: Rows, path: Path) -> float | None:
        return rows.um_per_px if isinstance(rows, CosMxRows) else self.um_per_unit

    def laid(self, rows: Rows, path: Path, section: str) -> Any:
        if self.area == AREA and AREA not in rows.columns:
            return self.model_copy(update={"area": None}).laid(rows, path, section)
        tissue = super().laid(rows, path, section)
        metadata_of(tissue)["platform"] = self.platform
        to_um = affine_of(tissue, names.CELL)
        if to_um is None or not isinstance(rows, CosMxRows) or not set(GLOBAL) <= set(rows.columns):
            return tissue
        _, files = self._files(path)
        if self.outlines and POLYGONS in files:
            corners = _table(files[POLYGONS], read_frame(files[POLYGONS], text=_TEXT))
            where = str(files[POLYGONS])
            need_columns(corners, _CORNER, where)
            xy = np.column_stack([numbers(corners[name], where) for name in _CORNER])
            add_outlines(tissue, names.CELL, *polygons_of(_named(corners, rows.keys, files[POLYGONS]), xy), to_um)
        if self.transcripts and MOLECULES in files:
            there = cell_column(column_names(files[MOLECULES]), files[MOLECULES])
            keys = tuple(there if name == NUMBER else name for name in rows.keys)
            genes = tissue.tables[names.table_name(names.CELL, names.RNA)].var_names
            molecules = lazy_molecules(
                files[MOLECULES], MoleculeColumns(*_CORNER, "target", keys, no_cell=("0",)), genes
            )
            add_transcripts(tissue, molecules, to_um)
        return tissue

    def _files(self, path: Path) -> tuple[str, dict[str, Path]]:
        """Return the slide and its flat files by kind."""
        slides = flat_files(path)
        if self.slide is not None and self.slide not in slides:
            raise unknown_name(ReadError, str(path), "slide", self.slide, slides)
        if self.slide is None and len(slides) > 1:
            mend = f"choose one by `slide: {next(iter(slides))}`, or read each as a section by `sections_by: {SLIDE}`"
            raise ReadError(str(path), f"flat files of {len(slides)} slides: {', '.join(slides)}", "one", mend)
        slide = self.slide or next(iter(slides), "")
        files = slides.get(slide, {})
        if missing := [kind for kind in (COUNTS, METADATA) if kind not in files]:
            there = ", ".join(sorted(file.name for file in path.iterdir())[:10]) or "nothing"
            expected = " and ".join(f"…_{kind}_file.csv" for kind in missing)
            raise ReadError(str(path), there, expected, "copy it from the same slide")
        begins = {kind: slide_of(files[kind]) for kind in (COUNTS, METADATA)}
        if len(set(begins.values())) > 1:
            found = f"{files[COUNTS].name} beside {files[METADATA].name}"
            doubt(str(path), found, "files of one slide", "are both of the same slide?")
        return slide, files

    def _um_per_px(self, cells: pd.DataFrame, files: dict[str, Path]) -> float:
        if self.um_per_unit is not None:
            return self.um_per_unit
        stated = um_per_pixel(files.get(FIELDS))
        if stated is not None:
            log.info("%s: %.5f µm a pixel", files[FIELDS], stated)
            return stated
        where = f"{files[METADATA]} · um_per_unit"
        widest = max((float(cells[name].max()) for name in LOCAL if name in cells), default=0.0)
        if widest > FIELD_PX:
            found = f"fields up to {widest:,.0f} pixels wide, as those of the first instruments (0.18 µm a pixel) were"
            doubt(where, found, f"{FIELD_PX:,} pixels of {UM_PER_PX} µm, which is taken", "give `um_per_unit: 0.18`")
        else:
            tell(f"{where}: no file states it; {UM_PER_PX} µm a pixel is taken")
        return UM_PER_PX


def _keys(cells: pd.DataFrame, counts: pd.DataFrame, path: Path) -> tuple[str, ...]:
    """Return the columns that name a cell: its field and number, or where those repeat what both tables share."""
    usual = ("fov", NUMBER)
    shared = set(cells.columns) & set(counts.columns)
    for keys in (usual, *((name, *usual) for name in _SLIDES), ("cell",), ("cell_id",)):
        if set(keys) <= shared and not cells.duplicated(list(keys)).any():
            return keys
    twice = cells[cells.duplicated(list(usual))].iloc[0]
    found = f"cell {twice[NUMBER]} of field {twice['fov']} twice"
    apart = ", ".join(name for name in _SLIDES if name in cells) or "none"
    mend = f"are these several slides (columns that tell: {apart})? The counts do not say of which: give those of one"
    raise ReadError(str(path), found, "each cell of a field once", mend)


def _table(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of cells whose columns of field and number are called as the vendor calls them now."""
    found = {"fov": next((c for c in ("fov", "FOV") if c in table), "fov"), NUMBER: cell_column(table.columns, path)}
    need_columns(table, tuple(found.values()), str(path))
    return table.rename(columns={there: name for name, there in found.items() if there != name})


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
        fields = len(set(named["fov"])) if "fov" in named else counts.shape[0]
        tell(f"{path}: {counts.sum():,.0f} counts of {fields:,} fields lie in no cell (cell_ID 0) and are left out")


def _places(cells: pd.DataFrame, where: str) -> np.ndarray:
    """Return positions ``(cell, 2)`` in global pixels, or of a single field in its own."""
    if set(GLOBAL) <= set(cells):
        return np.column_stack([numbers(cells[name], where) for name in GLOBAL])
    need_columns(cells, LOCAL, where)
    if cells["fov"].nunique() > 1:
        found = f"{', '.join(LOCAL)} of {cells['fov'].nunique():,} fields, each in a frame of its own"
        raise ReadError(where, found, " and ".join(GLOBAL), "take the metadata that has global positions")
    return np.column_stack([numbers(cells[name], where) for name in LOCAL])


def _areas(cells: pd.DataFrame, um_per_px: float, where: str) -> dict[str, np.ndarray]:
    """Return a column of the areas of cells [µm²], if known; one that is not takes the median of the others."""
    known = {"Area.um2": 1.0, "Area": um_per_px**2}
    name = next((name for name in known if name in cells), None)
    if name is None:
        return {}
    areas = numbers(cells[name], where) * known[name]
    return {AREA: np.where(np.isfinite(areas), areas, np.nanmedian(areas) if np.isfinite(areas).any() else np.nan)}
