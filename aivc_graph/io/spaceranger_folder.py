"""Where Space Ranger puts what: matrices, positions of spots, scale factors; in all its versions."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from aivc_graph.errors import ReadError
from aivc_graph.io.matrices import read_10x_h5, read_mtx_folder

log = logging.getLogger(__name__)

_POSITIONS = ("parquet", "csv", "txt")
_MATRICES = ("filtered_feature_bc_matrix", "raw_feature_bc_matrix", "raw_probe_bc_matrix")


def is_outs(folder: Path) -> bool:
    """Say whether `folder` holds positions of spots, bins, or a matrix as Space Ranger writes them."""
    if not folder.is_dir():
        return False
    spatial = spatial_folder(folder)
    return (
        _find_positions(spatial) is not None
        or (folder / "binned_outputs").is_dir()
        or (spatial != folder and (spatial / "scalefactors_json.json").is_file())
        or any(_matrix(folder, name) is not None for name in _MATRICES)
    )


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


def _find_positions(spatial: Path) -> Path | None:
    found = [spatial / f"tissue_positions{tail}.{end}" for end in _POSITIONS for tail in ("", "_list")]
    return next((path for path in found if path.is_file()), None)


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
    path = spatial_folder(outs) / "scalefactors_json.json"
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text())
        factors = {key: float(value) for key, value in found.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ReadError(str(path), f"a damaged file ({error})", "a number a key", "copy it again") from error
    for key, value in factors.items():
        if not (np.isfinite(value) and value > 0):
            raise ReadError(f"{path} · {key}", f"{value:g}", "a positive number")
    return factors


def _matrix(outs: Path, name: str) -> Path | None:
    found = outs / f"{name}.h5"
    return found if found.is_file() else outs / name if (outs / name).is_dir() else None


def read_counts(outs: Path, wanted: str | None) -> Any:
    """Return the matrix ``filtered`` or ``raw`` (`wanted`), by default the first there is, as AnnData."""
    for name in _MATRICES[:2]:
        path = _matrix(outs, name)
        if path is not None and (wanted is None or name.startswith(wanted)):
            log.info("%s: counts from %s", outs, path.name)
            return read_10x_h5(path) if path.is_file() else read_mtx_folder(path)
    kind = f"{wanted}_feature_bc_matrix" if wanted else "filtered_ or raw_feature_bc_matrix"
    there = ", ".join(sorted(p.name for p in outs.iterdir())[:10])
    raise ReadError(
        str(outs),
        f"no such matrix but {there}",
        f"{kind}, .h5 or folder",
        "set `counts:` otherwise (`none` does without)",
    )
