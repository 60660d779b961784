"""An affine that the vendor, or another program, wrote to a file."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from aivc_graph.errors import RegistrationError
from aivc_graph.tissue.frame import Matrix, scale_affine
from aivc_graph.tissue.registration.method import REGISTRATIONS, AbstractRegistration, Registration
from aivc_graph.tissue.registration.orientation import nearest_orientation

_EXPECTED = "a (3, 3) or (2, 3) affine whose last row is 0 0 1"


@REGISTRATIONS.register("affine_file", needs="a file with a 3 × 3 matrix")
class AffineFileRegistration(AbstractRegistration):
    """Read the map from a CSV, NPZ or JSON file, such as the 3 × 3 alignment CSV of Xenium Explorer.

    Parameters
    ----------
    path
        ``.csv`` without header, ``.npz`` or ``.json``.
    key
        Name of the matrix in an NPZ or JSON file that holds several.
    um_per_unit
        Microns a unit of the file's target: 0.2125 where it ends in Xenium pixels, 1 where it ends in microns.
    inverse
        The file holds the way back, from the fixed frame to the moving one.
    allow_mirror
        Accept a map that flips the tissue.
    """

    path: Path
    key: str | None = None
    um_per_unit: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    inverse: bool = False
    allow_mirror: bool = False

    def __call__(self, section: Any, moving: str, fixed: str) -> Registration:
        """Return the file's map in microns.

        Raises
        ------
        RegistrationError
            The file does not hold one invertible affine, or it flips the tissue and nobody allowed it.
        """
        matrix = _checked(_load(self.path, self.key), self.path)
        affine = scale_affine(self.um_per_unit) @ (np.linalg.inv(matrix) if self.inverse else matrix)
        orientation = nearest_orientation(affine)
        told = []
        if np.linalg.det(affine[:2, :2]) < 0:
            if not self.allow_mirror:
                raise RegistrationError(
                    str(self.path),
                    f"a mirrored map ({orientation})",
                    "a rotation, scale, shear and shift",
                    "is x taken for y? set `allow_mirror: true` if the tissue was flipped",
                )
            told.append(f"{self.path}: the map mirrors the tissue ({orientation}), as allowed")
        return Registration(affine, None, "affine_file", orientation, warnings=told)


def _load(path: Path, key: str | None) -> Matrix:
    if not path.is_file():
        raise RegistrationError(str(path), "no such file", mend="check the path")
    try:
        if path.suffix == ".npz":
            with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
                return np.asarray(_pick(dict(held), key, path), dtype=np.float64)
        if path.suffix == ".json":
            held = json.loads(path.read_text(encoding="utf-8"))
            return np.asarray(_pick(held, key, path) if isinstance(held, dict) else held, dtype=np.float64)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of a file without a number
            return np.loadtxt(path, delimiter=",", ndmin=2)
    except (ValueError, TypeError, OSError, UserWarning, zipfile.BadZipFile) as error:
        raise RegistrationError(str(path), f"what is no matrix ({error})", _EXPECTED) from error


def _pick(held: dict[str, Any], key: str | None, path: Path) -> Any:
    if key is None and len(held) == 1:
        return next(iter(held.values()))
    if key is None or key not in held:
        found = f"no entry {key!r}" if key else f"{len(held)} entries"
        raise RegistrationError(str(path), found, mend=f"name one as `key:` (known: {', '.join(sorted(held))})")
    return held[key]


def _checked(matrix: Matrix, path: Path) -> Matrix:
    if matrix.shape == (2, 3):
        matrix = np.vstack([matrix, [0.0, 0.0, 1.0]])
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or not np.allclose(matrix[2], [0, 0, 1], atol=1e-9):
        last = f" with last row {np.round(matrix[-1], 4).tolist()}" if matrix.ndim == 2 and len(matrix) else ""
        found = f"{matrix.shape}{last}"
        raise RegistrationError(str(path), found, _EXPECTED, "is it transposed?")
    if abs(np.linalg.det(matrix[:2, :2])) < 1e-12:
        raise RegistrationError(str(path), "a matrix that cannot be inverted", _EXPECTED)
    return matrix
