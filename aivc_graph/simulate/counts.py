"""Counts around expected ones: negative binomial, by common random numbers."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]
Counts = NDArray[np.int32]

_LARGE: Final = 30.0  # a mean from which summing the distribution term by term is slower than inverting it


def poisson_quantile(u: Array, mean: Array) -> Counts:
    """Return the least k with P(X ≤ k) ≥ u for X ~ Poisson(mean), of the shape of both.

    Equal `u` and means give equal counts, and a higher mean never a lower count: two sets of means read with the same
    `u` differ by nothing but the means (common random numbers).

    Parameters
    ----------
    u
        Uniform in [0, 1).
    mean
        Not negative.
    """
    found = np.zeros(np.shape(mean), np.int32).ravel()
    chance, rate = np.ravel(u), np.ravel(mean)
    large = np.flatnonzero(rate > _LARGE)
    found[large] = _inverted(chance[large], rate[large])
    left = np.flatnonzero((rate <= _LARGE) & (chance > np.exp(-rate)))
    chance, rate = chance[left], rate[left]
    term = np.exp(-rate)
    total, k = term.copy(), 0
    while len(left):
        k += 1
        term = term * rate / k
        total = total + term
        # Where no term adds any more, the rest of the distribution is below the last digit of `total`.
        more = (total < chance) & (term > 1e-17)
        found[left[~more]] = k
        left = left[more]
        chance, rate, term, total = (values[more] for values in (chance, rate, term, total))
    return found.reshape(np.shape(mean))


def overdispersion(shape: tuple[int, int], size: Array | float, rng: np.random.Generator) -> Array:
    """Return gamma noise ``(row, gene)`` of mean 1 and variance 1 / `size`: Poisson around it is negative binomial."""
    return rng.standard_gamma(np.broadcast_to(size, shape)) / size


def gene_sizes(level: Array, usual: float, spread: float, platform: int) -> Array:
    """Return each gene's size parameter (1 / dispersion) on a platform, ``(gene,)``.

    Log-normal around `usual` for the gene of median level, and going with the level itself: rare transcripts
    come in bursts.

    Parameters
    ----------
    level
        How much is made of each gene, in any unit, ``(gene,)``.
    spread
        Standard deviation of the natural log over genes.
    platform
        Number of the platform; the same gene has the same size in every section it measures.
    """
    own = np.random.default_rng([platform, len(level)]).normal(size=len(level))
    return usual * (level / np.median(level)) * np.exp(spread * own)


def _inverted(u: Array, mean: Array) -> Counts:
    found = np.ceil(special.pdtrik(u, mean)).astype(np.int32).clip(0)
    below = np.maximum(found - 1, 0)
    return np.where((found > 0) & (special.pdtr(below, mean) >= u), below, found)
