"""Niches of a level: of cells by the kinds around them, of patches by their states."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import QueryError
from aivc_graph.query.mixture import Floats, evenly, fit_mixtures, normalised, smooth
from aivc_graph.query.neighbourhoods import fit_neighbourhoods
from aivc_graph.query.number_of_niches import number_of_niches

KINDS, NODES_A_KIND = 12, 10


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
    known, measured
        (node,) who has a state, and who has one of its own.
    adjacency
        (node, node), one for each of the nearest neighbours.
    """

    level: str
    made_of: str
    x: Floats
    own: Floats
    known: NDArray[np.bool_]
    measured: NDArray[np.bool_]
    adjacency: sparse.csr_matrix


def find_niches(found_in: Surroundings, k: int | None, resolution: float, seed: int) -> Floats:
    """Return the share of each niche in every node (node, niche), largest niche first; zeros where nothing is known.

    A cell has a kind and a niche is who lives together: niches of cells are mixtures of neighbourhoods of kinds. A
    patch holds many cells already, so its niches are a mixture of states, smoothed over neighbours.

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
    kinds, likelihood = kinds_of(found_in.own, found_in.measured, seed)
    shares = (_by_kinds if of_kinds else _by_state)(found_in, kinds, likelihood, k, resolution, seed)
    shares = shares * found_in.known[:, None]
    return shares[:, np.argsort(-shares.sum(axis=0), kind="stable")]


def kinds_of(own: Floats, measured: NDArray[np.bool_], seed: int) -> tuple[Floats, Floats]:
    """Return the share of each of up to twelve kinds in every node, and how likely its state is under each.

    Both (node, kind), zero where a node was not measured itself; the likelihood is up to a factor a node.
    """
    number = int(np.clip(measured.sum() // NODES_A_KIND, 1, KINDS))
    shares = np.zeros((len(own), number))
    likelihood = np.zeros_like(shares)
    if not measured.any():
        return shares, likelihood
    found = fit_mixtures(own[measured], seed, starts=1, least=number)
    mixture = found[min(number, max(found))]
    there = len(mixture.weight)
    shares[measured, :there] = mixture.posterior(own[measured])
    likelihood[measured, :there] = shares[measured, :there] / mixture.weight
    return shares[:, :there], likelihood[:, :there]


def _by_kinds(
    found_in: Surroundings, kinds: Floats, likelihood: Floats, k: int | None, resolution: float, seed: int
) -> Floats:
    windows = np.asarray(found_in.adjacency @ kinds)
    surrounded = np.flatnonzero(windows.any(axis=1))
    if not len(surrounded):
        return np.ones((len(windows), 1))
    found = fit_neighbourhoods(windows[surrounded], seed, most=k or 0, least=k or 1)
    if k is None:
        rows = surrounded[evenly(len(surrounded))]
        seen = {n: normalised(mixture.log_density(windows[rows])) for n, mixture in found.items()}
        k = number_of_niches(found, seen.__getitem__, kinds[rows], len(surrounded), resolution)
    return normalised(found[min(k, max(found))].log_density(windows, likelihood))


def _by_state(
    found_in: Surroundings, kinds: Floats, likelihood: Floats, k: int | None, resolution: float, seed: int
) -> Floats:
    x, known = found_in.x, found_in.known
    if not known.any():
        return np.ones((len(x), 1))
    found = fit_mixtures(x[known], seed, most=k or 0, least=k or 1)
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
    return smooth(found[min(k, max(found))].log_density(x), found_in.adjacency)[0]
