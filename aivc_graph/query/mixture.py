"""Gaussian mixtures of states, found by merging, and their smoothing over neighbours."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import logsumexp
from threadpoolctl import threadpool_limits

from aivc_graph.tissue.evenly import evenly

STARTS = 3
FIRST = 30
SAMPLE_ROWS = 10_000
STEPS, TOLERANCE = 100, 1e-4
MOST_ANSWERED, ROUGH = 20, 3.0
COUPLINGS = (0.0, 0.5, 1.0, 2.0, 3.0)
MEAN_FIELD_STEPS = 20
REMEMBERED = 16
Floats = NDArray[np.floating]


class Mixture(Protocol):
    """What can be fitted and merged: parts with a `weight` (part,)."""

    @property
    def weight(self) -> Floats:
        """Share of each part (part,)."""

    def log_density(self, x: Floats) -> Floats:
        """Return log weight × density of each part (node, part)."""


M = TypeVar("M", bound=Mixture)
T = TypeVar("T")


@dataclass(frozen=True)
class StateMixture:
    r"""A Gaussian mixture whose parts share one covariance.

    .. math:: x \sim \sum_k \pi_k\, \mathcal N(\mu_k, \Sigma)

    A scale of its own for each part fits neighbourhoods better, since those of many kinds of cell vary more, and finds
    worse niches: it spends its parts on how much tissue varies instead of what it is.

    Shapes
    ------
    `means` (part, latent), `covariance` (latent, latent), `weight` (part,)
    """

    means: Floats
    covariance: Floats
    weight: Floats

    @classmethod
    def of_nothing(cls, latent: int) -> StateMixture:
        """Return the one part that every state is of, where there is no state to fit one to."""
        return cls(np.zeros((1, latent)), np.eye(latent), np.ones(1))

    def ordered(self, order: NDArray[np.int_]) -> StateMixture:
        """Return the mixture with its parts in another order."""
        return StateMixture(self.means[order], self.covariance, self.weight[order])

    def log_density(self, x: Floats) -> Floats:
        """Return log weight × density of each part at states `x` (node, latent): (node, part)."""
        precision = np.linalg.inv(self.covariance)
        inner = self.means @ precision
        # Parts are the rows in memory, so that sums over the few of them run along it.
        found = inner @ (-2.0 * x.T)
        found += np.einsum("nd,nd->n", x @ precision, x)
        found += np.einsum("kd,kd->k", inner, self.means)[:, None]
        np.maximum(found, 0.0, out=found)
        found += self.means.shape[1] * np.log(2 * np.pi) + np.linalg.slogdet(self.covariance)[1]
        found *= -0.5
        found += np.log(self.weight)[:, None]
        return found.T

    def posterior(self, x: Floats) -> Floats:
        """Return the share of each part in every state (node, part)."""
        return normalised(self.log_density(x))


def normalised(log_shares: Floats) -> Floats:
    """Return shares that sum to one over columns."""
    return shares_and_likelihood(log_shares)[0]


def shares_and_likelihood(log_density: Floats) -> tuple[Floats, float]:
    """Return shares that sum to one over columns, and the mean over rows of the log of the summed density."""
    highest = log_density.max(axis=1, keepdims=True)
    shares = log_density - highest
    np.exp(shares, out=shares)
    total = shares.sum(axis=1, keepdims=True)
    shares /= total
    return shares, float((highest + np.log(total)).mean())


def by_content(fit: Callable[..., T]) -> Callable[..., T]:
    """Fit once what is asked again of the very same states: what an ablation takes away is often none of them."""
    kept: dict[tuple[Any, ...], T] = {}

    @wraps(fit)
    def remembered(x: Floats, *options: Any, **more: Any) -> T:
        content = hashlib.blake2b(np.ascontiguousarray(x).tobytes(), digest_size=16).digest()
        key = (content, x.shape, options, tuple(sorted(more.items())))
        if key not in kept:
            if len(kept) >= REMEMBERED:
                kept.pop(next(iter(kept)))
            kept[key] = fit(x, *options, **more)
        return kept[key]

    return remembered


@by_content
def fit_mixtures(x: Floats, seed: int, most: int = 0, starts: int = STARTS, least: int = 1) -> dict[int, StateMixture]:
    """Return the mixture of each number of parts; from the same states, any seed finds the same or nearly so.

    Thirty parts, or `most` and ten more, are fitted by expectation-maximisation, then merged, two by two and refitted
    each time, down to `least`, where alone all is fitted to the end if that is above one; of several such descents the
    likeliest mixture of each number is kept, its parts by size. More than 10,000 nodes are represented by as many.
    There are no more parts than different states.
    """
    sample = x[evenly(len(x), SAMPLE_ROWS)]
    middle = sample.mean(axis=0, dtype=float)
    sample = sample - middle
    moment, ridge = sample.T @ sample / len(sample), _ridge(sample)

    def of_shares(posterior: Floats) -> StateMixture:
        size = posterior.sum(axis=0) + 1e-9
        means, weight = posterior.T @ sample / size[:, None], size / size.sum()
        return StateMixture(means, moment - (means.T * weight) @ means + ridge, weight)

    def first(k: int, generator: np.random.Generator) -> StateMixture:
        group = spread_groups(sample, k, generator)
        size = np.bincount(group)
        means, weight = group_sums(sample, group) / size[:, None], size / len(sample)
        return StateMixture(means, moment - (means.T * weight) @ means + ridge, weight)

    found = likeliest(sample, first, of_shares, _merge_nearest, seed, most, starts, least)
    return {n: _by_size(mixture, middle) for n, mixture in found.items()}


def fit_along(
    x: Floats, axes: int, seed: int, most: int = 0, starts: int = STARTS, least: int = 1
) -> dict[int, StateMixture]:
    """Return mixtures as `fit_mixtures`, whose parts differ along the leading principal `axes` of the states alone."""
    middle = x.mean(axis=0, dtype=float)
    variance, vectors = np.linalg.eigh((x - middle).T @ (x - middle) / len(x))
    along, across = vectors[:, -axes:], vectors[:, :-axes]
    rest = (across * np.maximum(variance[:-axes], 1e-12)) @ across.T
    found = fit_mixtures((x - middle) @ along, seed, most=most, starts=starts, least=least)
    return {
        n: StateMixture(middle + one.means @ along.T, along @ one.covariance @ along.T + rest, one.weight)
        for n, one in found.items()
    }


def likeliest(
    x: Floats,
    first: Callable[[int, np.random.Generator], M],
    of_shares: Callable[[Floats], M],
    merged: Callable[[M], M],
    seed: int,
    most: int,
    starts: int = STARTS,
    least: int = 1,
) -> dict[int, M]:
    """Return the likeliest mixture of each number of parts over several descents from many parts to `least`.

    Parameters
    ----------
    x
        What is seen of every node (node, …).
    first
        A mixture of a number of parts to start from.
    of_shares
        The mixture under which nodes have given shares of the parts (node, part).
    merged
        The mixture with two of its parts made one.
    """
    found: dict[int, tuple[float, M]] = {}
    answered = least if least > 1 else MOST_ANSWERED
    # The matrices are small: threads that wait for each other take longer than the work.
    with threadpool_limits(1):
        for start in range(starts):
            k = min(max(FIRST, most + 10), len(x))
            fitted = _maximise(x, first(k, np.random.default_rng([seed, start])), of_shares, answered)
            while True:
                n = len(fitted[1].weight)
                if n not in found or fitted[0] > found[n][0]:
                    found[n] = fitted
                if n <= least:
                    break
                fitted = _maximise(x, merged(fitted[1]), of_shares, answered)
    return {n: mixture for n, (_, mixture) in sorted(found.items())}


def _by_size(mixture: StateMixture, middle: Floats) -> StateMixture:
    moved = StateMixture(mixture.means + middle, mixture.covariance, mixture.weight)
    return moved.ordered(np.argsort(-mixture.weight, kind="stable"))


def spread_groups(x: Floats, k: int, generator: np.random.Generator) -> NDArray[np.int_]:
    """Return `k` groups of rows (node,), or fewer, by k-means++ and ten rounds of k-means, none of them empty."""
    chosen = [int(generator.integers(len(x)))]
    distance = ((x - x[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < k and distance.any():
        chosen.append(int(generator.choice(len(x), p=distance / distance.sum())))
        distance = np.minimum(distance, ((x - x[chosen[-1]]) ** 2).sum(axis=1))
    means, group = x[chosen], np.zeros(len(x), int)
    for _ in range(10):
        group = (x @ means.T - 0.5 * (means**2).sum(axis=1)).argmax(axis=1)
        _, group = np.unique(group, return_inverse=True)
        group = group.reshape(-1)
        means = group_sums(x, group) / np.bincount(group)[:, None]
    return group


def group_sums(x: Floats, group: NDArray[np.int_]) -> Floats:
    """Return the sum of the rows of each group (group, column)."""
    member = sparse.csr_matrix((np.ones(len(x)), (group, np.arange(len(x)))), shape=(group.max() + 1, len(x)))
    return np.asarray(member @ x)


def _maximise(x: Floats, mixture: M, of_shares: Callable[[Floats], M], answered: int) -> tuple[float, M]:
    """Return the mean log-likelihood a node and the mixture after expectation-maximisation.

    What is merged on before it can be an answer, with more parts than `answered`, need not be fitted to the end.
    """
    before, likelihood = -np.inf, -np.inf
    enough = TOLERANCE * (1.0 if len(mixture.weight) <= answered else ROUGH)
    for _ in range(STEPS):
        posterior, likelihood = shares_and_likelihood(mixture.log_density(x))
        if likelihood - before < enough:
            break
        before = likelihood
        mixture = of_shares(posterior)
    return likelihood, mixture


def _merge_nearest(mixture: StateMixture) -> StateMixture:
    """Return the mixture with those two parts made one that cost the least likelihood, were every node sure."""
    means, weight = mixture.means, mixture.weight
    a, b = np.triu_indices(len(weight), 1)
    apart = means[a] - means[b]
    distance = np.einsum("pd,pd->p", apart @ np.linalg.inv(mixture.covariance), apart)
    i, j, rest = cheapest_pair(weight, 0.5 * weight[a] * weight[b] / (weight[a] + weight[b]) * distance)
    both = weight[i] + weight[j]
    mean = (weight[i] * means[i] + weight[j] * means[j]) / both
    return StateMixture(np.vstack([means[rest], mean]), mixture.covariance, np.append(weight[rest], both))


def cheapest_pair(weight: Floats, cost: Floats) -> tuple[int, int, NDArray[np.int_]]:
    """Return the two parts whose merging costs least, and the others.

    Parameters
    ----------
    weight
        Of the parts (part,).
    cost
        What is lost of what the parts say of their nodes (pair,), pairs as `numpy.triu_indices` orders them; what is
        lost of the weights themselves comes on top.
    """
    a, b = np.triu_indices(len(weight), 1)
    pair = int(np.argmin(cost + plogp(weight[a]) + plogp(weight[b]) - plogp(weight[a] + weight[b])))
    return int(a[pair]), int(b[pair]), np.setdiff1d(np.arange(len(weight)), (a[pair], b[pair]))


def plogp(p: Floats) -> Floats:
    """Return p log p, 0 at 0."""
    return p * np.log(np.maximum(p, 1e-300))


def _ridge(x: Floats) -> Floats:
    return 1e-6 * (float(x.var(axis=0).mean()) or 1.0) * np.eye(x.shape[1])


def coupling_of(log_density: Floats, adjacency: sparse.csr_matrix) -> float:
    """Return the coupling under which each node's niche is best predicted by its neighbours' (pseudo-likelihood).

    Tissue without spatial order is thus not smoothed.

    References
    ----------
    Besag 1975, doi:10.2307/2987782 (pseudo-likelihood of lattice fields).
    """
    if adjacency.nnz == 0 or log_density.shape[1] < 2:
        return 0.0
    independent = normalised(log_density)
    around = _mean_around(adjacency) @ independent
    return max(COUPLINGS, key=lambda beta: _pseudo_likelihood(independent, around, beta))


def smoothed(log_density: Floats, adjacency: sparse.csr_matrix, coupling: float) -> Floats:
    """Return posteriors (node, niche) of a Potts field over `adjacency` by mean field."""
    posterior, mean = normalised(log_density), _mean_around(adjacency)
    for _ in range(MEAN_FIELD_STEPS if coupling else 0):
        posterior = normalised(log_density + coupling * (mean @ posterior))
    return posterior


def _mean_around(adjacency: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return the matrix (node, node) that averages over the neighbours of each node."""
    shares = np.repeat(1.0 / np.maximum(np.diff(adjacency.indptr), 1), np.diff(adjacency.indptr))
    return sparse.csr_matrix((shares, adjacency.indices, adjacency.indptr), shape=adjacency.shape)


def _pseudo_likelihood(posterior: Floats, neighbours: Floats, beta: float) -> float:
    field = beta * neighbours
    return float((posterior * (field - logsumexp(field, axis=1, keepdims=True))).sum())
