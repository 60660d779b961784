"""Niches of cells: a mixture of neighbourhoods, each a count of the kinds of cell nearby."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from aivc_graph.query.mixture import (
    SAMPLE_ROWS,
    Floats,
    by_content,
    cheapest_pair,
    group_sums,
    likeliest,
    plogp,
    spread_groups,
)
from aivc_graph.tissue.evenly import evenly

# Cells of a kind keep together inside a niche too: of eighteen neighbours about nine speak for themselves. Between 0.3
# and 0.5 the agreement with simulated niches hardly changes; below, niches fall together.
INDEPENDENT = 0.5
# A niche is drawn towards the whole tissue as if so many neighbourhoods of it had been added.
PRIOR_WINDOWS = 3.0


@dataclass(frozen=True)
class NeighbourhoodMixture:
    r"""A mixture of niches, each with its own chances of meeting every kind of cell.

    With :math:`n_{vt}` how many of the neighbours of v, itself not counted, are of kind t, :math:`\theta_{kt}` the
    chance of that kind in niche k, :math:`\pi_k` its weight and a the share of neighbours independent of the rest,

    .. math:: p(n_v) \propto \sum_k \pi_k \prod_t \theta_{kt}^{a\,n_{vt}}

    Invariant to the order of nodes and to moving and rotating the section.

    Shapes
    ------
    `chances` (niche, kind), `weight` (niche,)

    References
    ----------
    Li & Zhou 2022, doi:10.1186/s13059-022-02734-7 (a niche is the kinds of cell it is made of).
    """

    chances: Floats
    weight: Floats

    @classmethod
    def of_nothing(cls, kinds: int) -> NeighbourhoodMixture:
        """Return the one niche that every cell is in, where no cell has neighbours to fit one to."""
        return cls(np.full((1, kinds), 1.0 / kinds), np.ones(1))

    def ordered(self, order: NDArray[np.int_]) -> NeighbourhoodMixture:
        """Return the mixture with its niches in another order."""
        return NeighbourhoodMixture(self.chances[order], self.weight[order])

    def log_density(self, windows: Floats, own: Floats | None = None) -> Floats:
        r"""Return log weight × chance of each niche (node, niche) given neighbours `windows` (node, kind).

        Parameters
        ----------
        own
            How likely each node's own state is under each kind, up to a factor a node (node, kind): the node then
            counts in full beside its neighbours. A row of zeros says nothing.
        """
        # Niches are the rows in memory, so that sums over the few of them run along it.
        density = (np.log(self.chances) @ (INDEPENDENT * windows.T) + np.log(self.weight)[:, None]).T
        if own is not None:
            seen = own.any(axis=1)
            density[seen] += np.log(np.maximum(own[seen] @ self.chances.T, 1e-300))
        return density


@by_content
def fit_neighbourhoods(windows: Floats, seed: int, most: int = 0, least: int = 1) -> dict[int, NeighbourhoodMixture]:
    """Return the mixture of each number of niches, fitted as `fit_mixtures` fits states; a row is a neighbourhood."""
    sample = windows[evenly(len(windows), SAMPLE_ROWS)]

    def of_shares(posterior: Floats) -> NeighbourhoodMixture:
        size = posterior.sum(axis=0) + 1e-9
        return NeighbourhoodMixture(_chances(posterior.T @ sample, sample), size / size.sum())

    def first(k: int, generator: np.random.Generator) -> NeighbourhoodMixture:
        # Between roots of shares the Euclidean distance is Hellinger's.
        group = spread_groups(np.sqrt(sample / sample.sum(axis=1, keepdims=True)), k, generator)
        return NeighbourhoodMixture(_chances(group_sums(sample, group), sample), np.bincount(group) / len(sample))

    strength = INDEPENDENT * float(sample.sum(axis=1).mean())
    return likeliest(sample, first, of_shares, partial(_merge_nearest, strength=strength), seed, most, least=least)


def _chances(counts: Floats, windows: Floats) -> Floats:
    drawn = counts + PRIOR_WINDOWS * windows.mean(axis=0) + 1e-9
    return drawn / drawn.sum(axis=1, keepdims=True)


def _merge_nearest(mixture: NeighbourhoodMixture, strength: float) -> NeighbourhoodMixture:
    """Return the mixture with those two niches made one that cost the least likelihood, were every node sure."""
    chances, weight = mixture.chances, mixture.weight
    a, b = np.triu_indices(len(weight), 1)
    both = weight[a] + weight[b]
    mean = (weight[a, None] * chances[a] + weight[b, None] * chances[b]) / both[:, None]
    order = plogp(chances).sum(axis=1)
    cost = strength * (weight[a] * order[a] + weight[b] * order[b] - both * plogp(mean).sum(axis=1))
    i, j, rest = cheapest_pair(weight, cost)
    one = (weight[i] * chances[i] + weight[j] * chances[j]) / (weight[i] + weight[j])
    return NeighbourhoodMixture(np.vstack([chances[rest], one]), np.append(weight[rest], weight[i] + weight[j]))
