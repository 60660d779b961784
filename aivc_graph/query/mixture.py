"""Niches as a Gaussian mixture of neighbourhood states, smoothed over neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import logsumexp
from threadpoolctl import threadpool_limits

from aivc_graph.errors import QueryError

STARTS = 3
FIRST_NICHES = 30
MAX_NICHES = 20
# Fewer nodes, each a neighbourhood of its own, show no niche.
NODES_A_NICHE = 3
SAMPLE_ROWS = 10_000
STEPS, TOLERANCE = 100, 1e-4
COUPLINGS = (0.0, 0.5, 1.0, 2.0, 3.0)
MEAN_FIELD_STEPS = 20
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class NicheMixture:
    r"""A Gaussian mixture whose niches share the shape of their spread, not its size.

    With :math:`\pi_k` the weight of niche k, :math:`\mu_k` its mean, :math:`s_k` its scale and :math:`\Sigma` common,

    .. math:: x \sim \sum_k \pi_k\, \mathcal N(\mu_k, s_k \Sigma), \qquad \prod_k s_k^{\pi_k} = 1

    A neighbourhood of one kind of cell varies less than one of many kinds; were the scales equal, a niche of many kinds
    would be split to make up for it.

    Shapes
    ------
    `means` (niche, latent), `covariance` (latent, latent), `scale` and `weight` (niche,)

    References
    ----------
    Celeux & Govaert 1995, doi:10.1016/0031-3203(94)00125-6 (the family of such mixtures; this is "VEE").
    """

    means: Floats
    covariance: Floats
    scale: Floats
    weight: Floats

    def squared_distance(self, x: Floats) -> Floats:
        """Return squared Mahalanobis distances under the common covariance (node, niche)."""
        precision = np.linalg.inv(self.covariance)
        inner = self.means @ precision
        own = np.einsum("nd,nd->n", x @ precision, x)[:, None]
        return np.maximum(own - 2 * x @ inner.T + np.einsum("kd,kd->k", inner, self.means), 0.0)

    def log_density(self, x: Floats) -> Floats:
        """Return log weight × density of each niche at states `x` (node, latent): (node, niche)."""
        return self._log_density(self.squared_distance(x))

    def _log_density(self, distance: Floats) -> Floats:
        d = self.means.shape[1]
        volume = d * np.log(2 * np.pi * self.scale) + np.linalg.slogdet(self.covariance)[1]
        return np.log(self.weight) - 0.5 * (distance / self.scale + volume)


def fit_mixture(x: Floats, k: int | None, resolution: float, seed: int, shared: float = 1.0) -> NicheMixture:
    """Fit a mixture to states `x` (node, latent); from the same states, any seed finds the same niches or nearly so.

    Thirty niches are fitted by expectation-maximisation, then merged, two by two and refitted each time, down to one;
    of three such descents the likeliest mixture of each number of niches is kept. More than 10,000 nodes are
    represented by as many, spread evenly over the order of the graph.

    Parameters
    ----------
    k
        Number of niches; if not given, the number from 1 to 20 with the least BIC whose penalty is divided by
        `resolution`, so that a larger resolution never gives fewer niches. Fewer different states than `k` give as many
        niches as there are states.
    shared
        Number of nodes that share one neighbourhood; the BIC counts nodes divided by it, because neighbouring states
        are means over mostly the same nodes.

    Raises
    ------
    QueryError
        If there are fewer nodes than niches, or `resolution` is not a positive number.
    """
    if not 0 < resolution < np.inf:
        raise QueryError("niches", f"resolution = {resolution:g}", "a number above 0", "1 is the usual one")
    sample = x if len(x) <= SAMPLE_ROWS else x[np.linspace(0, len(x) - 1, SAMPLE_ROWS).astype(int)]
    if k is not None and not 1 <= k <= len(sample):
        raise QueryError("niches", f"k = {k} for {len(sample)} nodes", "1 ≤ k ≤ number of nodes")
    middle = sample.mean(axis=0, dtype=float)
    sample = sample - middle
    first = min(max(FIRST_NICHES, (k or 0) + 10), len(sample))
    # The matrices are small: threads that wait for each other take longer than the work.
    with threadpool_limits(1):
        found: dict[int, tuple[float, NicheMixture]] = {}
        for start in range(STARTS):
            for likelihood, mixture in _descent(sample, first, shared, np.random.default_rng([seed, start])):
                n = len(mixture.weight)
                if n not in found or likelihood > found[n][0]:
                    found[n] = likelihood, mixture
    if k is None:
        counted = min(len(x) / shared, len(sample))
        k = _least_bic({n: likelihood for n, (likelihood, _) in found.items()}, x.shape[1], counted, resolution)
    best = found[min(k, max(found))][1]
    order = np.argsort(-best.weight, kind="stable")
    return NicheMixture(best.means[order] + middle, best.covariance, best.scale[order], best.weight[order])


def _least_bic(likelihood: dict[int, float], d: int, counted: float, resolution: float) -> int:
    """Return the number of niches with the least BIC; `likelihood` is the mean log-likelihood a node by number."""

    def bic(n: int) -> float:
        n_parameters = n * (d + 2) + d * (d + 1) // 2
        return float(-2.0 * likelihood[n] * counted + n_parameters * np.log(max(counted, 2.0)) / resolution)

    most = max(min(MAX_NICHES, int(counted) // NODES_A_NICHE), 1)
    return min((n for n in sorted(likelihood) if n <= most), key=bic)


def _descent(x: Floats, k: int, shared: float, generator: np.random.Generator) -> list[tuple[float, NicheMixture]]:
    """Return (mean log-likelihood a node, mixture) of `k` niches, then of each smaller number, merged from the last."""
    fitted = [_maximise(x, _first(x, k, generator), shared)]
    while len(fitted[-1][1].weight) > 1:
        fitted.append(_maximise(x, _merge_nearest(fitted[-1][1]), shared))
    return fitted


def _first(x: Floats, k: int, generator: np.random.Generator) -> NicheMixture:
    """Return a mixture around `k` well-spread nodes, by k-means++ and ten rounds of k-means, without empty ones."""
    chosen = [int(generator.integers(len(x)))]
    distance = ((x - x[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < k and distance.any():
        chosen.append(int(generator.choice(len(x), p=distance / distance.sum())))
        distance = np.minimum(distance, ((x - x[chosen[-1]]) ** 2).sum(axis=1))
    means = x[chosen]
    for _ in range(10):
        nearest = (x @ means.T - 0.5 * (means**2).sum(axis=1)).argmax(axis=1)
        member = sparse.csr_matrix((np.ones(len(x)), (nearest, np.arange(len(x)))), shape=(len(means), len(x)))
        size = np.bincount(nearest, minlength=len(means))
        means = (member @ x)[size > 0] / size[size > 0, None]
    weight = size[size > 0] / len(x)
    covariance = x.T @ x / len(x) - (means.T * weight) @ means + _ridge(x)
    return NicheMixture(means, covariance, np.ones(len(weight)), weight)


def _maximise(x: Floats, mixture: NicheMixture, shared: float) -> tuple[float, NicheMixture]:
    """Return the mean log-likelihood a node and the mixture after expectation-maximisation.

    A niche's scale is drawn towards one as if `shared` more nodes said so: a single neighbourhood has no spread.
    """
    before, ridge = -np.inf, _ridge(x)
    # What is merged on before it can be an answer need not be fitted to the end.
    tolerance = TOLERANCE * (1 if len(mixture.weight) <= MAX_NICHES else 10)
    for _ in range(STEPS):
        distance = mixture.squared_distance(x)
        posterior = mixture._log_density(distance)
        highest = posterior.max(axis=1, keepdims=True)
        posterior = np.exp(posterior - highest)
        total = posterior.sum(axis=1, keepdims=True)
        likelihood = float((highest + np.log(total)).mean())
        if likelihood - before < tolerance:
            break
        before = likelihood
        posterior /= total
        size = posterior.sum(axis=0) + 1e-9
        means = posterior.T @ x / size[:, None]
        moved = means - mixture.means
        step = np.einsum("kd,kd->k", moved @ np.linalg.inv(mixture.covariance), moved)
        spread = ((posterior * distance).sum(axis=0) - size * step) / x.shape[1]
        scale = (np.maximum(spread, 0.0) + shared) / (size + shared)
        scale /= np.exp((size * np.log(scale)).sum() / size.sum())
        own = x * (posterior / scale).sum(axis=1, keepdims=True)
        covariance = (x.T @ own - (means.T * (size / scale)) @ means) / len(x) + ridge
        mixture = NicheMixture(means, covariance, scale, size / size.sum())
    return likelihood, mixture


def _merge_nearest(mixture: NicheMixture) -> NicheMixture:
    """Return the mixture with those two niches made one that cost the least likelihood, were every node sure."""
    means, scale, weight = mixture.means, mixture.scale, mixture.weight
    d = means.shape[1]
    a, b = np.triu_indices(len(weight), 1)
    apart = means[a] - means[b]
    distance = np.einsum("pd,pd->p", apart @ np.linalg.inv(mixture.covariance), apart)
    both = weight[a] + weight[b]
    wide = (weight[a] * scale[a] + weight[b] * scale[b] + weight[a] * weight[b] / both * distance / d) / both

    def surprise(w: Floats, s: Floats) -> Floats:
        return w * (0.5 * d * np.log(s) - np.log(w))

    pair = int(np.argmin(surprise(both, wide) - surprise(weight[a], scale[a]) - surprise(weight[b], scale[b])))
    i, j = a[pair], b[pair]
    rest = np.setdiff1d(np.arange(len(weight)), (i, j))
    mean = (weight[i] * means[i] + weight[j] * means[j]) / both[pair]
    return NicheMixture(
        np.vstack([means[rest], mean]),
        mixture.covariance,
        np.append(scale[rest], wide[pair]),
        np.append(weight[rest], both[pair]),
    )


def _ridge(x: Floats) -> Floats:
    return 1e-6 * (float(x.var(axis=0).mean()) or 1.0) * np.eye(x.shape[1])


def smooth(log_density: Floats, adjacency: sparse.csr_matrix | None) -> tuple[Floats, float]:
    """Return posteriors (node, niche) of a Potts field over `adjacency` by mean field, and the coupling used.

    The coupling is the one under which each node's niche is best predicted by its neighbours' (pseudo-likelihood), so
    tissue without spatial order is not smoothed.

    References
    ----------
    Besag 1975, doi:10.2307/2987782 (pseudo-likelihood of lattice fields).
    """
    independent = np.exp(log_density - logsumexp(log_density, axis=1, keepdims=True))
    if adjacency is None or adjacency.nnz == 0 or log_density.shape[1] < 2:
        return independent, 0.0
    degree = np.maximum(np.diff(adjacency.indptr), 1)[:, None]
    mean = sparse.csr_matrix((np.ones(adjacency.nnz), adjacency.indices, adjacency.indptr), shape=adjacency.shape)
    coupling = max(COUPLINGS, key=lambda beta: _pseudo_likelihood(independent, (mean @ independent) / degree, beta))
    posterior = independent
    for _ in range(MEAN_FIELD_STEPS):
        field = log_density + coupling * (mean @ posterior) / degree
        posterior = np.exp(field - logsumexp(field, axis=1, keepdims=True))
    return posterior, coupling


def _pseudo_likelihood(posterior: Floats, neighbours: Floats, beta: float) -> float:
    field = beta * neighbours
    return float((posterior * (field - logsumexp(field, axis=1, keepdims=True))).sum())
