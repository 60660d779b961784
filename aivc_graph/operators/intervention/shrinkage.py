"""Adaptive shrinkage: many small effects go to nothing, few large ones stay as they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

# Standard deviations of natural-log effects that the prior is mixed from; the first is no effect at all.
SPREADS = np.concatenate([[0.0], 0.02 * 2.0 ** np.arange(8)])
# Observations that speak beforehand for no effect, against one for each other spread.
FOR_NOTHING = 10.0
STEPS = 60


def shrunken(estimate: Floats, error: Floats) -> Floats:
    r"""Return posterior means of effects, of any shape.

    With estimates :math:`b_i \sim N(\theta_i, s_i^2)` the prior is :math:`\theta_i \sim \sum_m \pi_m N(0, \sigma_m^2)`
    with its weights π fitted to all the estimates by expectation maximisation: where hardly any molecule answers, the
    many are held at nothing without flattening the few.

    Parameters
    ----------
    estimate, error
        Estimates and their standard errors; an unknown one has a large error.

    References
    ----------
    Stephens 2017, doi:10.1093/biostatistics/kxw041 (adaptive shrinkage).
    """
    b, variance = estimate.reshape(-1, 1), error.reshape(-1, 1) ** 2 + SPREADS**2
    share = _shares(_log_likelihood(b, variance), SPREADS == 0)
    return (b[:, 0] * (share * SPREADS**2 / variance).sum(axis=1)).reshape(estimate.shape)


def shrunken_together(
    mean: Floats, mean_error: Floats, departure: Floats, departure_error: Floats
) -> tuple[Floats, Floats]:
    r"""Return posterior means of what components share (molecule,) and of their departures (component, molecule).

    A molecule that answers does so as a whole: it has one size of effect σ and one of how components differ τ, drawn
    together, :math:`(\sigma, \tau) \sim \pi`, with the weights π fitted to all molecules; most have neither. So what
    components share tells whether their differences are believed, and the other way round.

    Parameters
    ----------
    mean, mean_error
        Mean over components and its standard error (molecule,).
    departure, departure_error
        Departures from it and their standard errors (component, molecule). They sum to about nothing, so that of k
        they speak as k − 1.

    References
    ----------
    Stephens 2017, doi:10.1093/biostatistics/kxw041; Urbut et al. 2019, doi:10.1038/s41588-018-0268-8 (of several
    conditions together).
    """
    variance, around = mean_error[:, None] ** 2 + SPREADS**2, departure_error[..., None] ** 2 + SPREADS**2
    free = (len(departure) - 1) / len(departure)
    by_spread = free * _log_likelihood(departure[..., None], around).sum(axis=0)
    both = _log_likelihood(mean[:, None], variance)[:, :, None] + by_spread[:, None]
    share = _shares(both.reshape(len(mean), -1), np.arange(both[0].size) == 0).reshape(both.shape)
    return (
        mean * (share.sum(axis=2) * SPREADS**2 / variance).sum(axis=1),
        departure * (share.sum(axis=1) * SPREADS**2 / around).sum(axis=-1),
    )


def _log_likelihood(value: Floats, variance: Floats) -> Floats:
    return np.asarray(-0.5 * (np.log(variance) + value**2 / variance))


def _shares(log_likelihood: Floats, nothing: NDArray[np.bool_]) -> Floats:
    """Return how likely each kind of effect, one of which is `nothing` (kind,), is that of each row (row, kind)."""
    likelihood = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
    before = np.where(nothing, FOR_NOTHING, 1.0)
    weight = before / before.sum()
    for _ in range(STEPS):
        share = likelihood * weight
        share /= share.sum(axis=1, keepdims=True)
        weight = share.sum(axis=0) + before - 1
        weight /= weight.sum()
    share = likelihood * weight
    return np.asarray(share / share.sum(axis=1, keepdims=True))


def log_evidence(square: Floats, cross: Floats) -> float:
    """Return how likely effects of that prior are, against none, summed over molecules.

    Parameters
    ----------
    square, cross
        Weighted products of the design with itself (molecule, p, p) and with the response (molecule, p).
    """
    eye = np.eye(square.shape[-1])
    evidence = np.zeros((len(SPREADS), len(square)))
    for i, spread in enumerate(SPREADS[1:], 1):
        inside = eye + spread**2 * square
        explained = np.einsum("gp,gp->g", cross, np.linalg.solve(inside, spread**2 * cross[..., None])[..., 0])
        evidence[i] = 0.5 * (explained - np.linalg.slogdet(inside)[1])
    before = np.where(SPREADS == 0, FOR_NOTHING, 1.0)[:, None]
    top = evidence.max(axis=0)
    return float((top + np.log((before * np.exp(evidence - top)).sum(axis=0) / before.sum())).sum())
