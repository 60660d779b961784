"""Niches as a Gaussian mixture of neighbourhood states, smoothed over neighbours."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import logsumexp

from aivc_graph.errors import QueryError

STARTS = 10
SAMPLE_ROWS = 20_000
MAX_NICHES = 20
COUPLINGS = (0.0, 0.5, 1.0, 2.0, 3.0)
MEAN_FIELD_STEPS = 20
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class NicheMixture:
    """A mixture with one covariance: `means` (niche, latent), `precision` (latent, latent), `log_weight` (niche,)."""

    means: Floats
    precision: Floats
    log_weight: Floats

    def log_density(self, x: Floats) -> Floats:
        """Return log weight × density of each niche (node, niche), up to a constant."""
        inner = np.einsum("kd,de->ke", self.means, self.precision)
        constant = self.log_weight - 0.5 * np.einsum("kd,kd->k", inner, self.means)
        return x @ inner.T + constant - 0.5 * np.einsum("nd,de,ne->n", x, self.precision, x)[:, None]


def fit_mixture(x: Floats, k: int | None, resolution: float, seed: int, shared: float = 1.0) -> NicheMixture:
    """Fit a mixture to states `x` (node, latent): the best of ten starts.

    Parameters
    ----------
    k
        Number of niches; if not given, the number from 1 to 20 with the least BIC whose penalty is divided by
        `resolution`, so that a larger resolution gives more niches.
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
    if k is not None:
        return _fit(sample, k, seed, STARTS)[0]
    counted = len(x) / shared
    scores = []
    for n in range(1, max(min(MAX_NICHES, len(sample) // 10), 1) + 1):
        _, likelihood, n_parameters = _fit(sample, n, seed, 2)
        scores.append(-2.0 * likelihood * counted + n_parameters * np.log(counted) / resolution)
    return _fit(sample, 1 + int(np.argmin(scores)), seed, STARTS)[0]


def _fit(x: Floats, k: int, seed: int, starts: int) -> tuple[NicheMixture, float, int]:
    """Return the mixture, its mean log-likelihood a node, and its number of parameters."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    scale = float(x.var(axis=0).mean()) or 1.0
    mixture = GaussianMixture(
        k, covariance_type="tied", n_init=starts, random_state=seed, reg_covar=1e-6 * scale, max_iter=200
    )
    x = x if len(x) > 1 else np.repeat(x, 2, axis=0)  # a tissue of one node has one niche
    # The matrices are small: threads that wait for each other take longer than the work.
    with threadpool_limits(1), warnings.catch_warnings():
        # Fewer different states than niches, as in tissue of one kind: the niches that stay empty are an answer.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(x)
    order = np.argsort(-mixture.weights_, kind="stable")
    found = NicheMixture(mixture.means_[order], mixture.precisions_, np.log(mixture.weights_[order]))
    d = x.shape[1]
    return found, float(mixture.score(x)), k * d + d * (d + 1) // 2 + k - 1


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
