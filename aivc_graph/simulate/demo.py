"""One section of simulated tumour tissue with its whole truth, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from aivc_graph.simulate.layout import GLASS, Layout, draw_layout
from aivc_graph.simulate.programmes import (
    CELL_TYPES,
    CELLS_PER_MM2,
    GENES,
    MIXTURE,
    NICHES,
    PROGRAMMES,
    TYPE_NAMES,
    type_profiles,
)

Array = NDArray[np.float64]

EXCLUSION = 0.75
DISPERSION = 2.5
PITCH_UM, SPOT_UM = 100.0, 55.0
EDGE_UM, BLEED, BLEED_UM = 3.0, 0.04, 70.0
SPOT_CAPTURE = 6.0
CONTEXT_FOLD = 2.2


@dataclass(frozen=True)
class SimulatedSection:
    """Cells and spots of one section; positions in µm from its upper left corner.

    Shapes: `cell_xy` (cell, 2); `cell_type`, `cell_niche` (cell,) positions in `TYPE_NAMES` and `NICHES`; `cell_angle`
    (cell,) radians; `context` (cell, context) 0–1 for hypoxia, tgf_beta, interferon; `cell_rate`, `cell_counts` (cell,
    gene); `spot_xy` (spot, 2); `spot_grid` (spot, 2) array row and column; `in_tissue` (spot,); `capture` (spot, cell);
    `spot_counts` (spot, gene).
    """

    size_um: float
    layout: Layout
    cell_xy: Array
    cell_type: NDArray[np.int64]
    cell_niche: NDArray[np.int64]
    cell_angle: Array
    context: Array
    cell_rate: Array
    cell_counts: NDArray[np.int32]
    spot_xy: Array
    spot_grid: NDArray[np.int64]
    in_tissue: NDArray[np.bool_]
    capture: sparse.csr_matrix
    spot_counts: NDArray[np.int32]


def simulate_section(size_um: float, seed: int) -> SimulatedSection:
    """Draw a square section of `size_um` µm; equal seeds give equal sections.

    Cells sit in niches with an exclusion distance, take their type from the niche's mixture, and turn on hypoxia deep
    in nests, TGF-β next to nests and interferon next to cytotoxic cells. Counts of cells are negative binomial around
    their rates; those of spots around the sum of the rates that the spot captures, with some bleeding in from outside
    it, and a gene's own efficiency on that platform.
    """
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(5)]
    layout = draw_layout(size_um, streams[0])
    xy, niche = _place_cells(layout, size_um, streams[1])
    kind = (streams[2].random((len(xy), 1)) > np.cumsum(MIXTURE[niche], axis=1)[:, :-1]).sum(axis=1)
    context = _context(layout, xy, kind)
    rate = _rates(kind, context, streams[3])
    spot_xy, grid, in_tissue = _lattice(layout, size_um)
    capture = _capture(spot_xy, xy)
    efficiency = streams[4].lognormal(0.0, 0.25, len(GENES))
    expected = (capture @ rate) * efficiency * SPOT_CAPTURE * streams[4].lognormal(0.0, 0.15, (len(spot_xy), 1))
    return SimulatedSection(
        size_um=size_um,
        layout=layout,
        cell_xy=xy,
        cell_type=kind,
        cell_niche=niche,
        cell_angle=_angles(layout, xy, kind, streams[2]),
        context=context,
        cell_rate=rate,
        cell_counts=_negative_binomial(rate, DISPERSION, streams[3]),
        spot_xy=spot_xy,
        spot_grid=grid,
        in_tissue=in_tissue,
        capture=capture,
        spot_counts=_negative_binomial(expected, 10.0, streams[4]),
    )


def composition(section: SimulatedSection) -> Array:
    """Return the share of each type among what each spot captures, ``(spot, type)``; zero where it captures nothing."""
    kinds = np.eye(len(TYPE_NAMES))[section.cell_type]
    amount = section.capture @ kinds
    return amount / np.maximum(amount.sum(axis=1, keepdims=True), 1e-12)


def _place_cells(layout: Layout, size_um: float, rng: np.random.Generator) -> tuple[Array, NDArray[np.int64]]:
    """Random sequential placement with a distance that goes with the niche's density, thinned to that density."""
    proposed = rng.uniform(0, size_um, (int(6 * CELLS_PER_MM2.max() * size_um**2 / 1e6), 2))
    niche = layout.at(layout.niche, proposed).astype(np.int64)
    open_ground = (niche != GLASS) & ~layout.at(layout.lumen, proposed).astype(bool)
    proposed, niche = proposed[open_ground], niche[open_ground]
    distance = EXCLUSION * 1e3 / np.sqrt(CELLS_PER_MM2[niche])
    kept = _apart(proposed, distance)
    proposed, niche = proposed[kept], niche[kept]
    share = np.bincount(layout.niche[layout.niche != GLASS], minlength=len(NICHES)) / layout.niche.size
    wanted = CELLS_PER_MM2 * share * size_um**2 / 1e6
    chance = wanted / np.maximum(np.bincount(niche, minlength=len(NICHES)), 1)
    chosen = rng.random(len(niche)) < chance[niche]
    return proposed[chosen], niche[chosen]


def _apart(xy: Array, distance: Array) -> NDArray[np.bool_]:
    """Keep each point that is not too near one kept before it."""
    pairs = cKDTree(xy).query_pairs(float(distance.max()), output_type="ndarray")
    near = np.hypot(*(xy[pairs[:, 0]] - xy[pairs[:, 1]]).T) < distance[pairs].mean(axis=1)
    earlier, later = np.sort(pairs[near], axis=1).T
    order = np.argsort(later, kind="stable")
    earlier, ends = earlier[order], np.searchsorted(later[order], np.arange(len(xy) + 1))
    kept = np.ones(len(xy), bool)
    for point in range(len(xy)):
        kept[point] = not kept[earlier[ends[point] : ends[point + 1]]].any()
    return kept


def _context(layout: Layout, xy: Array, kind: NDArray[np.int64]) -> Array:
    """Return hypoxia, TGF-β and interferon ``(cell, 3)``, 0–1, zero in types that do not respond."""
    depth = layout.at(layout.depth_um, xy).astype(np.float64)
    cytotoxic = xy[kind == TYPE_NAMES.index("CD8 T")]
    away = cKDTree(cytotoxic).query(xy)[0] if len(cytotoxic) else np.full(len(xy), np.inf)
    fields = {
        "hypoxia": 1 / (1 + np.exp((90 - depth) / 15)),
        "tgf_beta": np.exp(-np.abs(depth) / 50),
        "interferon": np.exp(-((away / 30) ** 2)),
    }
    responds = {name: np.array([name in cell.responds for cell in CELL_TYPES.values()])[kind] for name in fields}
    return np.column_stack([fields[name] * responds[name] for name in fields])


def _rates(kind: NDArray[np.int64], context: Array, rng: np.random.Generator) -> Array:
    """Expected counts ``(cell, gene)``: depth of the cell × profile of its type, raised in its context's programmes."""
    genes = np.array(GENES)
    fold = np.array([np.isin(genes, PROGRAMMES[name]) for name in ("hypoxia", "tgf_beta", "interferon")], float)
    share = type_profiles()[kind] * np.exp(CONTEXT_FOLD * context @ fold)
    depth = np.array([cell.depth for cell in CELL_TYPES.values()])[kind] * rng.lognormal(0, 0.35, len(kind))
    return depth[:, None] * share / share.sum(axis=1, keepdims=True)


def _lattice(layout: Layout, size_um: float) -> tuple[Array, NDArray[np.int64], NDArray[np.bool_]]:
    """Hexagonal spots: rows √3/2 pitches apart, neighbours in a row two array columns apart."""
    rows, columns = int(size_um / (PITCH_UM * np.sqrt(0.75))) + 1, int(2 * size_um / PITCH_UM)
    grid = np.array([(r, c) for r in range(rows) for c in range(columns) if (r + c) % 2 == 0])
    step = np.array([PITCH_UM / 2, PITCH_UM * np.sqrt(0.75)])
    offset = (size_um - step * (grid.max(axis=0)[::-1])) / 2
    xy = grid[:, ::-1] * step + offset
    return xy, grid, layout.at(layout.niche, xy) != GLASS


def _capture(spot_xy: Array, cell_xy: Array) -> sparse.csr_matrix:
    """Share of each cell's RNA that each spot captures: near one inside, a soft edge, a faint tail outside."""
    tree = cKDTree(cell_xy)
    within = cKDTree(spot_xy).sparse_distance_matrix(tree, 2.5 * BLEED_UM, output_type="coo_matrix")
    inside = 1 / (1 + np.exp((within.data - SPOT_UM / 2) / EDGE_UM))
    weight = inside + BLEED * (1 - inside) * np.exp(-((within.data / BLEED_UM) ** 2))
    return sparse.csr_matrix((weight, (within.row, within.col)), within.shape)


def _angles(layout: Layout, xy: Array, kind: NDArray[np.int64], rng: np.random.Generator) -> Array:
    """Long axis of each nucleus: along the nest's border for slender cells, at random for round ones."""
    gy, gx = (layout.at(np.asarray(slope), xy).astype(float) for slope in np.gradient(layout.depth_um))
    along = np.arctan2(gx, -gy)
    slender = np.array([cell.nucleus_um[0] > 2 * cell.nucleus_um[1] for cell in CELL_TYPES.values()])[kind]
    return np.where(slender, along + rng.normal(0, 0.25, len(xy)), rng.uniform(0, np.pi, len(xy)))


def _negative_binomial(mean: Array, dispersion: float, rng: np.random.Generator) -> NDArray[np.int32]:
    """Counts with variance mean + mean² / dispersion."""
    return rng.poisson(mean * rng.gamma(dispersion, 1 / dispersion, mean.shape)).astype(np.int32)
