"""Unbalanced entropic transport between cells of two sections, piece by piece."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
# Cells of either side that are coupled at once: no plan is larger than their square.
MOST_COUPLED = 1_500
# Blur of the plan in units of cost, and what it costs to leave mass behind.
BLUR, SLACK = 0.1, 1.0


def barycentres(given: Floats, asked: Floats, seed: int) -> Floats:
    r"""Return for each asked cell the mean place (asked, axis) of the given cells that transport couples it to.

    .. math:: \min_{P \ge 0} \langle P, 1 - \cos\rangle + \epsilon \mathrm{KL}(P \| a b^\top)
              + \rho\,\mathrm{KL}(P 1 \| a) + \rho\,\mathrm{KL}(P^\top 1 \| b)

    Cells of a kind that only one side has may stay behind. Asked cells are dealt at random into pieces of equal size,
    each coupled to as many given cells at random, so that no array of all cells by all cells is made.

    Parameters
    ----------
    given, asked
        Places of unit length (cell, axis).

    References
    ----------
    Chizat et al. 2018, doi:10.1090/mcom/3303 (unbalanced Sinkhorn); Fatras et al. 2020, arXiv:1910.04091
    (mini-batches); Flamary et al. 2021, jmlr.org/papers/v22/20-451.html (POT).
    """
    import ot

    rng, found = np.random.default_rng(seed), np.zeros((len(asked), given.shape[1]))
    for piece in np.array_split(rng.permutation(len(asked)), -(-len(asked) // MOST_COUPLED)):
        some = rng.permutation(len(given))[:MOST_COUPLED]
        mass = [np.full(len(one), 1 / len(one)) for one in (some, piece)]
        plan = ot.unbalanced.sinkhorn_unbalanced(*mass, 1 - given[some] @ asked[piece].T, BLUR, SLACK)
        found[piece] = plan.T @ given[some] / plan.sum(axis=0)[:, None]
    return found
