"""10x Xenium: cells, their counts, transcripts, and an image if one is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from aivc_graph import names
from aivc_graph.errors import Faults, ReadError
from aivc_graph.io.decode_budget import read_bytes
from aivc_graph.io.intake import add_counts, check_totals, kept_rows, parted
from aivc_graph.io.labels import read_labels
from aivc_graph.io.lattice import check_scale
from aivc_graph.io.matrices import called, read_10x_h5, read_mtx_folder
from aivc_graph.io.molecules import MoleculeColumns, add_molecules
from aivc_graph.io.options import CountOptions, NodeOptions, Positive
from aivc_graph.io.outlines import read_outlines
from aivc_graph.io.reading import READERS, AbstractReader
from aivc_graph.io.tables import labels_of, need_columns, read_frame
from aivc_graph.io.xenium_pictures import open_picture, xenium_picture
from aivc_graph.io.xenium_zarr import ZARR_ENDING, cells_of_zarr, counts_of_zarr
from aivc_graph.tissue.frame import Matrix, scale_affine
from aivc_graph.tissue.naming import names_of
from aivc_graph.tissue.section import add_level, add_outlines, add_slide, new_section

# The packed Zarr stores come last: they say the same as the tables, which some deliveries lack.
_CELLS = ("cells.parquet", "cells.csv.gz", "cells.csv", "cells.zarr.zip")
_MATRIX = ("cell_feature_matrix.h5", "cell_feature_matrix", "cell_feature_matrix.zarr.zip")
_EXPERIMENT = "experiment.xenium"
_TOTALS = ("transcript_counts",)
_TRANSCRIPTS = ("transcripts.parquet", "transcripts.csv.gz", "transcripts.csv")
_BOUNDARIES = ("cell_boundaries.parquet", "cell_boundaries.csv.gz", "cell_boundaries.csv")
_VERTEX = ("vertex_x", "vertex_y")
_MOLECULE = MoleculeColumns("x_location", "y_location", "feature_name", ("cell_id",), "qv")
_NEEDED = ("cell_id", "x_centroid", "y_centroid")
_USUAL_CELL_AREA_UM2 = 80.0


@READERS.register(
    "xenium", expects="a folder with cells.parquet or cells.csv.gz, and cell_feature_matrix.h5 or its folder"
)
class XeniumReader(NodeOptions, CountOptions, AbstractReader):
    """Reads a Xenium output folder: level ``cell`` with RNA counts, positions in the vendor's own microns.

    Control probes and codewords are dropped, and counted in the log; proteins, which the vendor's matrix holds as
    scaled mean intensities, become the modality ``protein``, which is told. Transcripts stay on disk until somebody
    looks.

    Parameters
    ----------
    slide
        Image to add, relative to the folder: one of the morphology images (``morphology…``, or any in
        ``morphology_focus``, whose name alone stands for the first of them), which lie in the cells' frame, or an H&E.
    slide_affine
        CSV of a ``(3, 3)`` matrix from the pixels of `slide` (x, y, 1) to those of the morphology image, such as the
        vendor's ``*_he_imagealignment.csv``. Without it an H&E stays unplaced, to be registered.
    mpp
        Pixel size [µm] of the morphology image, if ``experiment.xenium`` does not state it.
    outlines, transcripts
        Whether to add the outlines of cells and the transcripts, where the folder has them.
    min_qv
        Least quality value of a transcript.
    labels
        CSV or Parquet of a label a cell, relative to the folder: ``cell_id`` or ``Barcode``, and ``label``, ``group``
        or ``Cluster``, as in the vendor's ``analysis/clustering``. A cell it does not name has no label.

    See `aivc_graph.io.options` for `keep` and `label`, of columns of the cells, `strip_suffix`, `duplicates` and
    `organism`.

    Raises
    ------
    ReadError
        A missing or damaged file, missing columns, an affine that is not a ``(3, 3)`` matrix, labels of other cells.

    References
    ----------
    Janesick et al. 2023, doi:10.1038/s41467-023-43458-x (the platform and its output).
    """

    slide: str | None = None
    slide_affine: str | None = None
    mpp: Positive | None = None
    outlines: bool = True
    transcripts: bool = True
    min_qv: float = Field(default=20.0, ge=0, allow_inf_nan=False)
    labels: str | None = None

    @classmethod
    def recognises(cls, path: Path) -> bool:
        try:
            whole = all(_first(path, names) is not None for names in (_CELLS, _MATRIX))
            return path.is_dir() and (whole or called(path, _EXPERIMENT) is not None)
        except ReadError:  # of several samples, which reading says
            return path.is_dir()

    def read(self, path: Path, section: str) -> Any:
        cells_path, matrix_path = _required(path, _CELLS), _required(path, _MATRIX)
        facts = _facts(path)
        tissue = new_section(section, platform="Xenium")
        cells, table = _cells(cells_path), _counts(matrix_path)
        check_totals(table, cells.set_index("cell_id"), _TOTALS, str(matrix_path))
        kept = kept_rows(cells, self.keep, False, str(cells_path))
        left_out, cells = cells["cell_id"][~kept], cells[kept]
        if self.label is not None:
            need_columns(cells, (self.label,), str(cells_path))
            cells = cells.assign(**{names.LABEL: labels_of(cells[self.label])})
        if self.labels is not None:
            cells[names.LABEL] = read_labels(path / self.labels, pd.Index(cells["cell_id"]), names.CELL)
        add_level(
            tissue,
            names.CELL,
            cells["cell_id"],
            cells[["x_centroid", "y_centroid"]],
            _radius(cells),
            np.eye(3),
            _extra(cells),
        )
        table = table[~table.obs_names.isin(left_out)]
        add_counts(tissue, names.CELL, table, str(matrix_path), **self.count_options)
        boundaries = _first(path, _BOUNDARIES)
        if self.outlines and boundaries is not None:
            add_outlines(tissue, names.CELL, *read_outlines(boundaries, "cell_id", _VERTEX), np.eye(3))
        molecules = _first(path, _TRANSCRIPTS)
        if self.transcripts and molecules is not None:
            add_molecules(tissue, molecules, _MOLECULE, np.eye(3), self.min_qv, whole=not self.keep)
        if self.slide is not None:
            self._add_slide(tissue, path, facts)
        return tissue

    def read_by(self, path: Path, by: tuple[str, ...]) -> dict[str, Any]:
        cells = _required(path, _CELLS)
        return parted(self, path, by, _cells(cells), str(cells))

    def _add_slide(self, tissue: Any, folder: Path, facts: dict[str, Any]) -> None:
        path = xenium_picture(folder, str(self.slide))
        is_morphology = path.name.startswith("morphology") or path.parent.name.startswith("morphology")
        if self.mpp is not None and not is_morphology and self.slide_affine is None:
            mend = "place the slide by `slide_affine:`, or by a `registration:` that is given its pixel size"
            raise ReadError(f"{path} · mpp", "no morphology image", "the one whose pixel size it is", mend)
        pixels, stated = open_picture(path, folder, self.mpp if is_morphology else None)
        if self.mpp is not None:
            check_scale(self.mpp, facts.get("pixel_size"), _EXPERIMENT, str(path))
        pixel_size = self.mpp or facts.get("pixel_size") or (stated if is_morphology else None)
        to_um: Matrix | None = None
        if is_morphology or self.slide_affine is not None:
            if pixel_size is None:
                raise ReadError(f"{folder} · pixel size", "none in experiment.xenium", "a number", "give it as `mpp:`")
            to_um = scale_affine(float(pixel_size))
        if self.slide_affine is not None and to_um is not None:
            to_um = to_um @ _affine(folder / self.slide_affine)
        add_slide(tissue, pixels, to_um)


def _counts(path: Path) -> Any:
    if path.suffix == ZARR_ENDING:
        return counts_of_zarr(path)
    return read_10x_h5(path) if path.is_file() else read_mtx_folder(path)


def _cells(path: Path) -> pd.DataFrame:
    cells = cells_of_zarr(path) if path.suffix == ZARR_ENDING else read_frame(path)
    faults = Faults(ReadError)
    for column in _NEEDED:
        if column not in cells:
            faults.add(str(path), f"columns {', '.join(map(str, cells.columns))}", f"a column {column!r}")
    faults.raise_if_any()
    return cells.assign(cell_id=names_of(cells["cell_id"]))


def _radius(cells: pd.DataFrame) -> np.ndarray:
    """Radius [µm] of the circle of a cell's area; a cell without area takes the median of the others."""
    area = cells["cell_area"].astype(float) if "cell_area" in cells else pd.Series(np.nan, index=cells.index)
    usual = area.median() if area.notna().any() else _USUAL_CELL_AREA_UM2
    return np.sqrt(area.fillna(usual).to_numpy() / np.pi)


def _extra(cells: pd.DataFrame) -> pd.DataFrame:
    keep = [c for c in cells.columns if c not in _NEEDED and not str(c).startswith(("Unnamed", "__index")) and str(c)]
    return cells[keep]


def _facts(folder: Path) -> dict[str, Any]:
    path = called(folder, _EXPERIMENT)
    if path is None:
        return {}
    try:
        facts = json.loads(read_bytes(path))
    except ValueError as error:
        raise ReadError(
            str(path), f"text that is not JSON ({error})", "the experiment's facts", "copy it again"
        ) from error
    return facts if isinstance(facts, dict) else {}


def _affine(path: Path) -> Matrix:
    try:
        matrix = np.loadtxt(path, delimiter=",", dtype=np.float64)
    except (OSError, ValueError) as error:
        raise ReadError(str(path), f"no matrix ({error})", "3 × 3 numbers, comma separated") from error
    if matrix.shape != (3, 3) or not np.allclose(matrix[2], [0, 0, 1]):
        raise ReadError(str(path), f"a matrix of shape {matrix.shape}", "3 × 3 numbers, the last row 0, 0, 1")
    return matrix


def _first(folder: Path, candidates: tuple[str, ...]) -> Path | None:
    return next((path for name in candidates if (path := called(folder, name)) is not None), None)


def _required(folder: Path, candidates: tuple[str, ...]) -> Path:
    found = _first(folder, candidates)
    if found is None:
        there = ", ".join(sorted(p.name for p in folder.iterdir())[:10]) or "nothing"
        raise ReadError(str(folder), there, " or ".join(candidates), "is the folder complete?")
    return found
