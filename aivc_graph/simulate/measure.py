"""What capture spots over a section see of its cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from aivc_graph.simulate.counts import Counts, gene_sizes, overdispersion, poisson_quantile
from aivc_graph.simulate.donors import stream
from aivc_graph.simulate.layout import GLASS, Layout
from aivc_graph.simulate.programmes import TYPE_NAMES, gene_levels
from aivc_graph.simulate.section import SimulatedSection

Array = NDArray[np.float64]

PLATFORM = 4
SIZE, SIZE_SPREAD = 8.0, 0.4
GENE_SPREAD, SPOT_SPREAD = 0.25, 0.15
PITCH_UM, SPOT_UM = 100.0, 55.0
EDGE_UM, BLEED, BLEED_UM = 3.0, 0.08, 100.0
SPOT_CAPTURE = 0.5


@dataclass(frozen=True)
class Spots:
    """Capture spots over a section.

    Shapes: `xy` (spot, 2) [µm]; `grid` (spot, 2) array row and column; `in_tissue` (spot,); `capture` (spot, cell), the
    share of each cell's RNA that each spot captures; `counts` (spot, gene).
    """

    xy: Array
    grid: NDArray[np.int64]
    in_tissue: NDArray[np.bool_]
    capture: sparse.csr_matrix
    counts: Counts

    def composition(self, section: SimulatedSection) -> Array:
        """Return the share of each type in what each spot captures, ``(spot, type)``; zero where that is nothing."""
        amount = self.capture @ np.eye(len(TYPE_NAMES))[section.cell_type]
        return amount / np.maximum(amount.sum(axis=1, keepdims=True), 1e-12)


def count_spots(section: SimulatedSection) -> Spots:
    r"""Return spots of 55 µm on a hexagonal grid of 100 µm that sum the cells beneath, with some bleeding in.

    .. math:: \mu_{sg} = 0.5\, \kappa_s\, \epsilon_g \sum_c A_{sc}\, \mu_{cg}

    with A the share of each cell's RNA that a spot captures, κ a spot's own efficiency and ε a gene's on this platform,
    the same in every section. Counts are negative binomial with a size of each gene's own, by common random numbers.
    """
    rng = stream(section.seed, "spots")
    xy, grid, in_tissue = _lattice(section.layout, section.size_um)
    capture = _capture(xy, section.cell_xy)
    number = len(section.genes)
    efficiency = np.random.default_rng([PLATFORM, number]).lognormal(0.0, GENE_SPREAD, number)
    efficiency = efficiency * rng.lognormal(0.0, SPOT_SPREAD, (len(xy), 1))
    expected = (capture @ section.cell_rate) * efficiency * SPOT_CAPTURE
    noise = overdispersion(expected.shape, gene_sizes(gene_levels(section.genes), SIZE, SIZE_SPREAD, PLATFORM), rng)
    counts = poisson_quantile(rng.random(expected.shape), expected * noise)
    return Spots(xy, grid, in_tissue, capture, counts)


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
