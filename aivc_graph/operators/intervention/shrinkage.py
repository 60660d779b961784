"""Adaptive shrinkage: many small effects go to nothing, few large ones stay as they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

# Standard deviations of natural-log effects that the prior is mixed from; the first is no effect at all.
SPREADS = np.concatenate([[0.0], 0.02 * 2.0 ** np.arange(8)])
# Observations that speak beforehand for no effect, against one for each other spread.
FOR_NOTHING = 10.0
STEPS = 60
# No smaller a share is told from nought.
LEAST = 1e-300


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
    share = _shares(-0.5 * (np.log(variance) + b**2 / variance), SPREADS == 0)
    return (b[:, 0] * (share * SPREADS**2 / variance).sum(axis=1)).reshape(estimate.shape)


@dataclass(frozen=True)
class Posterior:
    """What is known of effects (component, molecule): their `mean`, and its standard deviation, `error`.

    `evidence` is how likely the estimates are with such effects, against with none at all [nats].
    """

    mean: Floats
    error: Floats
    evidence: float


def shrunken_together(estimate: Floats, error: Floats, in_common: Floats) -> Posterior:
    r"""Return what is known of effects, a molecule's over components together.

    .. math:: b_g \sim N(\theta_g,\ \operatorname{diag}(s_{gj}^2) + c_g 1 1^\top), \qquad
              \theta_g \sim \textstyle\sum_m \pi_m N(0, U_m)

    with :math:`U_m` nothing, :math:`\sigma^2 1 1^\top + \tau^2 I` (components answer alike up to τ) or
    :math:`\sigma^2 e_j e_j^\top` (one of them answers alone), for all sizes in `SPREADS`, and the weights π fitted to
    all molecules: most do not answer at all, and one that does is believed wherever it tells of itself.

    Parameters
    ----------
    estimate, error
        Estimates and their standard errors (component, molecule); an unknown one has a large error.
    in_common
        Variance of the error that all components of a molecule share (molecule,).

    References
    ----------
    Urbut et al. 2019, doi:10.1038/s41588-018-0268-8 (adaptive shrinkage of many conditions with canonical covariances).
    """
    alone, alike = _covariances(len(estimate))
    total = in_common[:, None] + alike
    sums, squares, certain, log_variance = np.zeros((4, len(in_common), len(alike)))
    for b, s, own in zip(estimate, error, alone.T, strict=True):
        variance = s[:, None] ** 2 + own
        sums += b[:, None] / variance
        squares += b[:, None] ** 2 / variance
        certain += 1 / variance
        log_variance += np.log(variance)
    # The inverse of a diagonal and one more direction: Sherman & Morrison 1950, doi:10.1214/aoms/1177729893.
    inside = 1 + total * certain
    nothing = np.arange(len(alike)) == 0
    share = _shares(-0.5 * (log_variance + np.log(inside) + squares - total * sums**2 / inside), nothing)
    told = []
    for b, s, own in zip(estimate, error, alone.T, strict=True):
        variance = s[:, None] ** 2 + own
        mean = alike * sums / inside + own * (b[:, None] - total * sums / inside) / variance
        # The covariance of the effect with all estimates is alike · 1 + own · e_j.
        known = alike**2 * certain + (2 * alike + own) * own / variance
        known -= total * (alike * certain + own / variance) ** 2 / inside
        told.append([(share * mean).sum(axis=1), (share * (alike + own - known + mean**2)).sum(axis=1)])
    mean, squared = np.moveaxis(np.array(told), 1, 0)
    # The likelihood of a molecule's estimates is that of none over the share of none.
    usual = (share[:, 0].sum() + FOR_NOTHING - 1) / (len(share) + FOR_NOTHING - 1)
    evidence = float((np.log(usual) - np.log(np.maximum(share[:, 0], LEAST))).sum())
    return Posterior(mean, np.sqrt(np.maximum(squared - mean**2, 0.0)), evidence)


def _covariances(components: int) -> tuple[Floats, Floats]:
    """Return prior variances of kinds of effects: of components by themselves (kind, component), in common (kind,)."""
    in_common, by_itself = (part.ravel() ** 2 for part in np.meshgrid(SPREADS, SPREADS, indexing="ij"))
    one = np.kron(SPREADS[1:, None] ** 2, np.eye(components))
    alone = np.concatenate([np.repeat(by_itself[:, None], components, axis=1), one])
    return alone, np.r_[in_common, np.zeros(len(one))]


def _shares(log_likelihood: Floats, nothing: NDArray[np.bool_]) -> Floats:
    """Return how likely each kind of effect, one of which is `nothing` (kind,), is that of each row (row, kind)."""
    likelihood = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
    before = np.where(nothing, FOR_NOTHING, 1.0)
    weight = np.where(nothing, 0.5, 0.5 / (len(nothing) - 1))
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
