"""Microns a unit: from the array the spots were printed on, or as the user says; never guessed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aivc_graph.errors import ReadError
from aivc_graph.tissue.doubt import doubt, tell
from aivc_graph.tissue.schema import spacing_um

log = logging.getLogger(__name__)

VISIUM_PITCH_UM, SPOT_UM = 100.0, 55.0
# `spot_diameter_fullres` is the circle Space Ranger draws, wider than the capture spot: 64.8 to 69.8 µm against the
# array's 100 µm in six public runs.
DRAWN_SPOT_UM = 65.0
# Two statements of one scale that differ by more contradict each other; the drawn circle is a rough one.
SAME_SCALE, SAME_CIRCLE = 0.05, 0.25
MAX_STRETCH = 1.05
_SAME_PITCH = 0.15
MAX_RESIDUAL_UM = 25.0


def visium_array_um(rows: ArrayLike, columns: ArrayLike) -> NDArray[np.float64]:
    """Return where Visium's spots ``(spot, 2)`` lie on their array [µm]: rows √3/2, columns half a pitch apart."""
    x = np.asarray(columns, dtype=np.float64) * VISIUM_PITCH_UM / 2
    y = np.asarray(rows, dtype=np.float64) * VISIUM_PITCH_UM * np.sqrt(3) / 2
    return np.column_stack([x, y])


def um_per_unit_of_array(array_um: NDArray[np.float64], xy: NDArray[np.float64], where: str) -> float | None:
    """Return the microns per unit of `xy` from the affine map that best takes the array to where its spots were found.

    A single distance between neighbours is biased where spots are jittered (the nearest of several is the one that came
    too near); the affine map uses all spots, however thinned. A mirror is warned of, not mended.

    Parameters
    ----------
    array_um
        Nominal places ``(spot, 2)`` on the array [µm].
    xy
        Places ``(spot, 2)`` in the vendor's units.

    Returns
    -------
    um_per_unit
        `None` if fewer than three spots, or all on one line.

    Raises
    ------
    ReadError
        If the positions are not those of such an array: one axis stretched, or residuals above 25 µm.
    """
    design = np.column_stack([array_um, np.ones(len(array_um))])
    if np.linalg.matrix_rank(design) < 3:
        return None
    linear = np.linalg.lstsq(design, xy, rcond=None)[0]
    residual = xy - design @ linear
    long, short = np.linalg.svd(linear[:2])[1]
    if short <= 0 or long / short > MAX_STRETCH:
        found = f"axes of {long:.4g} and {short:.4g} units a micron"
        raise ReadError(where, found, "equal axes", "are rows and columns, or x and y, of different files?")
    um_per_unit = float(1 / np.sqrt(long * short))
    off = float(np.sqrt((residual**2).sum(axis=1).mean())) * um_per_unit
    if off > MAX_RESIDUAL_UM:
        raise ReadError(
            where,
            f"spots {off:.3g} µm off their array",
            f"at most {MAX_RESIDUAL_UM:g} µm",
            "do array and pixel positions belong together?",
        )
    log.info("%s: %.4f µm a unit from the array, spots %.2g µm off it", where, um_per_unit, off)
    if np.linalg.det(linear[:2]) < 0:
        found = "the positions are a mirror image of the array"
        doubt(where, found, mend="was the picture flipped, or x swapped with y?")
    return um_per_unit


def um_per_unit_of_bins(rows: ArrayLike, columns: ArrayLike, bin_um: float, xy: NDArray[np.float64]) -> float | None:
    """Return the microns per unit of `xy` ``(bin, 2)``, where square bins of `bin_um` lie at these rows and columns.

    `None` if fewer than three bins, or all on one line.
    """
    places = np.asarray([columns, rows], dtype=np.float64).T * bin_um
    design = np.column_stack([places, np.ones(len(places))])
    if np.linalg.matrix_rank(design) < 3:
        return None
    area = abs(np.linalg.det(np.linalg.lstsq(design, xy, rcond=None)[0][:2]))
    return float(1 / np.sqrt(area)) if area > 0 else None


def check_scale(um_per_unit: float, other: float | None, by: str, where: str, within: float = SAME_SCALE) -> None:
    """Doubt a scale [µm a unit] where `other`, as `by` tells it, is none of it within that share."""
    if other is not None and abs(um_per_unit / other - 1) > within:
        found, mend = f"{um_per_unit:.4g} µm a unit", "which of the two is right? positions and distances hang on it"
        doubt(f"{where} · um_per_unit", found, f"{other:.4g} µm, as {by} tells", mend)


def given_or(um_per_unit: float | None, ask: Callable[[], float | None], by: str, where: str) -> float | None:
    """Return the scale [µm a unit] that the user gives, or else what `ask` tells; what contradicts it is doubted."""
    if um_per_unit is None:
        return ask()
    try:
        check_scale(um_per_unit, ask(), by, where)
    except ReadError as error:  # a scale that was given needs no other
        tell(str(error))
    return um_per_unit


def check_pitch(xy_um: NDArray[np.float64], where: str) -> None:
    """Doubt the scale of nodes ``(node, 2)`` as large as Visium's spots that are not as far apart as those."""
    spacing = spacing_um(xy_um[np.isfinite(xy_um).all(axis=1)])
    if spacing > SPOT_UM / 2 and abs(spacing / VISIUM_PITCH_UM - 1) > _SAME_PITCH:
        found = f"spots {spacing:.3g} µm apart"
        mend = (
            f"if they are Visium's, `um_per_unit:` times {VISIUM_PITCH_UM / spacing:.4g} is right; else give their size"
        )
        doubt(f"{where} · um_per_unit", found, f"{VISIUM_PITCH_UM:g} µm, as spots of {SPOT_UM:g} µm are", mend)


def stated_um_per_unit(um_per_unit: float | None, xy: NDArray[np.float64], where: str | Path) -> float:
    """Return `um_per_unit` if given; refuse otherwise, with the distance between neighbours to help find it.

    Raises
    ------
    ReadError
        Nothing given, or not a positive number.
    """
    if um_per_unit is not None and um_per_unit > 0 and np.isfinite(um_per_unit):
        return um_per_unit
    if um_per_unit is not None:
        raise ReadError(f"{where} · um_per_unit", f"{um_per_unit:g}", "a positive number")
    spacing = spacing_um(xy[np.isfinite(xy).all(axis=1)])
    raise ReadError(
        f"{where} · um_per_unit",
        f"none (neighbours are {spacing:.4g} units apart)",
        "the microns per unit of the positions",
        "give `um_per_unit:`, 1 if they are microns",
    )


def stated_radius(
    um_per_unit: float, diameter_um: float | None, area_um2: NDArray[np.float64] | None, where: str | Path
) -> NDArray[np.float64] | float:
    """Return the radius of the nodes in the vendor's units, from areas or one diameter; refuse if neither is given."""
    if area_um2 is not None:
        if not (np.isfinite(area_um2) & (area_um2 >= 0)).all():
            raise ReadError(f"{where} · area", "areas that are negative, empty or infinite", "areas ≥ 0 µm²")
        return np.sqrt(area_um2 / np.pi) / um_per_unit
    if diameter_um is None:
        raise ReadError(
            f"{where} · size", "neither `area:` nor `diameter_um:`", "the size of a node", "give one of them"
        )
    return diameter_um / 2 / um_per_unit
