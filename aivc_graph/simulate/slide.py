"""Paint the section as a pathologist would see it, in hematoxylin and eosin."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from aivc_graph.simulate.artefacts import defocus, fold
from aivc_graph.simulate.donors import stream
from aivc_graph.simulate.layout import GLASS, STEP_UM, STROMA, VESSEL, smooth_noise
from aivc_graph.simulate.programmes import CELL_TYPES
from aivc_graph.simulate.section import SimulatedSection

Field = NDArray[np.float32]

REACH_UM: Final = 12.0
FIBRES_UM: Final = (5.0, 8.0, 13.0)
OPTICS_UM: Final = 0.6
CRACKS: Final = 1.25
UNEVEN, UNEVEN_UM = 0.25, 80.0
SHADE_SPREAD: Final = 0.18


def paint_slide(
    section: SimulatedSection, mpp: float = 1.0, *, folds: int = 0, blur_um: float = 0.0
) -> NDArray[np.uint8]:
    """Return an H&E-like picture ``(y, x, 3)`` of `section`, by the Beer–Lambert law with the site's stain and light.

    Nuclei have the size, shape and darkness of their type, lie along the fibres where slender, and are grainy; eosin is
    fibrous in stroma, even in nests, weak among lymphocytes; vessels are open, and tissue is cracked here and there.

    Parameters
    ----------
    mpp
        Pixel size [µm].
    folds
        Number of lines along which the tissue lies double.
    blur_um
        Standard deviation of the blur [µm] where the slide is most out of focus; none by default.
    """
    rng = stream(section.seed, "slide")
    pixels = round(section.size_um / mpp)
    nuclei, cytoplasm = _stamp(section, pixels, mpp, rng)
    grain = waves(pixels, 0.8 / mpp, rng)
    hematoxylin = nuclei * (1.25 + 0.2 * grain) + 0.15 * cytoplasm
    eosin = _matrix(section, pixels, mpp, rng) * (1 - 0.65 * np.minimum(nuclei, 1)) + 0.35 * cytoplasm
    thickness = np.exp(UNEVEN * waves(pixels, UNEVEN_UM / mpp, rng))
    stains = np.stack([thickness * hematoxylin, thickness * eosin], axis=-1)
    for _ in range(folds):
        stains = fold(stains, mpp, rng)
    density = stains @ section.site.stain.astype(np.float32)
    density = ndimage.gaussian_filter(density, (OPTICS_UM / mpp, OPTICS_UM / mpp, 0), truncate=3.0)
    if blur_um > 0:
        density = defocus(density, blur_um / mpp, waves(pixels, 0.15 * pixels, rng))
    light = section.site.white.astype(np.float32) * np.exp(np.float32(-np.log(10)) * density)
    light += 2.0 * rng.standard_normal(light.shape, np.float32)
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)


def waves(pixels: int, sigma: float, rng: np.random.Generator) -> Field:
    """Return Gaussian noise ``(pixels, pixels)`` of unit variance that varies over `sigma` pixels.

    Long waves are drawn on a coarse lattice: they hold nothing finer.
    """
    step = max(1, int(sigma / 3))
    coarse = smooth_noise((-(-pixels // step) + 1,) * 2, sigma / step, rng).astype(np.float32)
    return coarse if step == 1 and len(coarse) == pixels else _stretch(coarse, pixels, step)


def _stretch(field: Field, pixels: int, step: float) -> Field:
    """Bring a lattice of `step` pixels to single pixels, linearly along one axis after the other."""
    place = ((np.arange(pixels) + 0.5) / step - 0.5).clip(0, len(field) - 1)
    before = np.minimum(place.astype(np.int64), len(field) - 2)
    share = (place - before).astype(np.float32)
    rows = field[before] + share[:, None] * (field[before + 1] - field[before])
    return rows[:, before] + share * (rows[:, before + 1] - rows[:, before])


def _stamp(section: SimulatedSection, pixels: int, mpp: float, rng: np.random.Generator) -> tuple[Field, Field]:
    """Lay nuclei and a halo of cytoplasm, cell by cell; where two overlap the darker shows."""
    margin = int(np.ceil(REACH_UM / mpp))
    nuclei, cytoplasm = np.zeros((2, pixels + 2 * margin, pixels + 2 * margin), np.float32)
    kinds = list(CELL_TYPES.values())
    reach = np.arange(-margin, margin + 1)
    shade = rng.normal(1.0, SHADE_SPREAD, len(section.cell_xy)).clip(0.5, 1.6)
    for cell, (x, y) in enumerate(section.cell_xy / mpp):
        kind, turn = kinds[section.cell_type[cell]], section.cell_angle[cell]
        left, top = int(x), int(y)
        dx, dy = (reach + left + 0.5 - x)[None, :], (reach + top + 0.5 - y)[:, None]
        along, across = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
        long, short = section.nucleus_um[cell] / 2 / mpp
        out = np.hypot(along / long, across / short)
        window = np.s_[top : top + 2 * margin + 1, left : left + 2 * margin + 1]
        nucleus = kind.darkness * shade[cell] / (1 + np.exp((out - 1) * 2.5 * short))
        nuclei[window] = np.maximum(nuclei[window], nucleus)
        halo = kind.cytoplasm * np.exp(-((out / 2.0) ** 4))
        cytoplasm[window] = np.maximum(cytoplasm[window], halo)
    inner = np.s_[margin : margin + pixels, margin : margin + pixels]
    return nuclei[inner], cytoplasm[inner]


def _matrix(section: SimulatedSection, pixels: int, mpp: float, rng: np.random.Generator) -> Field:
    """Eosin between the cells: fibres run along the borders of the nests, bent by noise."""
    layout = section.layout
    level = np.array([0.16, 0.17, 0.36, 0.10, 0.42], np.float32)
    amount = np.where(layout.niche == GLASS, 0.0, level[layout.niche]).astype(np.float32)
    amount[layout.lumen] = 0.0
    fibrous = np.isin(layout.niche, (STROMA, VESSEL)).astype(np.float32)
    fields = (amount, fibrous, layout.depth_um.astype(np.float32))
    amount, fibrous, depth = (_stretch(field, pixels, STEP_UM / mpp) for field in fields)
    bends = [a * waves(pixels, s / mpp, rng) for a, s in ((12.0, 40.0), (4.0, 9.0), (1.2, 2.0))]
    bend = depth + bends[0] + bends[1] + bends[2]
    strength = np.clip(0.12 + 0.1 * waves(pixels, 15 / mpp, rng), 0.0, 0.4)
    fibres = strength * sum(np.sin(np.float32(2 * np.pi / width) * bend) for width in FIBRES_UM)
    patchy = 1 + 0.18 * waves(pixels, 25 / mpp, rng)
    cracked = waves(pixels, 5 / mpp, rng) > CRACKS
    texture = np.where(fibrous > 0.5, (1 + fibres) * np.where(cracked, 0.3, 1.0), 1.0)
    return (amount * patchy * texture).astype(np.float32)
