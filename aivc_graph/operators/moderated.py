"""Variances of many genes, each from few units, drawn towards what is usual among them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, polygamma

Floats = NDArray[np.floating]
LEAST = 1e-12


def moderated_variance(variance: Floats, df: float) -> tuple[Floats, float]:
    r"""Return variances drawn towards their own distribution (gene,), and the degrees of freedom of each.

    .. math:: \tilde s^2 = \frac{d_0 s_0^2 + d\,s^2}{d_0 + d}, \qquad s^2 \sim s_0^2\,F_{d, d_0}

    d₀ and s₀² by the mean and variance of log s². Where variances differ by no more than chance makes them, d₀ is
    infinite. Variances of nought say nothing and stay out.

    References
    ----------
    Smyth 2004, doi:10.2202/1544-6115.1027 (limma).
    """
    from scipy import optimize

    seen = variance > LEAST
    if seen.sum() < 2:
        return variance, float(df)
    log_ratio = np.log(variance[seen]) - digamma(df / 2) + np.log(df / 2)
    spread = float(log_ratio.var(ddof=1) - polygamma(1, df / 2))
    most = float(df * seen.sum())
    if spread <= LEAST:
        return np.full_like(variance, np.exp(log_ratio.mean())), most
    # The trigamma function falls from infinity to 0.
    prior = 2 * optimize.brentq(lambda x: polygamma(1, x) - spread, 1e-8, 10 / spread + 10)
    usual = np.exp(log_ratio.mean() + digamma(prior / 2) - np.log(prior / 2))
    return (prior * usual + df * variance) / (prior + df), min(df + prior, most)


def moderated_by_level(variance: Floats, level: Floats, df: int) -> tuple[Floats, float]:
    """Return variances drawn towards what is usual at the level of each gene (gene,), and their degrees of freedom.

    The logarithm of what is usual goes linearly with that of the level.

    Parameters
    ----------
    level
        Expression of each gene, above zero (gene,).

    References
    ----------
    Law et al. 2014, doi:10.1186/gb-2014-15-2-r29 (limma-trend).
    """
    seen = variance > LEAST
    if seen.sum() < 2:
        return variance, float(df)
    line = np.column_stack([np.ones(len(level)), np.log(level)])
    usual = np.exp(line @ np.linalg.lstsq(line[seen], np.log(variance[seen]), rcond=None)[0])
    found, degrees = moderated_variance(variance / usual, df)
    return usual * found, degrees
