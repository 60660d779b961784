"""Niches of a level: of cells by the kinds around them, of patches by their states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import QueryError
from aivc_graph.operators.feature_map import FeatureMap
from aivc_graph.query.mixture import (
    SAMPLE_ROWS,
    Floats,
    StateMixture,
    coupling_of,
    fit_mixtures,
    normalised,
    smoothed,
)
from aivc_graph.query.neighbourhoods import NeighbourhoodMixture, fit_neighbourhoods
from aivc_graph.query.number_of_niches import number_of_niches
from aivc_graph.query.recurrence import evened, recurring, spread_of
from aivc_graph.tissue.evenly import evenly

KINDS, NODES_A_KIND = 12, 10
# States that are kinds by themselves, told apart on so many nodes; how wide one is, of the least square between two.
MOST_STATES, MOST_LOOKED_AT, CLOSE = 200, 10_000, 1e-3


@dataclass(frozen=True)
class Surroundings:
    """What niches of a level are found from.

    Parameters
    ----------
    level, made_of
        ``cell`` or ``patch``, and ``neighbourhood`` or ``own``: what a niche of this level is made of.
    x
        Niche states (node, latent).
    own
        States by each node's own measurements (node, latent); only rows of `measured` count.
    known, measured, counted
        (node,) who has a state, who has one of its own, and whose own rests on more than features, such as a tile.
    adjacency
        (node, node), one for each of the nearest neighbours.
    donor
        Code of the donor of each node (node,).
    """

    level: str
    made_of: str
    x: Floats
    own: Floats
    known: NDArray[np.bool_]
    measured: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    adjacency: sparse.csr_matrix
    donor: NDArray[np.integer]

    @property
    def by_features(self) -> NDArray[np.bool_]:
        """Who has a state that rests on features alone, its own and those of its neighbours (node,)."""
        return self.known & ~self.counted & ~(self.adjacency @ self.counted > 0)

    def among(self, rows: NDArray[np.bool_]) -> Surroundings:
        """Return the surroundings that the nodes `rows` (node,) have in each other, as if there were no others."""
        kept = {name: getattr(self, name)[rows] for name in ("x", "own", "known", "measured", "counted", "donor")}
        return replace(self, adjacency=self.adjacency[rows][:, rows], **kept)


@dataclass(frozen=True)
class NicheRule:
    """What tells the niche of a node: fitted on one tissue, and the same wherever it is applied.

    A cell has a kind and a niche is who lives together: niches of cells are mixtures of neighbourhoods of kinds. A
    patch holds many cells already, so its niches are a mixture of states, smoothed over neighbours.

    Parameters
    ----------
    level, made_of
        As of the `Surroundings` it was fitted on.
    mixture
        One part a niche, the largest first: of neighbourhoods or of states.
    kinds
        Of cells, by their own states; what neighbourhoods are counts of.
    coupling
        Of a patch to its neighbours; 0 where tissue has no spatial order.
    spread
        Standard deviation of the niche states it was fitted on (latent,): the unit of distances between states.
    evenness
        How far the states of each donor are brought to that spread before the mixture sees them; see `recurrence`.
    left_open
        What features leave open of a state (draw, latent): a node of which nothing else is known is told by the mean
        over these draws about its state, and not by its neighbours, of which no more is known.
    of_features
        By level, what features tell of the niches of a node there of which nothing else is known; see
        `niches_of_features`.
    """

    level: str
    made_of: str
    mixture: NeighbourhoodMixture | StateMixture
    kinds: StateMixture
    coupling: float
    spread: Floats
    evenness: float = 0.0
    left_open: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    of_features: Mapping[str, FeatureMap] = field(default_factory=dict)

    def __call__(self, found_in: Surroundings) -> Floats:
        """Return the share of each niche in every node (node, niche); zeros where nothing is known."""
        if isinstance(self.mixture, NeighbourhoodMixture):
            kinds = kind_shares(self.kinds, found_in)
            windows = np.asarray(found_in.adjacency @ kinds)
            shares = normalised(self.mixture.log_density(windows, kinds / self.kinds.weight))
        else:
            shares = smoothed(self.log_density(found_in), found_in.adjacency, self.coupling)
            if len(self.left_open) and (alone := found_in.by_features).any():
                around = found_in.x[alone].astype(float)
                shares[alone] = np.mean([self.mixture.posterior(around + one) for one in self.left_open], axis=0)
        return shares * found_in.known[:, None]

    def log_density(self, found_in: Surroundings) -> Floats:
        """Return log weight × density of each niche at the state of every node by itself (node, niche)."""
        return self.mixture.log_density(self.states(found_in))

    def states(self, found_in: Surroundings) -> Floats:
        """Return the states as the mixture sees them (node, latent)."""
        x, known = found_in.x.astype(float), found_in.known
        x[known] = evened(x[known], found_in.donor[known], self.spread, self.evenness)
        return x


def fit_niches(found_in: Surroundings, k: int | None, resolution: float, seed: int) -> NicheRule:
    """Return the niches of some tissue, largest first.

    Raises
    ------
    QueryError
        If there are fewer nodes than niches, or `resolution` is not a positive number.
    """
    n_known = int(found_in.known.sum())
    if not 0 < resolution < np.inf:
        raise QueryError("niches", f"resolution = {resolution:g}", "a number above 0", "1 is the usual one")
    if k is not None and not 1 <= k <= n_known:
        raise QueryError("niches", f"k = {k} for {n_known} nodes", "1 ≤ k ≤ number of nodes")
    of_kinds = found_in.level == names.CELL and found_in.made_of == "neighbourhood"
    kinds = fit_kinds(found_in.own[found_in.measured], seed)
    asked = found_in, kind_shares(kinds, found_in), k, resolution, seed
    mixture, evenness = (_by_kinds(*asked), 0.0) if of_kinds else _by_state(*asked)
    rule = NicheRule(
        level=found_in.level,
        made_of=found_in.made_of,
        mixture=mixture,
        kinds=kinds,
        coupling=0.0,
        spread=spread_of(found_in.x[found_in.known]),
        evenness=evenness,
    )
    if not of_kinds:
        rule = replace(rule, coupling=coupling_of(rule.log_density(found_in), found_in.adjacency))
    largest_first = np.argsort(-rule(found_in).sum(axis=0), kind="stable")
    return replace(rule, mixture=mixture.ordered(largest_first))


def fit_kinds(own: Floats, seed: int) -> StateMixture:
    """Return up to twelve kinds of node by their own states (node, latent); one kind where there is no node.

    Where states are few, as those made of types alone, each is a kind.
    """
    if not len(own):
        return StateMixture.of_nothing(own.shape[1])
    if (few := _few_states(own)) is not None:
        return few
    number = int(np.clip(len(own) // NODES_A_KIND, 1, KINDS))
    found = fit_mixtures(own, seed, starts=1, least=number)
    return found[min(number, max(found))]


def _few_states(own: Floats) -> StateMixture | None:
    """Return each state as a kind of its own; None where states are many, or hardly any is that of two nodes."""
    if len(np.unique(own[:: max(1, len(own) // MOST_LOOKED_AT)], axis=0)) > MOST_STATES:
        return None
    states, number = np.unique(own, axis=0, return_counts=True)
    if not 1 < len(states) <= min(MOST_STATES, len(own) // 2):
        return None
    apart = ((states[:, None] - states[None]) ** 2).sum(axis=2)
    least = apart[~np.eye(len(states), dtype=bool)].min()
    return StateMixture(states, np.eye(own.shape[1]) * CLOSE * least, number / len(own))


def kind_shares(kinds: StateMixture, found_in: Surroundings) -> Floats:
    """Return the share of each kind in every node (node, kind), zeros where a node was not measured itself."""
    shares = np.zeros((len(found_in.own), len(kinds.weight)))
    if found_in.measured.any():
        shares[found_in.measured] = kinds.posterior(found_in.own[found_in.measured])
    return shares


def _by_kinds(
    found_in: Surroundings, kinds: Floats, k: int | None, resolution: float, seed: int
) -> NeighbourhoodMixture:
    windows = np.asarray(found_in.adjacency @ kinds)
    surrounded = np.flatnonzero(windows.any(axis=1))
    if not len(surrounded):
        return NeighbourhoodMixture.of_nothing(kinds.shape[1])
    found = fit_neighbourhoods(windows[surrounded], seed, most=k or 0, least=k or 1)
    if k is None:
        rows = surrounded[evenly(len(surrounded), SAMPLE_ROWS)]
        seen = {n: normalised(mixture.log_density(windows[rows])) for n, mixture in found.items()}
        k = number_of_niches(found, seen.__getitem__, kinds[rows], len(surrounded), resolution)
    return found[min(k, max(found))]


def _by_state(
    found_in: Surroundings, kinds: Floats, k: int | None, resolution: float, seed: int
) -> tuple[StateMixture, float]:
    x, known, donor = found_in.x.astype(float), found_in.known, found_in.donor
    if not known.any():
        return StateMixture.of_nothing(x.shape[1]), 0.0
    # Nodes that stand for themselves vary finer than any donor does as a whole.
    donor = np.zeros_like(donor) if found_in.made_of == "own" else donor
    found, evenness = recurring(x[known], kinds[known], donor[known], k, seed)
    x[known] = evened(x[known], donor[known], spread_of(x[known]), evenness)
    degree = np.maximum(np.diff(found_in.adjacency.indptr), 1)[:, None]

    def given_context(n: int) -> Floats:
        shares = found[n].posterior(x)
        if found_in.made_of == "own":  # then its neighbours' niches are what is known without looking at it
            shares = np.asarray(found_in.adjacency @ (shares * known[:, None])) / degree
            shares = shares + 1e-9
            shares /= shares.sum(axis=1, keepdims=True)
        return shares[known]

    if k is None:
        k = number_of_niches(found, given_context, kinds[known], int(known.sum()), resolution)
    return found[min(k, max(found))], evenness
