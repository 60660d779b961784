"""Pairs of places that disagree with the map the others make: marked elsewhere, or exchanged with another."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from aivc_graph.tissue.frame import Matrix, apply_affine
from aivc_graph.tissue.registration.departure import Departure, fit_departure
from aivc_graph.tissue.registration.landmark_files import LISTED
from aivc_graph.tissue.registration.method import Registration
from aivc_graph.tissue.registration.pairs import KnownPairs

# Of points that are all right, this share of registrations has one that is called doubtful.
UNLIKELY = 0.01
# One in so many may be wrong, and so many at most, or the others say nothing; of more points each is told by the rest.
ONE_IN, MOST, FEW = 4, 5, 200
# Names are exchanged by hand, of no more points than somebody marks; by how many times likelier, as of mirrors.
BY_HAND, LIKELIER = 40, float(np.log(20.0))
LeftOver = Callable[[Matrix, Matrix], float]


def doubts_of_pairs(
    found: Registration,
    fit: Departure,
    sigma_um: Matrix,
    pairs: KnownPairs,
    taken: NDArray[np.bool_],
    affine: bool,
    left_over: LeftOver | None,
) -> tuple[NDArray[np.bool_], list[str]]:
    """Return which pairs are doubtful (pair,), and what is said of them.

    Parameters
    ----------
    found, fit, sigma_um
        The map that was fitted to those `taken`, what it leaves over, and its standard error at each pair.
    affine
        The map has six parameters.
    left_over
        What the best map of points ``(point, 2)`` to others leaves [µm]; None where nobody put them by hand, who may
        have taken one for another.
    """
    straight, off = apply_affine(pairs.moving, found.affine), pairs.fixed - found.map(pairs.moving)
    doubtful, known = np.zeros(len(pairs), bool), np.flatnonzero(taken)
    swap = left_over and exchanged(pairs.moving[known], pairs.fixed[known], left_over)
    if swap:
        one, other = known[list(swap[:2])]
        doubtful[[one, other]] = True
        said = f"landmarks: {pairs.names[one]!r} and {pairs.names[other]!r} look exchanged: the map leaves "
        return doubtful, [
            f"{said}{swap[2]:.3g} µm, and {swap[3]:.3g} the other way round; swap their names in one file"
        ]
    asked = np.ones(len(pairs), bool)
    if len(known) <= FEW:
        left = pairs.fixed[known] - straight[known]
        doubtful[known[outlying(straight[known], left, affine=affine)]] = True
        asked = ~taken
    doubtful[asked] = far_off(fit, sigma_um[asked], off[asked])
    return doubtful, _told(pairs.names, np.linalg.norm(off, axis=1), sigma_um, doubtful)


def _told(called: tuple[str, ...], off: Matrix, sigma: Matrix, doubtful: NDArray[np.bool_]) -> list[str]:
    worst = [i for i in np.argsort(-off) if doubtful[i]]
    each = ", ".join(f"{called[i]!r} by {off[i]:.3g} µm (σ there {sigma[i]:.3g} µm)" for i in worst[:LISTED])
    more = f" and {len(worst) - LISTED} more" if len(worst) > LISTED else ""
    mend = "is it the same place in both? mark it again, or leave it out"
    return [f"landmarks: farther from where the map puts them than the others: {each}{more}; {mend}"] if worst else []


def outlying(placed_um: Matrix, left_um: Matrix, *, affine: bool) -> NDArray[np.int64]:
    """Return which of a few pairs lie farther from where the others put them than those are from each other.

    The worst is left out, then the worst of the rest, and so on, so that one does not hide another; doubtful are all up
    to the last that is unlikely to be off by chance.

    Parameters
    ----------
    placed_um, left_um
        As for `fit_departure`.

    References
    ----------
    Rosner 1983, doi:10.1080/00401706.1983.10487848.
    """
    rows, left_out, doubtful = np.arange(len(placed_um)), list[int](), 0
    for step in range(min(len(rows) // ONE_IN, MOST)):
        fit = fit_departure(placed_um[rows], left_um[rows], affine=affine)
        if fit is None:
            break
        chance = fit.left_out()
        worst = int(chance.argmin())
        if chance[worst] < UNLIKELY / len(rows):
            doubtful = step + 1
        left_out.append(int(rows[worst]))
        rows = np.delete(rows, worst)
    return np.array(left_out[:doubtful], np.int64)


def far_off(fit: Departure, sigma_um: Matrix, off_um: Matrix) -> NDArray[np.bool_]:
    """Return which of many pairs, or of those that did not fit the map, are off by more than a pair is by chance.

    Parameters
    ----------
    sigma_um
        Standard error of the map there, ``(pair,)``.
    off_um
        From where the map, bent or not, puts them to where they are, ``(pair, 2)``.
    """
    square = (off_um**2).sum(axis=1) / np.maximum(sigma_um**2 + (0.0 if fit.coarse else fit.alone_um2), 1e-18)
    return np.asarray(np.exp(-square / 2) < UNLIKELY / max(len(off_um), 1))


def exchanged(moving: Matrix, fixed_um: Matrix, left_over: LeftOver) -> tuple[int, int, float, float] | None:
    """Return the two points that fit surely better the other way round; and what is left over as they are, and then."""
    n = len(moving)
    if not 2 < n <= BY_HAND:
        return None
    tried = list(itertools.combinations(range(n), 2))
    left = []
    for i, j in tried:
        order = np.arange(n)
        order[[i, j]] = j, i
        left.append(left_over(moving, fixed_um[order]))
    best = int(np.argmin(left))
    now, least = left_over(moving, fixed_um), 1e-9 * float(np.ptp(fixed_um, axis=0).max())
    gain = (2 * n - 4) * np.log((now + least) / (left[best] + least))
    return (*tried[best], now, left[best]) if gain > LIKELIER + np.log(len(tried)) else None
