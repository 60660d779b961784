"""Vizgen MERSCOPE: cells, their counts, outlines and transcripts, and a mosaic picture."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from aivc_graph import names
from aivc_graph.errors import ReadError
from aivc_graph.io.flat_files import CELLS, COUNTS, SLIDE, AbstractFlatFilesReader, Files, FlatRows, known_areas
from aivc_graph.io.intake import check_totals
from aivc_graph.io.matrices import count_table
from aivc_graph.io.merscope_outlines import HDF5_FILES, HDF5_FOLDER, PLANE, merscope_outlines, one_plane
from aivc_graph.io.molecules import MoleculeColumns, add_molecules
from aivc_graph.io.options import Positive
from aivc_graph.io.reading import READERS
from aivc_graph.io.slides import open_slide
from aivc_graph.io.tables import column_names, numbers, read_frame
from aivc_graph.io.wide_table import read_wide
from aivc_graph.tissue.doubt import tell
from aivc_graph.tissue.frame import Matrix, scale_affine
from aivc_graph.tissue.naming import names_of
from aivc_graph.tissue.section import add_outlines, add_slide

POLYGONS, MOLECULES = "polygons", "molecules"
TRANSFORM = "micron_to_mosaic_pixel_transform.csv"
_CENTRE = ("center_x", "center_y")
_MOLECULE = MoleculeColumns("global_x", "global_y", "gene", ("cell_id",))
_LEAST_GENES = 3
THICK_UM = 10.0


@READERS.register("merscope", expects="a folder with MERSCOPE's cell_by_gene.csv and cell_metadata.csv (.gz)")
class MerscopeReader(AbstractFlatFilesReader):
    """Reads a region of a MERSCOPE run as level ``cell``, in its own microns.

    Cells keep their names of up to 19 digits; blanks are dropped. The size of a cell is that of its outline, or else
    its volume over the thickness of the tissue, which is told. Transcripts are those of all planes.

    Parameters
    ----------
    plane
        Plane of focus (``ZIndex``) whose outlines are taken; by default the middle one of those there are, which is
        told. A cell that is not in it is outlined in the plane nearest to it.
    thickness_um
        Thickness of the tissue [µm], where no outline tells how large a cell is.
    picture
        Mosaic to add as the slide, such as ``images/mosaic_DAPI_z3.tif``; placed by
        ``micron_to_mosaic_pixel_transform.csv`` beside it.

    See `aivc_graph.io.flat_files.AbstractFlatFilesReader` for the others.

    Raises
    ------
    ReadError
        A missing or damaged file, missing columns, several slides and none chosen, no such plane, counts and cells of
        different regions.

    References
    ----------
    Chen et al. 2015, doi:10.1126/science.aaa6090 (MERFISH).
    """

    platform: ClassVar[str] = "MERSCOPE"
    vendor_names: ClassVar[dict[str, str]] = {COUNTS: "cell_by_gene.csv", CELLS: "cell_metadata.csv"}
    endings: ClassVar[re.Pattern[str]] = re.compile(
        r"(?:^|[-_. ])(?:cell_by_gene|cell_metadata|detected_transcripts|cell_boundaries|\w+_space)(?:\.[a-z]+)+$"
    )
    um_per_unit: Positive | None = 1.0
    plane: int | None = Field(default=None, ge=0)
    thickness_um: Positive = THICK_UM
    picture: str | None = None

    @classmethod
    def kind_of(cls, columns: list[str], path: Path) -> str | None:
        if {"global_x", "global_y", "gene"} <= set(columns):
            return MOLECULES
        if {"EntityID", PLANE} <= set(columns):
            return POLYGONS
        if set(_CENTRE) <= set(columns) and {"volume", "fov"} & set(columns):
            return CELLS
        return COUNTS if "cell_by_gene" in path.name and len(columns) > _LEAST_GENES else None

    def slide_rows(self, slide: str, files: Files) -> FlatRows:
        where = str(files[CELLS])
        cells = read_frame(files[CELLS], text=tuple(column_names(files[CELLS])[:1]))
        named, genes, counts = read_wide(files[COUNTS], tuple(column_names(files[COUNTS])[:1]))
        barcodes = pd.Index(_cells_of(cells, files[CELLS]))
        table = count_table(counts, _cells_of(named, files[COUNTS]), pd.DataFrame(index=genes))
        check_totals(table, cells.set_axis(barcodes), ("transcript_count",), str(files[COUNTS]))
        xy = np.column_stack([numbers(cells[name], where) for name in _CENTRE])
        outlines = self._outlines(files)
        cells = cells.assign(**{SLIDE: slide} | self._areas(cells, barcodes, outlines, where))
        um = self.um_per_unit or 1.0
        return FlatRows(barcodes, cells, xy, table, where, um_per_unit=um, files=files, outlines=outlines)

    def complete(self, tissue: Any, rows: FlatRows) -> None:
        to_um = scale_affine(rows.um_per_unit)
        if self.outlines and rows.outlines is not None:
            add_outlines(tissue, names.CELL, rows.outlines["cell"], rows.outlines["outline"], to_um)
        if self.transcripts and MOLECULES in rows.files:
            add_molecules(tissue, rows.files[MOLECULES], _MOLECULE, to_um, whole=not self.keep)
        if self.picture is not None:
            path = rows.files[CELLS].parent / self.picture
            pixels, _ = open_slide(path)
            add_slide(tissue, pixels, to_um @ _pixels_to_um(path.parent / TRANSFORM))

    def _outlines(self, files: Files) -> pd.DataFrame | None:
        """Return one outline a cell, if there are any."""
        folder = files[CELLS].parent / HDF5_FOLDER
        path = files.get(POLYGONS, folder)
        if path == folder and not any(folder.glob(HDF5_FILES)):
            return None
        outlines = merscope_outlines(path)
        planes = np.unique(outlines["plane"])
        plane = self.plane if self.plane is not None else int(planes[len(planes) // 2]) if len(planes) else 0
        if self.plane is not None and plane not in planes:
            raise ReadError(f"{path} · plane", str(plane), f"one of {', '.join(map(str, planes))}")
        chosen = one_plane(outlines, plane)
        if len(planes) > 1:
            elsewhere = int((chosen["plane"] != plane).sum())
            text = f"{path}: outlines of plane {plane} are taken, of the {len(planes)} from {planes[0]} to {planes[-1]}"
            tell(f"{text}; {elsewhere:,} of {len(chosen):,} cells, which are not in it, as in the plane nearest to it")
        return chosen

    def _areas(
        self, cells: pd.DataFrame, barcodes: pd.Index, outlines: pd.DataFrame | None, where: str
    ) -> dict[str, np.ndarray]:
        """Return a column of the areas of cells [µm²], from their outlines or else their volumes, if there are any."""
        if outlines is not None:
            import shapely

            areas = pd.Series(shapely.area(outlines["outline"].to_numpy()), index=outlines["cell"].to_numpy())
            return known_areas(areas.reindex(barcodes).to_numpy() * (self.um_per_unit or 1.0) ** 2)
        if "volume" not in cells:
            return {}
        tell(f"{where}: no outlines; the size of a cell is its volume over {self.thickness_um:g} µm of tissue")
        return known_areas(numbers(cells["volume"], where) / self.thickness_um)


def _cells_of(table: pd.DataFrame, path: Path) -> np.ndarray:
    """Return the names of the cells, which the first column holds, whatever it is called."""
    cells = names_of(table.iloc[:, 0])
    empty = pd.isna(cells)
    if empty.any():
        found = f"{empty.sum():,} rows without a name, first row {empty.argmax() + 1}"
        raise ReadError(str(path), found, "a name each")
    return cells


def _pixels_to_um(path: Path) -> Matrix:
    try:
        matrix = np.loadtxt(path, dtype=np.float64)
    except (OSError, ValueError) as error:
        raise ReadError(str(path), f"no matrix ({error})", "3 × 3 numbers, from microns to pixels") from error
    if matrix.shape != (3, 3) or abs(np.linalg.det(matrix)) < np.finfo(float).tiny:
        raise ReadError(str(path), f"a matrix of shape {matrix.shape}", "3 × 3 numbers that can be inverted")
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)
