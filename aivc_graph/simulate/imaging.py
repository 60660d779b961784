"""Cells as in-situ imaging sees them: molecules, most kept in their cell, some given to a neighbour, some to none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from aivc_graph.simulate.counts import Counts, gene_sizes, overdispersion, poisson_quantile
from aivc_graph.simulate.donors import stream
from aivc_graph.simulate.programmes import gene_levels
from aivc_graph.simulate.section import SimulatedSection

Array = NDArray[np.float64]

PLATFORM: Final = 1
SIZE, SIZE_SPREAD = 2.0, 0.4
CAPTURE_SPREAD: Final = 0.25
DROPOUT: Final = 0.02
MISASSIGNED, UNASSIGNED = 0.07, 0.08
NO_CELL: Final = "UNASSIGNED"
LEAST_QUALITY, BEST_QUALITY = 20.0, 40.0
NEIGHBOURHOOD_UM: Final = 25.0
SLICE_UM: Final = 5.0


@dataclass(frozen=True)
class Molecules:
    """How many molecules of each cell were seen, and where segmentation put them.

    Shapes: `kept` in their own cell, `moved` to the neighbour and `lost` to no cell, each ``(cell, gene)``; `neighbour`
    ``(cell,)`` the cell that gets the moved ones.
    """

    kept: Counts
    moved: Counts
    lost: Counts
    neighbour: NDArray[np.int64]

    @property
    def counts(self) -> Counts:
        """What the vendor's matrix says, ``(cell, gene)``: all molecules assigned to each cell."""
        number = len(self.neighbour)
        gives = sparse.csr_matrix((np.ones(number, np.int32), (self.neighbour, np.arange(number))), (number, number))
        return (self.kept + gives @ self.moved).astype(np.int32)


def see_molecules(section: SimulatedSection) -> Molecules:
    r"""Return the molecules seen of each cell.

    Of gene g in cell c, with rate μ, capture efficiency κ, gene-wise size θ and dropout δ,

    .. math:: n_{cg} \sim \mathrm{Poisson}(\mu_{cg}\, \kappa_c\, \gamma_{cg}\, b_{cg} / (1 - \delta)),
              \quad \gamma_{cg} \sim \Gamma(\theta_g, 1/\theta_g),\; b_{cg} \sim \mathrm{Bernoulli}(1 - \delta)

    of which a share goes to the nearest cell, and as many again as a share of n to none. A Poisson splits into
    independent ones, so each part is drawn by common random numbers of its own: a cell whose rate is the same in a
    counterfactual has the same molecules there, and a higher rate never has fewer. κ has mean 1, so the expected number
    of molecules assigned to any cell is the section's `cell_rate`.
    """
    rng = stream(section.seed, "molecules")
    shape = section.cell_rate.shape
    noise = overdispersion(shape, gene_sizes(gene_levels(section.genes), SIZE, SIZE_SPREAD, PLATFORM), rng)
    noise *= rng.lognormal(-(CAPTURE_SPREAD**2) / 2, CAPTURE_SPREAD, (shape[0], 1))
    noise *= (rng.random(shape) >= DROPOUT) / (1 - DROPOUT)
    seen = section.cell_rate * noise
    shares = (1 - MISASSIGNED, MISASSIGNED, UNASSIGNED)
    kept, moved, lost = (poisson_quantile(rng.random(shape), share * seen) for share in shares)
    return Molecules(kept, moved, lost, _neighbour(section.cell_xy, rng))


def place_molecules(section: SimulatedSection, molecules: Molecules, names: NDArray[np.str_]) -> pd.DataFrame:
    """Return one row a molecule, in the columns of Xenium's ``transcripts``; assigned ones add up to the matrix.

    Kept ones lie in their cell's ellipse, moved ones between it and the neighbour, lost ones just outside.

    Parameters
    ----------
    names
        Identifiers of the cells.
    """
    rng = stream(section.seed, "places")
    parts = []
    for fate in ("kept", "moved", "lost"):
        number = getattr(molecules, fate)
        cell, gene = (np.repeat(index, number[number > 0]) for index in np.nonzero(number))
        near = np.sqrt(rng.random(len(cell))) if fate != "lost" else rng.uniform(1.0, 1.7, len(cell))
        xy = section.cell_xy[cell] + _in_ellipse(section, cell, near, rng)
        if fate == "moved":
            towards = section.cell_xy[molecules.neighbour[cell]] - section.cell_xy[cell]
            xy = (
                section.cell_xy[cell] + rng.uniform(0.45, 0.75, (len(cell), 1)) * towards + rng.normal(0, 0.7, xy.shape)
            )
            given = names[molecules.neighbour[cell]]
        else:
            given = names[cell] if fate == "kept" else np.full(len(cell), NO_CELL)
        lowest = 0.0 if fate == "lost" else LEAST_QUALITY  # the vendor's matrix counts no molecule below that
        quality = lowest + (BEST_QUALITY - lowest) * rng.beta(4.0, 1.0, len(cell))
        parts.append(pd.DataFrame({"cell_id": given, "gene": gene, "x": xy[:, 0], "y": xy[:, 1], "qv": quality}))
    rows = pd.concat(parts, ignore_index=True)
    return pd.DataFrame(
        {
            "transcript_id": np.arange(len(rows), dtype=np.uint64),
            "cell_id": rows["cell_id"],
            "feature_name": np.array(section.genes)[rows["gene"]],
            "x_location": rows["x"].astype(np.float32),
            "y_location": rows["y"].astype(np.float32),
            "z_location": rng.uniform(0, SLICE_UM, len(rows)).astype(np.float32),
            "qv": rows["qv"].astype(np.float32),
        }
    )


def _in_ellipse(section: SimulatedSection, cell: NDArray[np.int64], near: Array, rng: np.random.Generator) -> Array:
    """Offsets [µm] at `near` radii of the cell's ellipse, with the cell's area and the nucleus' direction."""
    stretch = np.sqrt(section.nucleus_um[cell, 0] / section.nucleus_um[cell, 1]).clip(max=1.5)
    radius = np.sqrt(section.cell_area_um2[cell] / np.pi) * near
    angle, turn = rng.uniform(0, 2 * np.pi, len(cell)), section.cell_angle[cell]
    along, across = radius * stretch * np.cos(angle), radius / stretch * np.sin(angle)
    x, y = along * np.cos(turn) - across * np.sin(turn), along * np.sin(turn) + across * np.cos(turn)
    return np.column_stack([x, y])


def _neighbour(xy: Array, rng: np.random.Generator) -> NDArray[np.int64]:
    """One of the three nearest cells within reach, at random; a cell that lies alone is its own."""
    distance, near = cKDTree(xy).query(xy, k=4, distance_upper_bound=NEIGHBOURHOOD_UM)
    chosen = rng.integers(1, np.isfinite(distance[:, 1:]).sum(axis=1).clip(min=1) + 1)
    picked = near[np.arange(len(xy)), chosen]
    return np.where(picked < len(xy), picked, np.arange(len(xy)))
