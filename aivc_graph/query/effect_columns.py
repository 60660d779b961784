"""Effects of interventions with their intervals, both of what the donors show, beside what is predicted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from aivc_graph.operators.moderated import moderated_by_level

Floats = NDArray[np.floating]
CONFIDENCE = 0.95
# Fewer genes do not tell how variances are spread.
LEAST_GENES = 30


def effect_columns(
    untreated: Floats,
    copies: Floats,
    error: Floats,
    uncertain: Floats,
    n_donors: int,
    reached: NDArray[np.bool_],
    level: Floats | None = None,
) -> dict[str, Floats]:
    r"""Return effects by place with their intervals and p-values, each (place, gene).

    With :math:`\hat\theta` the effect of all donors as it is, not shrunken, and :math:`\hat\theta_{(d)}` that without
    donor d of n,

    .. math:: \hat\theta \pm t_{n-1+n_0}\,s, \qquad
              s^2 = \tfrac{n-1}{n} \sum_d (\hat\theta_{(d)} - \bar\theta_{(\cdot)})^2 + (\epsilon\,\hat\theta)^2

    Few donors tell a variance badly: of a place with thirty genes or more, what they say is drawn towards what is usual
    at the `level` of each gene, which then counts for n₀ donors more.

    A shrunken effect is nearer to the truth on average. Its interval is that of the posterior, of its standard
    deviation and ε: right of all effects of a study and of those it tells of, while of small true ones that donors do
    not show it misses some (``benchmarks/effect_intervals.py``).

    Parameters
    ----------
    untreated, error
        Expression untreated, and the error ε of its level as a share of it (place, gene).
    uncertain
        Posterior standard deviation of shrunken effects (place, gene).
    copies
        Expression treated (copy, place, gene): by shrunken effects, by those of all donors as they are, and by those
        without each donor, where an interval is asked for.
    n_donors
        How many donors an interval rests on.
    reached
        Places of which any node is reached (place,): nothing changes in the others, for sure.
    level
        Expression of genes, above zero (place, gene). Without it nothing is drawn, and n₀ is 0.

    Returns
    -------
    dict
        ``estimate``, ``lower`` and ``upper`` (95 %), ``p`` of a t-test that there is no effect, and ``shrunken`` with
        ``shrunken_lower`` and ``shrunken_upper``. No interval and no p without copies to tell them by; no p where
        nothing is reached.

    References
    ----------
    Efron & Stein 1981, doi:10.1214/aos/1176345462 (the jackknife estimate of variance); Smyth 2004,
    doi:10.2202/1544-6115.1027 (variances drawn towards each other); Morris 1983, doi:10.1080/01621459.1983.10477920
    (intervals of empirical Bayes).
    """
    effects = copies - untreated
    shrunken, estimate, left_out = effects[0], effects[1], effects[2:]
    wide, narrow, p = np.full((3, *estimate.shape), np.nan)
    if len(left_out):
        variance, degrees = (len(left_out) - 1) * left_out.var(axis=0), np.full((len(estimate), 1), n_donors - 1.0)
        if level is not None and level.shape[1] >= LEAST_GENES:
            for place in np.flatnonzero(reached):
                found = moderated_by_level(variance[place], level[place], n_donors - 1)
                variance[place], degrees[place] = found
        spread = np.sqrt(variance + (error * estimate) ** 2)
        wide = special.stdtrit(degrees, 0.5 + CONFIDENCE / 2) * spread
        t = -np.abs(estimate) / np.where(spread > 0, spread, 1)
        p = np.where(spread > 0, 2 * special.stdtr(degrees, t), np.nan)
        narrow = special.ndtri(0.5 + CONFIDENCE / 2) * np.hypot(uncertain, error * shrunken)
    wide[~reached], narrow[~reached], p[~reached] = 0.0, 0.0, np.nan
    told = {"estimate": estimate, "lower": estimate - wide, "upper": estimate + wide, "p": p, "shrunken": shrunken}
    return told | {"shrunken_lower": shrunken - narrow, "shrunken_upper": shrunken + narrow}


def error_of_shares(share: Floats, error: Floats) -> Floats:
    """Return standard errors of log shares (node, molecule) that sum to one, from those of log expression.

    Where one molecule falls the others rise, so what is not known of one is not known of the others either.
    """
    variance = error**2
    return np.asarray(np.sqrt(variance * (1 - 2 * share) + (share**2 * variance).sum(axis=1, keepdims=True)))
