"""Effects of interventions with their intervals, both of what the donors show, beside what is predicted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.floating]
CONFIDENCE = 0.95


def effect_columns(
    untreated: Floats, copies: Floats, error: Floats, n_donors: int, reached: NDArray[np.bool_]
) -> dict[str, Floats]:
    r"""Return effects by place with their intervals and p-values, each (place, gene).

    With :math:`\hat\theta` the effect of all donors as it is, not shrunken, and :math:`\hat\theta_{(d)}` that without
    donor d of n,

    .. math:: \hat\theta \pm t_{n-1}\,s, \qquad
              s^2 = \tfrac{n-1}{n} \sum_d (\hat\theta_{(d)} - \bar\theta_{(\cdot)})^2 + (\epsilon\,\hat\theta)^2

    A shrunken effect has no interval: it is nearer to the truth on average, but an interval about it that is as narrow
    as the shrinkage says misses every second molecule that does change (``benchmarks/effect_intervals.py``).

    Parameters
    ----------
    untreated, error
        Expression untreated, and the error ε of its level as a share of it (place, gene).
    copies
        Expression treated (copy, place, gene): by shrunken effects, by those of all donors as they are, and by those
        without each donor, where an interval is asked for.
    n_donors
        How many donors an interval rests on.
    reached
        Places of which any node is reached (place,): nothing changes in the others, for sure.

    Returns
    -------
    dict
        ``estimate``, ``lower`` and ``upper`` (95 %), ``p`` of a t-test that there is no effect, and ``shrunken``. No
        interval and no p without copies to tell them by; no p where nothing is reached.

    References
    ----------
    Efron & Stein 1981, doi:10.1214/aos/1176345462 (the jackknife estimate of variance).
    """
    effects = copies - untreated
    shrunken, estimate, left_out = effects[0], effects[1], effects[2:]
    wide, p = (np.full(estimate.shape, np.nan) for _ in range(2))
    if len(left_out):
        spread = np.sqrt((len(left_out) - 1) * left_out.var(axis=0) + (error * estimate) ** 2)
        wide = special.stdtrit(n_donors - 1, 0.5 + CONFIDENCE / 2) * spread
        p[spread > 0] = 2 * special.stdtr(n_donors - 1, -np.abs(estimate / np.where(spread > 0, spread, 1)))[spread > 0]
    wide[~reached], p[~reached] = 0.0, np.nan
    return {"estimate": estimate, "lower": estimate - wide, "upper": estimate + wide, "p": p, "shrunken": shrunken}
