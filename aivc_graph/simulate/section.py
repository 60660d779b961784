"""What a simulated section is before anybody has measured it: the common ground of biology and measurement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aivc_graph.simulate.layout import Layout

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Site:
    """How one hospital's laboratory differs from the others.

    Parameters
    ----------
    name
        Name of the site.
    gene_shift
        Natural-log shift of each gene's expected counts, ``(gene,)``; already in `SimulatedSection.cell_rate`.
    depth
        Factor on all expected counts; already in `SimulatedSection.cell_rate`.
    stain
        Optical density of hematoxylin (row 0) and eosin (row 1) in red, green, blue, ``(2, 3)``.
    white
        Light through empty glass, ``(3,)``, 0–255.
    """

    name: str
    gene_shift: Array
    depth: float
    stain: Array
    white: Array


@dataclass(frozen=True)
class BlockFrame:
    r"""The map from a section's own microns to those of the tissue block it was cut from.

    A point p goes to q = M p and from there to q + w(q), with w a few sine waves:
    :math:`w(q) = \sum_k a_k \sin(2\pi\, n_k \cdot q / \ell_k + \varphi_k)`.

    Parameters
    ----------
    matrix
        M, ``(3, 3)``: rotation and shift [µm].
    amplitude_um
        a, ``(wave, 2)`` [µm]; no rows for an unwarped section.
    direction
        n, unit vectors ``(wave, 2)``.
    length_um, phase
        ℓ and φ, ``(wave,)``.
    """

    matrix: Array
    amplitude_um: Array
    direction: Array
    length_um: Array
    phase: Array

    def __call__(self, xy_um: Array) -> Array:
        """Return the positions ``(point, 2)`` in the block of positions in the section."""
        q = xy_um @ self.matrix[:2, :2].T + self.matrix[:2, 2]
        return q + np.sin(2 * np.pi * (q @ self.direction.T) / self.length_um + self.phase) @ self.amplitude_um


@dataclass(frozen=True)
class SimulatedSection:
    """One section with its whole truth; positions in µm from its own upper left corner, x to the right, y down.

    Whoever measures it draws all randomness from `seed`, so that a section and its counterfactual, which differ in
    `activity` and `cell_rate` alone, are measured with the same noise.

    Parameters
    ----------
    name, donor, block
        The section, whom it is from, and the block of tissue it was cut from; adjacent sections share their block.
    site
        Where it was processed.
    seed
        Seed of its measurement.
    size_um
        Edge of the square it covers.
    genes
        Symbols of the columns of `cell_rate`.
    layout
        Niches, depth and lumina on a lattice in the section's own frame.
    to_block
        The map from the section's frame to the block's.
    cell_xy
        Positions, ``(cell, 2)``.
    cell_type, cell_niche
        Positions in `programmes.TYPE_NAMES` and `programmes.NICHES`, ``(cell,)``.
    cell_angle
        Direction of the nucleus' long axis [radians], ``(cell,)``.
    nucleus_um
        Long and short axis of the nucleus, ``(cell, 2)``.
    cell_area_um2
        Area of the whole cell, ``(cell,)``.
    activity
        Activity of each pathway of `pathways.PATHWAYS`, 0–1, ``(cell, pathway)``, at the time of measurement.
    cell_rate
        Expected counts of a perfect panel, ``(cell, gene)``: donor, site, size of the cell and what was done included.
    treated
        Cells that an intervention was applied to, ``(cell,)``.
    responder
        Cells that an intervention can act on, ``(cell,)``.
    interventions
        What was done, as plain dicts with the field names of an intervention; empty for an untreated section.
    """

    name: str
    donor: str
    block: str
    site: Site
    seed: int
    size_um: float
    genes: tuple[str, ...]
    layout: Layout
    to_block: BlockFrame
    cell_xy: Array
    cell_type: NDArray[np.int64]
    cell_niche: NDArray[np.int64]
    cell_angle: Array
    nucleus_um: Array
    cell_area_um2: Array
    activity: Array
    cell_rate: Array
    treated: NDArray[np.bool_]
    responder: NDArray[np.bool_]
    interventions: tuple[dict[str, Any], ...] = ()


def cell_names(number: int, first: int = 0) -> NDArray[np.str_]:
    """Return the identifiers of `number` cells from `first` on, as Xenium writes them: letters a–p for hexadecimals."""
    letters = np.array(list("abcdefghijklmnop"))
    digits = np.arange(first, first + number)[:, None] >> 4 * np.arange(7, -1, -1) & 15
    return np.array(["".join(row) + "-1" for row in letters[digits]], dtype=str)
