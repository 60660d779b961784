"""Paint the section as a pathologist would see it, in hematoxylin and eosin."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from aivc_graph.simulate.donors import stream
from aivc_graph.simulate.layout import GLASS, STEP_UM, STROMA, VESSEL, smooth_noise
from aivc_graph.simulate.programmes import CELL_TYPES
from aivc_graph.simulate.section import SimulatedSection

Field = NDArray[np.float32]

REACH_PX = 12
FIBRES_UM = (5.0, 8.0, 13.0)


def paint_slide(section: SimulatedSection, mpp: float = 1.0) -> NDArray[np.uint8]:
    """Return an H&E-like picture ``(y, x, 3)`` of `section` at `mpp` µm a pixel, by the Beer–Lambert law.

    Nuclei have the size, shape and darkness of their type, lie along the fibres where slender, and are grainy; eosin is
    fibrous in stroma, even in nests, weak among lymphocytes; vessels are open.
    """
    rng = stream(section.seed, "slide")
    pixels = round(section.size_um / mpp)
    nuclei, cytoplasm = _stamp(section, pixels, mpp, rng)
    grain = smooth_noise((pixels, pixels), 0.8 / mpp, rng).astype(np.float32)
    hematoxylin = nuclei * (0.85 + 0.16 * grain) + 0.05 * cytoplasm
    eosin = _matrix(section, pixels, mpp, rng) * (1 - 0.65 * np.minimum(nuclei, 1)) + 0.45 * cytoplasm
    density = hematoxylin[..., None] * section.site.stain[0] + eosin[..., None] * section.site.stain[1]
    density = ndimage.gaussian_filter(density, (0.6 / mpp, 0.6 / mpp, 0))
    light = section.site.white * 10.0**-density + rng.normal(0, 2.0, density.shape)
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)


def _stamp(section: SimulatedSection, pixels: int, mpp: float, rng: np.random.Generator) -> tuple[Field, Field]:
    """Lay nuclei and a halo of cytoplasm, cell by cell; where two overlap the darker shows."""
    nuclei, cytoplasm = np.zeros((2, pixels + 2 * REACH_PX, pixels + 2 * REACH_PX), np.float32)
    kinds = list(CELL_TYPES.values())
    reach = np.arange(-REACH_PX, REACH_PX + 1)
    shade = rng.normal(1.0, 0.12, len(section.cell_xy)).clip(0.6, 1.4)
    for cell, (x, y) in enumerate(section.cell_xy / mpp):
        kind, turn = kinds[section.cell_type[cell]], section.cell_angle[cell]
        left, top = int(x), int(y)
        dx, dy = (reach + left + 0.5 - x)[None, :], (reach + top + 0.5 - y)[:, None]
        along, across = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
        long, short = section.nucleus_um[cell] / 2 / mpp
        out = np.hypot(along / long, across / short)
        window = np.s_[top : top + 2 * REACH_PX + 1, left : left + 2 * REACH_PX + 1]
        nucleus = kind.darkness * shade[cell] / (1 + np.exp((out - 1) * 2.5 * short))
        nuclei[window] = np.maximum(nuclei[window], nucleus)
        halo = kind.cytoplasm * np.exp(-((out / 2.0) ** 4))
        cytoplasm[window] = np.maximum(cytoplasm[window], halo)
    inner = np.s_[REACH_PX : REACH_PX + pixels, REACH_PX : REACH_PX + pixels]
    return nuclei[inner], cytoplasm[inner]


def _matrix(section: SimulatedSection, pixels: int, mpp: float, rng: np.random.Generator) -> Field:
    """Eosin between the cells: fibres run along the borders of the nests, bent by noise."""
    layout = section.layout
    level = np.array([0.22, 0.24, 0.42, 0.15, 0.50], np.float32)
    amount = np.where(layout.niche == GLASS, 0.0, level[layout.niche]).astype(np.float32)
    amount[layout.lumen] = 0.0
    fibrous = np.isin(layout.niche, (STROMA, VESSEL)).astype(np.float32)
    amount, fibrous, depth = (_enlarge(field, pixels, mpp) for field in (amount, fibrous, layout.depth_um))
    bend = sum(a * smooth_noise((pixels, pixels), s / mpp, rng) for a, s in ((12.0, 40.0), (4.0, 9.0), (1.2, 2.0)))
    strength = np.clip(0.12 + 0.1 * smooth_noise((pixels, pixels), 15 / mpp, rng), 0.0, 0.4)
    fibres = strength * sum(np.sin(2 * np.pi * (depth + bend) / width) for width in FIBRES_UM)
    patchy = 1 + 0.18 * smooth_noise((pixels, pixels), 25 / mpp, rng)
    gaps = smooth_noise((pixels, pixels), 5 / mpp, rng) > 1.4
    texture = np.where(fibrous > 0.5, (1 + fibres) * np.where(gaps, 0.4, 1.0), 1.0)
    return (amount * patchy * texture).astype(np.float32)


def _enlarge(field: NDArray[np.generic], pixels: int, mpp: float) -> Field:
    """Bring a lattice field to the slide's pixels, linearly."""
    centre = (np.arange(pixels) + 0.5) * mpp / STEP_UM - 0.5
    grid = np.meshgrid(centre, centre, indexing="ij")
    return ndimage.map_coordinates(field.astype(np.float32), grid, order=1, mode="nearest")
