"""The eight orientations of a frame: how well each explains what is seen, and a warning if another does better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy import fft

from aivc_graph import names
from aivc_graph.errors import RegistrationError
from aivc_graph.tissue.frame import Matrix, affine_of
from aivc_graph.tissue.registration.agreement import SURE, Samples
from aivc_graph.tissue.registration.layer import Layer, level_layer, shared_genes, slide_layer
from aivc_graph.tissue.registration.maps import FieldMap, draw_map
from aivc_graph.tissue.section import metadata_of

# What each does to (x, y) with y pointing down, as on a slide.
ORIENTATIONS: Final[dict[str, Matrix]] = {
    "identity": np.array([[1.0, 0.0], [0.0, 1.0]]),
    "rotate90": np.array([[0.0, -1.0], [1.0, 0.0]]),
    "rotate180": np.array([[-1.0, 0.0], [0.0, -1.0]]),
    "rotate270": np.array([[0.0, 1.0], [-1.0, 0.0]]),
    "mirror_x": np.array([[-1.0, 0.0], [0.0, 1.0]]),
    "mirror_y": np.array([[1.0, 0.0], [0.0, -1.0]]),
    "swap_xy": np.array([[0.0, 1.0], [1.0, 0.0]]),
    "swap_xy_rotate180": np.array([[0.0, -1.0], [-1.0, 0.0]]),
}
MIRRORED: Final = tuple(name for name, turn in ORIENTATIONS.items() if np.linalg.det(turn) < 0)
CLEARLY = 0.03
# Least correlation that says anything: below it all eight turns fit a little by chance, as on a square section; the
# mean over genes, each of which is noisy, is lower.
MEANINGFUL, MEANINGFUL_GENES, N_GENES = 0.5, 0.3, 20
FEWEST = 3
# Pixels that a shift is worth a word from; it is found to within half of one along each axis.
FAR = 1.5


@dataclass(frozen=True)
class OrientationFit:
    """How well the moving layer fits when turned so: `score` (correlation over the canvas, −1 to 1) and its rigid map.

    `present` is the score without any shift; `affine` ``(3, 3)`` maps the moving layer's microns to the fixed frame.
    """

    score: float
    present: float
    affine: Matrix


def nearest_orientation(affine: Matrix) -> str:
    """Return the orientation whose turn is nearest to that of a ``(3, 3)`` affine."""
    u, _, vt = np.linalg.svd(affine[:2, :2])
    return max(ORIENTATIONS, key=lambda name: float(np.sum(ORIENTATIONS[name] * (u @ vt))))


def score_orientations(
    moving: Layer, fixed: Layer, pixel_um: float, angles_deg: Sequence[float] = (0.0,)
) -> dict[str, OrientationFit]:
    """Try all eight orientations of `moving` on `fixed`, each at every shift and at `angles_deg` around it.

    The score is the correlation of the two maps where both are known, times the root of the share of the smaller one
    that is; below one half it is −1. All maps lie on one canvas that holds any placement, so that scores compare.

    Parameters
    ----------
    moving, fixed
        Placed layers with the same channels.
    pixel_um
        Pixel of the maps [µm].
    angles_deg
        Small turns to try around each orientation [°].

    References
    ----------
    Padfield 2012, doi:10.1109/TIP.2011.2181402 (correlation under masks).
    """
    centre = moving.um().mean(axis=0)
    canvas = fft.next_fast_len(int(np.ceil((moving.diagonal_um() + fixed.diagonal_um()) / pixel_um)) + 9, real=True)
    target = draw_map(fixed, pixel_um, pixel_um)
    spectra = _Spectra.of(target, canvas)
    fits = {}
    for name, orientation in ORIENTATIONS.items():
        affines = [_about(_turn(angle) @ orientation, centre) for angle in angles_deg]
        trials = [_trial(moving, affine, target, spectra, canvas) for affine in affines]
        fits[name] = max(trials, key=lambda fit: fit.score)
    return fits


def check_orientation(section: Any) -> list[str]:
    """Compare the slide's tissue with where spots and cells lie, and what cells express with the spots over them.

    Returns what looks wrong, and changes nothing. Empty if there is nothing placed to compare, or the present
    orientation explains it best.
    """
    levels = [v for v in names.LEVELS if v in section.shapes and affine_of(section, v) is not None]
    warnings = _check_expression(section) if {names.CELL, names.PATCH} <= set(levels) else []
    if names.SLIDE not in section.images or affine_of(section, names.SLIDE) is None:
        return warnings
    slide = slide_layer(section)
    if not slide.values.any():
        where = f"{metadata_of(section)['section']} · slide"
        return [*warnings, f"{where}: no tissue found, so its orientation is not checked"]
    for level in levels:
        layer = level_layer(section, level)
        pixel_um = max(slide.diagonal_um() / 128, layer.pitch_um())
        where = f"{metadata_of(section)['section']} · {level}"
        warnings += _compared(where, layer, slide, pixel_um, "the nodes fit the slide's tissue", MEANINGFUL)
    return warnings


def _check_expression(section: Any) -> list[str]:
    """Compare the genes that cells and spots share, pooled to the spots' pitch."""
    if not all(names.table_name(level, names.RNA) in section.tables for level in (names.CELL, names.PATCH)):
        return []
    try:
        genes = shared_genes(section, names.CELL, names.PATCH, N_GENES)
    except RegistrationError:  # two panels without a gene in common cannot be compared
        return []
    cells, patches = (level_layer(section, level, genes) for level in (names.CELL, names.PATCH))
    if any(len(layer.xy) < FEWEST or not layer.values.any() for layer in (cells, patches)):
        return []
    pixel_um = max(cells.pitch_um(), patches.pitch_um())
    where, ground = str(metadata_of(section)["section"]), [np.ptp(one.um(), axis=0).prod() for one in (cells, patches)]
    # The smaller is looked for in the larger, not the other way round: most of it must lie there.
    if ground[0] > ground[1]:
        what = "the spots' genes fit those of the cells"
        return _compared(f"{where} · {names.PATCH}", patches, cells, pixel_um, what, MEANINGFUL_GENES)
    what = "the cells' genes fit those of the spots"
    return _compared(f"{where} · {names.CELL}", cells, patches, pixel_um, what, MEANINGFUL_GENES)


def _compared(where: str, moving: Layer, fixed: Layer, pixel_um: float, what: str, meaningful: float) -> list[str]:
    """Say whether `moving` would fit `fixed` better turned, mirrored or shifted, by more than blocks do by chance."""
    fits = score_orientations(moving, fixed, pixel_um)
    best = max(fits, key=lambda name: fits[name].score)
    now = fits["identity"]
    if fits[best].score < meaningful:
        return []
    samples = Samples.of(moving, fixed, pixel_um)
    gain, sure = samples.gain(fits[best].affine, now.affine)
    if min(gain, fits[best].score - now.score) > CLEARLY and sure > SURE:
        kind = "mirrored" if best in MIRRORED else "turned"
        scores = f"{fits[best].score:.2f} against {now.score:.2f} as placed"
        return [
            f"{where}: {what} better {kind} by {best!r} ({scores}); are x and y swapped, or one of the two flipped?"
        ]
    shift = now.affine[:2, 2]
    gain, sure = samples.gain(now.affine, np.eye(3))
    if min(gain, now.score - now.present) > 2 * CLEARLY and sure > SURE and np.hypot(*shift) > FAR * pixel_um:
        found = f"shifted by ({shift[0]:+,.0f}, {shift[1]:+,.0f}) µm ({now.present:.2f} → {now.score:.2f})"
        return [f"{where}: {what} better {found}; check the pixel sizes and origins"]
    return []


@dataclass(frozen=True)
class _Spectra:
    """Transforms on the canvas of a map's deviations ``(channel, …)``, their squares and its mask, and its area."""

    values: Any
    squares: Any
    mask: Any
    area: float

    @classmethod
    def of(cls, drawn: FieldMap, canvas: int) -> _Spectra:
        shape, mask = (canvas, canvas), drawn.valid.astype(np.float64)
        values = drawn.filled()
        if not drawn.framed:  # empty all around, so that the whole canvas is known
            mask = np.ones(shape)
            values = np.pad(values, ((0, 0), *((0, canvas - n) for n in values.shape[1:])))
        values = (values - values.sum(axis=(1, 2), keepdims=True) / mask.sum()) * mask
        return cls(
            fft.rfft2(values, shape), fft.rfft2((values**2).sum(axis=0), shape), fft.rfft2(mask, shape), mask.sum()
        )


def _trial(moving: Layer, affine: Matrix, target: FieldMap, fixed: _Spectra, canvas: int) -> OrientationFit:
    """Score one turn of the moving layer at every shift: the correlation where both are known (Padfield 2012)."""
    drawn = draw_map(moving.moved(affine), target.pixel_um, target.pixel_um)
    own = _Spectra.of(drawn, canvas)

    def correlate(a: Any, b: Any) -> Matrix:
        return np.asarray(fft.irfft2(a * b.conj(), (canvas, canvas)))

    shared = correlate(fixed.mask, own.mask) / min(fixed.area, own.area)
    power = correlate(fixed.squares, own.mask) * correlate(fixed.mask, own.squares)
    both = fft.irfft2((fixed.values * own.values.conj()).sum(axis=0), (canvas, canvas))
    known = (shared > 0.5) & (power > 1e-9 * power.max())
    surface = np.where(known, both * np.sqrt(np.clip(shared, 0, 1) / np.where(known, power, 1.0)), -1.0)
    row, column = np.unravel_index(int(np.argmax(surface)), surface.shape)
    offset = target.origin_um - drawn.origin_um
    shift = np.array([_signed(int(column), canvas), _signed(int(row), canvas)]) * target.pixel_um + offset
    here = np.rint(-offset / target.pixel_um).astype(int) % canvas
    return OrientationFit(float(surface.max()), float(surface[here[1], here[0]]), _moved(affine, shift))


def _turn(angle_deg: float) -> Matrix:
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    return np.array([[c, -s], [s, c]])


def _about(turn: Matrix, centre: Matrix) -> Matrix:
    affine = np.eye(3)
    affine[:2, :2], affine[:2, 2] = turn, centre - turn @ centre
    return affine


def _moved(affine: Matrix, shift: Matrix) -> Matrix:
    out = affine.copy()
    out[:2, 2] += shift
    return out


def _signed(step: int, size: int) -> int:
    return step if step <= size // 2 else step - size
