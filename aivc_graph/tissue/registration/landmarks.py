"""Pairs of points that somebody marked in both frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import model_validator

from aivc_graph.errors import RegistrationError
from aivc_graph.tissue.frame import Matrix, apply_affine
from aivc_graph.tissue.registration.method import REGISTRATIONS, AbstractRegistration, Registration
from aivc_graph.tissue.registration.orientation import nearest_orientation

Kind = Literal["similarity", "affine"]
NEEDED: dict[str, int] = {"similarity": 2, "affine": 3}
COLUMNS = ("moving_x", "moving_y", "fixed_x", "fixed_y")
MIN_SPREAD = 1e-3


@REGISTRATIONS.register("landmarks", needs="two pairs of points, three for an affine", reference="10.1109/34.88573")
class LandmarkRegistration(AbstractRegistration):
    """Fit a similarity (Umeyama 1991) or an affine to pairs of points by least squares.

    Parameters
    ----------
    points
        Rows ``(moving_x, moving_y, fixed_x, fixed_y)``: the element's own units, then microns of the fixed frame.
    path
        In place of `points`, a CSV file with these four columns.
    kind
        ``"similarity"`` (rotation, scale, shift) or ``"affine"``.
    allow_mirror
        Accept a map that flips the tissue, where that fits better.
    """

    points: tuple[tuple[float, float, float, float], ...] = ()
    path: Path | None = None
    kind: Kind = "similarity"
    allow_mirror: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.path is None) == (not self.points):
            raise ValueError("give either `points` or `path`")
        return self

    def __call__(self, section: Any, moving: str, fixed: str) -> Registration:
        """Return the fit; see `fit_landmarks`."""
        rows = _read(self.path) if self.path else np.array(self.points)
        return fit_landmarks(rows[:, :2], rows[:, 2:], self.kind, self.allow_mirror)


def fit_landmarks(
    moving: ArrayLike, fixed_um: ArrayLike, kind: Kind = "similarity", allow_mirror: bool = False
) -> Registration:
    """Fit the map from `moving` ``(point, 2)`` to `fixed_um` ``(point, 2)``.

    The residual is the root mean square over the points each left out in turn; where there are too few points for that,
    it is the fit's own, and a warning says that it is no measure of error.

    Raises
    ------
    RegistrationError
        Too few points, coinciding or (for an affine) collinear points, values that are not finite, or points that only
        a mirrored map explains.

    References
    ----------
    Umeyama 1991, doi:10.1109/34.88573.
    """
    source, target = np.asarray(moving, dtype=np.float64), np.asarray(fixed_um, dtype=np.float64)
    _check(source, target, kind)
    affine, warnings = _fit(source, target, kind, False), []
    mirrored = np.linalg.det(affine[:2, :2]) < 0
    if kind == "similarity" and len(source) > 2:
        flipped = _fit(source, target, kind, True)
        mirrored = _rms(flipped, source, target) < 0.5 * _rms(affine, source, target)
        affine = flipped if mirrored else affine
    orientation = nearest_orientation(affine)
    if mirrored and not allow_mirror:
        found = f"points that a mirrored map explains best ({orientation}, RMS {_rms(affine, source, target):.3g} µm)"
        mend = "are x and y swapped in one of them? set `allow_mirror: true` if the tissue was flipped"
        raise RegistrationError("landmarks", found, "points that a turn, scale and shift explain", mend)
    if mirrored:
        warnings.append(f"landmarks: the map mirrors the tissue ({orientation}), as allowed")
    fit, left_out = _rms(affine, source, target), _left_out(source, target, kind, bool(mirrored))
    if left_out is None:
        few = f"{len(source)} points are too few to measure the error"
        warnings.append(f"landmarks: {few}; {fit:.3g} µm is the fit's own residual")
    else:
        warnings.append(f"landmarks: RMS residual {fit:.3g} µm, each point left out in turn {left_out:.3g} µm")
    residual = fit if left_out is None else left_out
    return Registration(affine, residual, f"landmarks ({kind})", orientation, n_points=len(source), warnings=warnings)


def _fit(source: Matrix, target: Matrix, kind: Kind, mirror: bool) -> Matrix:
    centre_s, centre_t = source.mean(axis=0), target.mean(axis=0)
    s, t = source - centre_s, target - centre_t
    if kind == "affine":
        linear = np.linalg.lstsq(s, t, rcond=None)[0].T
    else:
        u, size, vt = np.linalg.svd(t.T @ s)
        # Umeyama's sign keeps the turn proper; the mirrored map is the best one with the other sign.
        sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt)) * (-1.0 if mirror else 1.0)])
        linear = (size * sign).sum() / (s**2).sum() * (u * sign) @ vt
    affine = np.eye(3)
    affine[:2, :2], affine[:2, 2] = linear, centre_t - linear @ centre_s
    return affine


def _rms(affine: Matrix, source: Matrix, target: Matrix) -> float:
    return float(np.sqrt(((apply_affine(source, affine) - target) ** 2).sum(axis=1).mean()))


def _left_out(source: Matrix, target: Matrix, kind: Kind, mirror: bool) -> float | None:
    """RMS [µm] at each point of the map fitted without it; `None` if some remainder does not determine a map."""
    keep = ~np.eye(len(source), dtype=bool)
    if len(source) <= NEEDED[kind] or any(_flat(points[rows], kind) for points in (source, target) for rows in keep):
        return None
    errors = [_rms(_fit(source[rows], target[rows], kind, mirror), source[~rows], target[~rows]) for rows in keep]
    return float(np.sqrt(np.mean(np.square(errors))))


def _check(source: Matrix, target: Matrix, kind: Kind) -> None:
    needed = NEEDED[kind]
    if source.shape != target.shape or source.ndim != 2 or source.shape[1:] != (2,):
        raise RegistrationError("landmarks", f"{source.shape} and {target.shape}", "pairs of points (point, 2)")
    if len(source) < needed:
        found, expected = f"{len(source)} points", f"at least {needed} for a {kind}"
        raise RegistrationError("landmarks", found, expected, "mark more of them")
    if not np.isfinite(source).all() or not np.isfinite(target).all():
        raise RegistrationError("landmarks", "positions that are NaN or infinite", "finite positions")
    for name, points in (("moving", source), ("fixed", target)):
        if _flat(points, kind):
            fault = "collinear points" if kind == "affine" else "points that coincide"
            mend = "spread them over the tissue"
            raise RegistrationError(f"landmarks · {name}", fault, f"points that determine a {kind}", mend)


def _flat(points: Matrix, kind: Kind) -> bool:
    """Say if points lie on a line (for an affine) or on one spot (for a similarity)."""
    spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    if kind == "affine":
        return bool(spread[1] <= MIN_SPREAD * spread[0])
    return bool(spread[0] <= 1e-9 * max(1.0, float(np.abs(points).max())))


def _read(path: Path) -> Matrix:
    import pandas as pd

    if not path.is_file():
        raise RegistrationError(str(path), "no such file", mend="check the path")
    try:
        table = pd.read_csv(path)
    except (ValueError, OSError) as error:  # of pandas too
        raise RegistrationError(str(path), f"no table ({error})", "a CSV of points", "copy it again") from error
    if not set(COLUMNS) <= set(table.columns):
        found = f"columns {', '.join(map(str, table.columns))}"
        raise RegistrationError(str(path), found, f"columns {', '.join(COLUMNS)}")
    try:
        return table[list(COLUMNS)].to_numpy(dtype=np.float64)
    except ValueError as error:
        raise RegistrationError(str(path), f"points that are no numbers ({error})", "numbers") from error
