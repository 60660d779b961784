"""Where the cells of a section lie, what they are and how they are shaped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.spatial import cKDTree

from aivc_graph.simulate.layout import GLASS, Layout
from aivc_graph.simulate.programmes import CELL_TYPES, NICHES, TYPE_NAMES

Array = NDArray[np.float64]
Index = NDArray[np.int64]

EXCLUSION = 0.75
CLUMP = 9
CYTOPLASM = 2.2
SLENDER = 2.0


def place_cells(layout: Layout, size_um: float, density: Array, rng: np.random.Generator) -> tuple[Array, Index]:
    """Return positions ``(cell, 2)`` [µm] and niches of cells that keep apart.

    Random sequential placement with a distance that goes with the niche's density, thinned to that density.

    Parameters
    ----------
    density
        Cells per mm² of each niche, ``(niche,)``.
    """
    proposed = rng.uniform(0, size_um, (int(6 * density.max() * size_um**2 / 1e6), 2))
    niche = layout.at(layout.niche, proposed).astype(np.int64)
    open_ground = (niche != GLASS) & ~layout.at(layout.lumen, proposed).astype(bool)
    proposed, niche = proposed[open_ground], niche[open_ground]
    kept = _apart(proposed, EXCLUSION * 1e3 / np.sqrt(density[niche]))
    proposed, niche = proposed[kept], niche[kept]
    share = np.bincount(layout.niche[layout.niche != GLASS], minlength=len(NICHES)) / layout.niche.size
    wanted = density * share * size_um**2 / 1e6
    chance = wanted / np.maximum(np.bincount(niche, minlength=len(NICHES)), 1)
    chosen = rng.random(len(niche)) < chance[niche]
    return proposed[chosen], niche[chosen]


def draw_types(xy: Array, niche: Index, mixture: Array, clumping: float, rng: np.random.Generator) -> Index:
    """Return the type of each cell, drawn from its niche's row of `mixture` ``(niche, type)``.

    Parameters
    ----------
    clumping
        Share of the chance, 0–1, that a cell has in common with its eight nearest: how much types keep together.
        It leaves the mixture as it is.
    """
    near = cKDTree(xy).query(xy, k=min(CLUMP, len(xy)))[1].reshape(len(xy), -1)
    own, common = rng.normal(size=(2, len(xy)))
    common = common[near].sum(axis=1) / np.sqrt(near.shape[1])
    chance = special.ndtr(np.sqrt(1 - clumping) * own + np.sqrt(clumping) * common)
    return (chance[:, None] > np.cumsum(mixture[niche], axis=1)[:, :-1]).sum(axis=1)


def draw_shapes(layout: Layout, xy: Array, kind: Index, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Return each nucleus' direction [radians] and axes ``(cell, 2)`` [µm], and each cell's area [µm²].

    Slender cells lie along the nest's border, round ones at random; sizes vary by a tenth.
    """
    gy, gx = (layout.at(np.asarray(slope), xy).astype(float) for slope in np.gradient(layout.depth_um))
    usual = np.array([cell.nucleus_um for cell in CELL_TYPES.values()])[kind]
    slender = usual[:, 0] > SLENDER * usual[:, 1]
    along = np.arctan2(gx, -gy) + rng.normal(0, 0.25, len(xy))
    angle = np.where(slender, along, rng.uniform(0, np.pi, len(xy)))
    nucleus = usual * rng.normal(1.0, 0.1, (len(xy), 1)).clip(0.7, 1.4)
    area = CYTOPLASM * np.pi / 4 * nucleus.prod(axis=1) * rng.lognormal(0.0, 0.2, len(xy))
    return angle, nucleus, area


def lack_of_oxygen(layout: Layout, xy: Array, kind: Index) -> Array:
    """Return how hypoxic each cell is, 0–1: a sigmoid of its depth in a nest, in the types that answer to it."""
    depth = layout.at(layout.depth_um, xy).astype(np.float64)
    responds = np.array([cell.responds for cell in CELL_TYPES.values()])[kind]
    return responds / (1 + np.exp((90 - depth) / 15))


def cell_depths(kind: Index, rng: np.random.Generator) -> Array:
    """Return how many transcripts of the panel each cell is expected to show."""
    usual = np.array([CELL_TYPES[name].depth for name in TYPE_NAMES])
    return usual[kind] * rng.lognormal(0, 0.35, len(kind))


def _apart(xy: Array, distance: Array) -> NDArray[np.bool_]:
    """Keep each point that is not too near one kept before it: in rounds, those that nothing undecided comes before."""
    pairs = cKDTree(xy).query_pairs(float(distance.max()), output_type="ndarray")
    near = np.hypot(*(xy[pairs[:, 0]] - xy[pairs[:, 1]]).T) < distance[pairs].mean(axis=1)
    earlier, later = np.sort(pairs[near], axis=1).T
    kept = np.ones(len(xy), bool)
    waits = np.zeros(len(xy), bool)
    while len(later):
        waits[:] = False
        waits[later] = True
        kept[later[~waits[earlier]]] = False
        undecided = waits[earlier] & kept[earlier] & kept[later]
        earlier, later = earlier[undecided], later[undecided]
    return kept
