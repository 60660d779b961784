"""10x Visium HD by segmented cells: outlines, counts, and the tissue picture, as Space Ranger 4 writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from aivc_graph import names
from aivc_graph.errors import ReadError
from aivc_graph.io.cell_segmentations import CELL_ID, read_cell_segmentations
from aivc_graph.io.intake import add_counts, kept_rows
from aivc_graph.io.labels import read_labels
from aivc_graph.io.lattice import check_scale, stated_um_per_unit
from aivc_graph.io.matrices import called
from aivc_graph.io.options import CountOptions, NodeOptions, Positive
from aivc_graph.io.reading import READERS, AbstractReader
from aivc_graph.io.spaceranger_folder import (
    CELL_MATRICES,
    CELL_OUTLINES,
    CELLS_FOLDER,
    has_cells,
    is_outs,
    read_counts,
    scale_factors,
)
from aivc_graph.io.tables import labels_of, need_columns
from aivc_graph.io.tissue_picture import Picture, add_full_picture, add_tissue_picture
from aivc_graph.tissue.doubt import tell
from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.section import add_level, add_outlines, new_section


@READERS.register("spaceranger_cells", expects=f"Space Ranger's `{CELLS_FOLDER}`: {CELL_OUTLINES} and a cell matrix")
class SpaceRangerCellsReader(NodeOptions, CountOptions, AbstractReader):
    """Reads the segmented cells of Visium HD as level ``cell``, in pixels of the full-resolution image.

    A cell lies at the centre of its outline and is as large as it. Outlines without a row of counts are left out, which
    is told.

    Parameters
    ----------
    counts
        Matrix to take; by default the filtered one, or the raw one where that is all there is.
    um_per_unit
        Microns a full-resolution pixel; by default ``microns_per_pixel`` of the run.
    image
        Tissue picture to add as the slide; by default the finer one there is.
    slide
        Full-resolution image whose pixels the outlines count, to add in place of the picture.
    labels
        CSV or Parquet of a label a cell, relative to the folder, such as
        ``analysis/clustering/gene_expression_graphclust/clusters.csv``.

    See `aivc_graph.io.options` for `keep` and `label`, whose columns are the properties of the outlines, and for
    `strip_suffix`, `duplicates` and `organism`.

    Raises
    ------
    ReadError
        A missing or damaged file, no scale, outlines and counts of different cells.
    """

    counts: Literal["filtered", "raw"] | None = None
    um_per_unit: Positive | None = None
    image: Picture | None = None
    slide: Path | None = None
    labels: str | None = None

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return has_cells(path) or (has_cells(path / CELLS_FOLDER) and not is_outs(path))

    def read(self, path: Path, section: str) -> Any:
        folder = path if has_cells(path) else path / CELLS_FOLDER
        table = read_counts(folder, self.counts, CELL_MATRICES)
        cells, outlines = self._cells(folder, table)
        factors = scale_factors(folder)
        stated = factors.get("microns_per_pixel") if self.um_per_unit is None else self.um_per_unit
        xy, radius = _circles(outlines)
        um_per_pixel = stated_um_per_unit(stated, xy, folder)
        check_scale(um_per_pixel, factors.get("microns_per_pixel"), "scalefactors_json.json", str(folder))
        tissue, to_um = new_section(section, platform="Visium HD"), scale_affine(um_per_pixel)
        kept = kept_rows(cells, self.keep, False, str(folder / CELL_OUTLINES))
        left_out, columns = cells.index[~kept], cells[kept].drop(columns=CELL_ID)
        if self.label is not None:
            need_columns(columns, (self.label,), str(folder / CELL_OUTLINES))
            columns[names.LABEL] = labels_of(columns[self.label])
        if self.labels is not None:
            columns[names.LABEL] = read_labels(folder / self.labels, columns.index, names.CELL)
        add_level(tissue, names.CELL, columns.index, xy[kept], radius[kept], to_um, columns)
        add_outlines(tissue, names.CELL, columns.index, outlines[kept], to_um)
        rows = table[~table.obs_names.isin(left_out)]
        add_counts(tissue, names.CELL, rows, str(folder), **self.count_options)
        if self.slide is not None:
            add_full_picture(tissue, names.CELL, folder, self.slide, factors, um_per_pixel)
        else:
            add_tissue_picture(tissue, names.CELL, folder, factors, um_per_pixel, self.image)
        return tissue

    def _cells(self, folder: Path, table: Any) -> tuple[pd.DataFrame, np.ndarray]:
        """Return the properties, by name, and the outlines of the cells that have counts."""
        path = called(folder, CELL_OUTLINES)
        if path is None:
            there = ", ".join(sorted(p.name for p in folder.iterdir())[:10]) or "nothing"
            raise ReadError(str(folder), there, CELL_OUTLINES, "copy it from the same run")
        outlines, cells = read_cell_segmentations(path)
        cells = cells.set_axis(pd.Index([_barcode(number, path) for number in cells[CELL_ID]]))
        bare = [names.str.replace(r"-\d+$", "", regex=True) for names in (cells.index, table.obs_names)]
        counted = bare[0].isin(bare[1])
        if counted.any() and not counted.all():
            tell(f"{path}: {(~counted).sum():,} of {len(cells):,} outlines without a row of counts are left out")
        chosen = counted if counted.any() else np.ones(len(cells), bool)
        return cells[chosen], outlines[chosen]


def _barcode(number: str, path: Path) -> str:
    """Return the name that a cell of this number has in the matrix."""
    if not number.isdigit():
        raise ReadError(f"{path} · {CELL_ID}", repr(number), "the number of a cell")
    return f"cellid_{int(number):09d}-1"


def _circles(outlines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the centres ``(cell, 2)`` of outlines and the radii of circles as large as they are."""
    import shapely

    centres = shapely.get_coordinates(shapely.centroid(outlines))
    return centres, np.sqrt(shapely.area(outlines) / np.pi)
