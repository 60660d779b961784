"""Where Space Ranger puts what: matrices, positions of spots, scale factors; in all its versions."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from aivc_graph.errors import ReadError
from aivc_graph.io.decode_budget import read_bytes
from aivc_graph.io.matrices import read_10x_h5, read_mtx_folder

log = logging.getLogger(__name__)

_POSITIONS = ("parquet", "csv", "txt")
_MATRICES = ("filtered_feature_bc_matrix", "raw_feature_bc_matrix", "raw_probe_bc_matrix")


def is_outs(folder: Path) -> bool:
    """Say whether `folder` holds positions of spots, bins, or a matrix as Space Ranger writes them."""
    if not folder.is_dir():
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


def outs_of(path: Path) -> Path:
    """Return the folder that holds ``spatial`` and the matrices; of several HD bin sizes the user chooses one."""
    outs = path if is_outs(path) else path / "outs"
    bins = sorted((outs / "binned_outputs").glob("square_*um"))
    if not (outs / "binned_outputs").is_dir() or _find_positions(spatial_folder(outs)) is not None:
        return outs
    if len(bins) != 1:
        found = ", ".join(p.name for p in bins) or "none"
        raise ReadError(str(outs / "binned_outputs"), f"bin folders {found}", "one", "give the path of one of them")
    return bins[0]


def spatial_folder(outs: Path) -> Path:
    """Return the folder of positions, pictures and scale factors: ``spatial``, or the run's own if it is flat."""
    return outs / "spatial" if (outs / "spatial").is_dir() else outs


def called(folder: Path, name: str) -> Path | None:
    """Return what is called `name` in `folder`, packed by gzip or not, with a sample's name before it or not.

    Raises
    ------
    ReadError
        Several samples have one there.
    """
    for ending in ("", ".gz"):
        if (folder / f"{name}{ending}").exists():
            return folder / f"{name}{ending}"
    found = sorted(p for ending in ("", ".gz") for mark in "_-." for p in folder.glob(f"*{mark}{name}{ending}"))
    if len(found) > 1:
        there = ", ".join(p.name for p in found[:4])
        raise ReadError(
            str(folder), f"{len(found)} of them: {there}", f"one {name}", "put each sample in a folder of its own"
        )
    return found[0] if found else None


def _find_positions(spatial: Path) -> Path | None:
    found = (called(spatial, f"tissue_positions{tail}.{end}") for end in _POSITIONS for tail in ("", "_list"))
    return next((path for path in found if path is not None), None)


def positions_file(outs: Path) -> Path:
    """Return the list of spots; raise `ReadError` if there is none."""
    found = _find_positions(spatial_folder(outs))
    if found is None:
        expected = "tissue_positions.csv, tissue_positions_list.csv or tissue_positions.parquet"
        there = ", ".join(sorted(p.name for p in spatial_folder(outs).iterdir())[:10]) or "nothing"
        raise ReadError(
            str(outs / "spatial"), f"no positions of spots but {there}", expected, "copy `spatial` of the same run"
        )
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


def read_counts(outs: Path, wanted: str | None) -> Any:
    """Return the matrix ``filtered`` or ``raw`` (`wanted`), by default the first there is, as AnnData."""
    for name in _MATRICES[:2]:
        path = _matrix(outs, name)
        if path is not None and (wanted is None or name.startswith(wanted)):
            log.info("%s: counts from %s", outs, path.name)
            return read_10x_h5(path) if path.is_file() else read_mtx_folder(path)
    if (outs / "filtered_feature_cell_matrix.h5").is_file():
        mend = "give the folder of a bin size instead: binned_outputs/square_008um"
        raise ReadError(str(outs), "segmented cells, which are not read", "spots or square bins", mend)
    kind = f"{wanted}_feature_bc_matrix" if wanted else "filtered_ or raw_feature_bc_matrix"
    there = ", ".join(sorted(p.name for p in outs.iterdir())[:10])
    raise ReadError(
        str(outs),
        f"no such matrix but {there}",
        f"{kind}, .h5 or folder",
        "copy it from the run and give it this name, or read places and picture alone by `counts: none`",
    )
