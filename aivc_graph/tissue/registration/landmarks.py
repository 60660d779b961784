"""Pairs of points that somebody marked in both frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from aivc_graph.errors import Faults, RegistrationError
from aivc_graph.tissue.frame import Matrix, affine_of, apply_affine, scale_affine
from aivc_graph.tissue.registration.departure import Departure, fit_departure
from aivc_graph.tissue.registration.doubtful import FEW, doubts_of_pairs
from aivc_graph.tissue.registration.landmark_files import LISTED, pairs_of_csv, pairs_of_geojson
from aivc_graph.tissue.registration.method import REGISTRATIONS, AbstractRegistration, Registration, rms_um
from aivc_graph.tissue.registration.orientation import nearest_orientation
from aivc_graph.tissue.registration.pairs import KnownPairs, pair_table
from aivc_graph.tissue.section import metadata_of
from aivc_graph.tissue.thinning import Thinning

Kind = Literal["rigid", "similarity", "affine", "bent"]
NEEDED: dict[str, int] = {"rigid": 2, "similarity": 2, "affine": 3, "bent": 3}
MIN_SPREAD = 1e-3
# What pairs are called that somebody marked, and those of a coarse map of which some positions are known.
LANDMARK, POSITION = "landmark", "position"
# A mirrored map must make the points twenty times as likely, or the other so many times less.
LIKELIER = float(np.log(20.0))
OTHER_SIZE = 0.1
# How likely a smooth departure is to be told; of points that are off at random one in fifty sets seems as smooth.
LIKELY = 0.8


@REGISTRATIONS.register("landmarks", needs="two pairs of points, three for an affine", reference="10.1109/34.88573")
class LandmarkRegistration(AbstractRegistration, Thinning):
    """Fit a map to pairs of points by least squares (Umeyama 1991): put by hand, or a coarse map that is known.

    Parameters
    ----------
    points
        Rows ``(moving_x, moving_y, fixed_x, fixed_y)``: the element's own units, then microns of the fixed frame.
    path
        In place of `points`, a CSV file with these four columns, and ``name`` where points have one; or, with
        `fixed_path`, a GeoJSON file as QuPath exports it, of points on the moving picture.
    fixed_path
        A GeoJSON file of points of the same names, or classes, on the fixed picture. Both are in pixels of their own
        picture at full resolution; the fixed element's own map leads to microns.
    fixed_mpp
        Pixel size [µm] of the fixed picture where that is no element of the section but has the fixed frame's origin,
        such as the DAPI picture of Xenium's cells (0.2125).
    fit
        ``"rigid"`` (turn and shift; the moving element keeps the pixel size it has), ``"similarity"`` (scale too),
        ``"affine"``, or ``"bent"``: a similarity, and away from it as far as the points tell, for nodes alone.
    coarse
        The moving element is itself a coarse map, as of large voxels, of which some positions are known: every node is
        off by itself as much as those are. Else what a point is off by itself is an error of whoever put it.
    allow_mirror
        Accept a map that flips the tissue, where that fits better.
    share
        Share of the points that the map is fitted to, drawn at random, to measure what hangs on them; the others are
        listed beside, and show how far off the map is. Of one seed a smaller share is part of a larger one.
    shift_um
        How far [µm] the map is moved off, in a direction drawn for each section: what a wrong registration does.
    seed
        Of what is drawn.
    """

    points: tuple[tuple[float, float, float, float], ...] = ()
    path: Path | None = None
    fixed_path: Path | None = None
    fixed_mpp: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    fit: Kind = "similarity"
    coarse: bool = False
    allow_mirror: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.path is None) == (not self.points):
            raise ValueError("give either `points` or `path`")
        if self.fixed_path is not None and self.path is None:
            raise ValueError("`fixed_path` goes with `path`, a GeoJSON file of the same points on the moving picture")
        if self.fixed_mpp is not None and self.fixed_path is None:
            raise ValueError("`fixed_mpp` goes with `fixed_path`, whose pixels it is of")
        return self

    def __call__(self, section: Any, moving: str, fixed: str) -> Registration:
        """Return the fit; see `fit_landmarks`.

        Raises
        ------
        RegistrationError
            Points off their picture, not finite, or there twice; ``rigid`` without a pixel size; what `fit_landmarks`
            and the files raise.
        """
        pairs = self._pairs(section, moving, fixed)
        _check_pairs(pairs)
        name = "" if section is None else str(metadata_of(section)["section"])
        taken, shift = self.taken(len(pairs), name), self.shift(name)
        needed = NEEDED[self.fit]
        if taken.sum() < needed <= len(pairs):
            found = f"{taken.sum()} of {len(pairs)} points by `share: {self.share:g}`"
            raise RegistrationError(f"landmarks · {moving}", found, f"at least {needed}", "raise the share")
        frame = affine_of(section, moving) if section is not None else None
        size = None if frame is None else float(np.sqrt(abs(np.linalg.det(frame[:2, :2]))))
        if self.fit == "rigid" and size is None:
            mend = "give its `um_per_unit` or `mpp`, or fit a similarity"
            raise RegistrationError(f"landmarks · {moving}", "no pixel size", "one that the map keeps", mend)
        known = pairs.take(taken)
        told = fit_landmarks(known.moving, known.fixed + shift, self.fit, self.allow_mirror, size, self.coarse)
        fitted = float(np.sqrt(abs(np.linalg.det(told.affine[:2, :2]))))
        if size is not None and abs(fitted / size - 1) > OTHER_SIZE:
            said = f"{fitted:.4g} µm a unit by the points, {size:.4g} by its own pixel size"
            told.warnings.append(f"landmarks · {moving}: {said}; are the points in pixels at full resolution?")
        if self.share < 1:
            told.warnings.append(f"landmarks: {taken.sum()} of {len(pairs)} points fit the map, drawn by `share`")
        if self.shift_um:
            told.warnings.append(f"landmarks: the map is moved off by {self.shift_um:g} µm, by `shift_um`")
        nodes = section is not None and moving in section.shapes
        if nodes and self.fit != "bent" and isinstance(told.sigma, Departure) and told.sigma.smooth > LIKELY:
            told.warnings.append("landmarks: the tissue is bent away from the map, smoothly; `fit: bent` follows it")
        placed = told.map(pairs.moving)
        sigma = np.full(len(pairs), np.nan) if told.sigma is None else told.sigma(placed)
        doubtful = self._doubtful(told, sigma, replace(pairs, fixed=pairs.fixed + shift), taken, size)
        kind = POSITION if self.coarse else LANDMARK
        return replace(told, pairs=pair_table(pairs, kind, placed, sigma, taken, doubtful))

    def _doubtful(
        self, told: Registration, sigma_um: Matrix, pairs: KnownPairs, taken: NDArray[np.bool_], size: float | None
    ) -> NDArray[np.bool_]:
        """Return which pairs are doubtful (pair,), and warn of them."""
        mirror = bool(np.linalg.det(told.affine[:2, :2]) < 0)

        def left_over(source: Matrix, target: Matrix) -> float:
            return _rms(_fit(source, target, self.fit, mirror, size), source, target)

        if not isinstance(told.sigma, Departure):
            return np.zeros(len(pairs), bool)
        by_hand = None if self.coarse else left_over
        doubtful, said = doubts_of_pairs(told, told.sigma, sigma_um, pairs, taken, self.fit == "affine", by_hand)
        told.warnings.extend(said)
        return doubtful

    def _pairs(self, section: Any, moving: str, fixed: str) -> KnownPairs:
        """Return all pairs, those of the fixed frame in microns."""
        if not (self.path and self.fixed_path):
            return pairs_of_csv(self.path) if self.path else KnownPairs.numbered(np.array(self.points))
        pairs = pairs_of_geojson(self.path, self.fixed_path)
        _check_on_picture(section, moving, self.path, pairs.moving)
        if self.fixed_mpp is None:
            _check_on_picture(section, fixed, self.fixed_path, pairs.fixed)
        to_um = np.asarray(affine_of(section, fixed)) if self.fixed_mpp is None else scale_affine(self.fixed_mpp)
        return replace(pairs, fixed=apply_affine(pairs.fixed, to_um))


def fit_landmarks(
    moving: ArrayLike,
    fixed_um: ArrayLike,
    kind: Kind = "similarity",
    allow_mirror: bool = False,
    um_per_unit: float | None = None,
    coarse: bool = False,
) -> Registration:
    """Fit the map from `moving` ``(point, 2)`` to `fixed_um` ``(point, 2)``.

    The residual is how far the map, or the tissue from it, is likely to be off between the points; it grows away from
    them. Where there are too few points for that it is unknown, and a warning says so.

    Parameters
    ----------
    um_per_unit
        Pixel size that a rigid map keeps.
    coarse
        What each point is off by itself, all of the element is too.

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
    affine, warnings = _fit(source, target, kind, False, um_per_unit), []
    mirrored = np.linalg.det(affine[:2, :2]) < 0
    if kind != "affine" and len(source) > 2:
        flipped = _fit(source, target, kind, True, um_per_unit)
        gain = _likelier(flipped, affine, source, target, um_per_unit)
        mirrored = gain > LIKELIER
        if abs(gain) <= LIKELIER and not _exact(affine, source, target):
            warnings.append("landmarks: a mirrored map fits the points as well; mark one away from their line")
        affine = flipped if mirrored else affine
    orientation = nearest_orientation(affine)
    if mirrored and not allow_mirror:
        found = f"points that a mirrored map explains best ({orientation}, RMS {_rms(affine, source, target):.3g} µm)"
        mend = "are x and y swapped in one of them, or two names? set `allow_mirror: true` if the tissue was flipped"
        raise RegistrationError("landmarks", found, "points that a turn, scale and shift explain", mend)
    if mirrored:
        warnings.append(f"landmarks: the map mirrors the tissue ({orientation}), as allowed")
    placed = apply_affine(source, affine)
    sigma = fit_departure(placed, target - placed, affine=kind == "affine", bent=kind == "bent", coarse=coarse)
    fit = f"RMS residual {_rms(affine, source, target):.3g} µm"
    if sigma is None:
        warnings.append(f"landmarks: {len(source)} points are too few to measure the error; {fit}")
    elif kind == "bent":
        left = float(np.sqrt(((placed + sigma.shift_um(placed) - target) ** 2).sum(axis=1).mean()))
        warnings.append(
            f"landmarks: RMS residual {left:.3g} µm once bent, {_rms(affine, source, target):.3g} µm before"
        )
    elif len(source) > FEW:  # each left out would change nothing, and take minutes
        warnings.append(f"landmarks: {fit}")
    elif (left_out := _left_out(source, target, kind, bool(mirrored), um_per_unit)) is not None:
        warnings.append(f"landmarks: {fit}, each point left out in turn {left_out:.3g} µm")
    return Registration(
        affine=affine,
        residual_um=None if sigma is None else rms_um(sigma(placed)),
        method=f"landmarks ({kind})",
        orientation=orientation,
        n_points=len(source),
        warnings=warnings,
        sigma=sigma,
        shift_um=sigma.shift_um if sigma is not None and kind == "bent" else None,
    )


def _fit(source: Matrix, target: Matrix, kind: Kind, mirror: bool, um_per_unit: float | None) -> Matrix:
    centre_s, centre_t = source.mean(axis=0), target.mean(axis=0)
    s, t = source - centre_s, target - centre_t
    if kind == "affine":
        linear = np.linalg.lstsq(s, t, rcond=None)[0].T
    else:
        u, size, vt = np.linalg.svd(t.T @ s)
        # Umeyama's sign keeps the turn proper; the mirrored map is the best one with the other sign.
        sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt)) * (-1.0 if mirror else 1.0)])
        scale = um_per_unit if kind == "rigid" and um_per_unit else (size * sign).sum() / (s**2).sum()
        linear = scale * (u * sign) @ vt
    affine = np.eye(3)
    affine[:2, :2], affine[:2, 2] = linear, centre_t - linear @ centre_s
    return affine


def _likelier(one: Matrix, other: Matrix, source: Matrix, target: Matrix, um_per_unit: float | None) -> float:
    """Logarithm of how many times likelier points are by `one` map, each with the scatter that it leaves."""
    freedom = 2 * len(source) - (3 if um_per_unit else 4)
    least = 1e-9 * float(np.ptp(target, axis=0).max())
    return freedom * float(np.log((_rms(other, source, target) + least) / (_rms(one, source, target) + least)))


def _exact(affine: Matrix, source: Matrix, target: Matrix) -> bool:
    return _rms(affine, source, target) <= 1e-6 * float(np.ptp(target, axis=0).max())


def _rms(affine: Matrix, source: Matrix, target: Matrix) -> float:
    return float(np.sqrt(((apply_affine(source, affine) - target) ** 2).sum(axis=1).mean()))


def _left_out(source: Matrix, target: Matrix, kind: Kind, mirror: bool, um_per_unit: float | None) -> float | None:
    """RMS [µm] at each point of the map fitted without it; `None` if some remainder does not determine a map."""
    keep = ~np.eye(len(source), dtype=bool)
    if len(source) <= NEEDED[kind] or any(_flat(points[rows], kind) for points in (source, target) for rows in keep):
        return None
    errors = [
        _rms(_fit(source[rows], target[rows], kind, mirror, um_per_unit), source[~rows], target[~rows]) for rows in keep
    ]
    return float(np.sqrt(np.mean(np.square(errors))))


def _check_pairs(pairs: KnownPairs) -> None:
    faults = Faults(RegistrationError)
    places = np.column_stack([pairs.moving, pairs.fixed])
    if bad := [pairs.names[i] for i in np.flatnonzero(~np.isfinite(places).all(axis=1))]:
        found = f"positions that are NaN or infinite, at {', '.join(map(repr, bad[:LISTED]))}"
        faults.add("landmarks", found, "finite positions", "mend or drop these points")
    _, first = np.unique(places, axis=0, return_index=True)
    if again := [pairs.names[i] for i in sorted(set(range(len(pairs))) - set(first.tolist()))]:
        found = f"{', '.join(map(repr, again[:LISTED]))} in the places of other points"
        faults.add("landmarks", found, "each point once", "it would count twice: drop it, or put it where it belongs")
    faults.raise_if_any()


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


def _check_on_picture(section: Any, element: str, path: Path, points: Matrix) -> None:
    """Raise if points lie beside the picture they were put on, as they do where it was opened at another resolution."""
    if element not in section.images:
        return
    height, width = section.images[element].shape[1:]
    if (points < 0).any() or (points > [width, height]).any():
        found = f"points at up to ({points[:, 0].max():,.0f}, {points[:, 1].max():,.0f})"
        expected = f"pixels of {element!r}: {width:,} × {height:,}"
        raise RegistrationError(str(path), found, expected, "is it the same picture, at the same resolution?")
