"""Where Space Ranger puts what: matrices, positions of spots, scale factors; in all its versions."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from aivc_graph.errors import ReadError
from aivc_graph.io.decode_budget import read_bytes
from aivc_graph.io.matrices import MTX, called, read_10x_h5, read_mtx_folder
from aivc_graph.tissue.doubt import doubt

log = logging.getLogger(__name__)

_POSITIONS = ("parquet", "csv", "txt")
_MATRICES = ("filtered_feature_bc_matrix", "raw_feature_bc_matrix", "raw_probe_bc_matrix")
CELLS_FOLDER = "segmented_outputs"
CELL_OUTLINES = "cell_segmentations.geojson"
CELL_MATRICES = ("filtered_feature_cell_matrix", "raw_feature_cell_matrix")


def is_outs(folder: Path) -> bool:
    """Say whether `folder` holds positions of spots, bins, or a matrix as Space Ranger writes them."""
    if not folder.is_dir() or has_cells(folder):
        return False
    spatial = spatial_folder(folder)
    try:
        return (
            _find_positions(spatial) is not None
            or (folder / "binned_outputs").is_dir()
            or (spatial != folder and called(spatial, "scalefactors_json.json") is not None)
            or any(_matrix(folder, name) is not None for name in _MATRICES)
        )
    except ReadError:  # it is one, and reading it will say what is wrong
        return True


def has_cells(folder: Path) -> bool:
    """Say whether `folder` holds segmented cells, their outlines or their matrix, as Space Ranger 4 writes them."""
    if not folder.is_dir():
        return False
    wanted = (CELL_OUTLINES, *(f"{name}{ending}" for name in CELL_MATRICES for ending in (".h5", "")))
    try:
        return any(called(folder, name) is not None for name in wanted)
    except ReadError:  # of several samples
        return True


def outs_of(path: Path) -> Path:
    """Return the folder that holds ``spatial`` and the matrices; of several HD bin sizes the user chooses one."""
    outs = path if is_outs(path) else path / "outs"
    bins = sorted((outs / "binned_outputs").glob("square_*um"))
    if not (outs / "binned_outputs").is_dir() or _find_positions(spatial_folder(outs)) is not None:
        return outs
    if len(bins) != 1:
        found = ", ".join(p.name for p in bins) or "none"
        cells = f", or of the segmented cells, {CELLS_FOLDER}" if (outs / CELLS_FOLDER).is_dir() else ""
        mend = f"give the path of one of them{cells}"
        raise ReadError(str(outs / "binned_outputs"), f"bin folders {found}", "one", mend)
    return bins[0]


def spatial_folder(outs: Path) -> Path:
    """Return the folder of positions, pictures and scale factors: ``spatial``, or the run's own if it is flat."""
    found = called(outs, "spatial")
    found = outs if found is None or not found.is_dir() else found
    return found / "spatial" if (found / "spatial").is_dir() else found


def _find_positions(spatial: Path) -> Path | None:
    return next(iter(_all_positions(spatial)), None)


def _all_positions(spatial: Path) -> list[Path]:
    found = (called(spatial, f"tissue_positions{tail}.{end}") for end in _POSITIONS for tail in ("", "_list"))
    return [path for path in found if path is not None]


def positions_file(outs: Path) -> Path:
    """Return the list of spots; raise `ReadError` if there is none."""
    found = _find_positions(spatial_folder(outs))
    if found is None:
        expected = "tissue_positions.csv, tissue_positions_list.csv or tissue_positions.parquet"
        there = ", ".join(sorted(p.name for p in spatial_folder(outs).iterdir())[:10]) or "nothing"
        raise ReadError(
            str(outs / "spatial"), f"no positions of spots but {there}", expected, "copy `spatial` of the same run"
        )
    if others := [path.name for path in _all_positions(spatial_folder(outs)) if path != found]:
        mend = "are they of one run? Remove the one that is not"
        doubt(str(found.parent), f"{', '.join(others)} beside {found.name}, which is taken", "one list of spots", mend)
    return found


def scale_factors(outs: Path) -> dict[str, float]:
    """Return the scale factors, none if the file is absent; raise `ReadError` if it is damaged."""
    path = called(spatial_folder(outs), "scalefactors_json.json")
    if path is None:
        return {}
    try:
        found = json.loads(read_bytes(path))
        factors = {key: float(value) for key, value in found.items()}
    except (ValueError, TypeError, AttributeError, OSError, EOFError) as error:
        raise ReadError(str(path), f"a damaged file ({error})", "a number a key", "copy it again") from error
    for key, value in factors.items():
        if not (np.isfinite(value) and value > 0):
            raise ReadError(f"{path} · {key}", f"{value:g}", "a positive number")
    return factors


def _matrix(outs: Path, name: str) -> Path | None:
    found = called(outs, f"{name}.h5") or called(outs, name)
    if found is not None and found.is_file() and found.suffix not in (".h5",):
        kind = "packed by gzip" if found.suffix == ".gz" else "in a format of its own"
        raise ReadError(str(found), f"a matrix {kind}", f"{name}.h5 or its folder", f"unpack {found.name}")
    return found


def read_counts(outs: Path, wanted: str | None, matrices: tuple[str, ...] = _MATRICES[:2]) -> Any:
    """Return the one of `matrices` that is ``filtered`` or ``raw`` (`wanted`), by default the first there is."""
    for name in matrices:
        path = _matrix(outs, name)
        if path is not None and (wanted is None or name.startswith(wanted)):
            log.info("%s: counts from %s", outs, path.name)
            return read_10x_h5(path) if path.is_file() else read_mtx_folder(path)
    if wanted is None and called(outs, MTX) is not None:
        log.info("%s: counts from %s beside the positions", outs, MTX)
        return read_mtx_folder(outs)
    chosen = [name for name in matrices if wanted is None or name.startswith(wanted)]
    there = ", ".join(sorted(p.name for p in outs.iterdir())[:10])
    alone = ", or read places and picture alone by `counts: none`" if matrices == _MATRICES[:2] else ""
    mend = f"copy it from the run and give it this name{alone}"
    raise ReadError(str(outs), f"no such matrix but {there}", f"{' or '.join(chosen)}, .h5 or folder", mend)
