"""Niches that recur over donors: how far each donor's own spread of states is set aside, and along how many axes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aivc_graph.query.mixture import Floats, StateMixture, fit_along, fit_mixtures
from aivc_graph.query.number_of_niches import information

# How far donors are evened out, and leading axes of states that are tried beside all; the first of each is no change.
EVENNESS, AXES = (0.0, 0.5, 1.0), (None, 4, 8)
# The number of niches by which they are compared, and into how many groups donors are parted to be left out.
USUAL, FOLDS = 8, 4
# A donor's spread is taken with as many nodes of the common one.
PRIOR_NODES = 30


def evened(x: Floats, donor: NDArray[np.integer], spread: Floats, evenness: float) -> Floats:
    r"""Return states that vary in each donor as they do in all, by degrees.

    .. math:: \bar x_d + (x - \bar x_d)\,(\sigma / \sigma_d)^{a}

    with the mean :math:`\bar x_d` and the standard deviation :math:`\sigma_d` of each donor, per coordinate. A mixture
    spends its parts on a tumour that varies most along an axis of its own: niches then follow donors. At a = 0 nothing
    changes; the order of a donor's nodes along a coordinate never does.

    Parameters
    ----------
    x
        Niche states (node, latent).
    donor
        Code of the donor of each node (node,).
    spread
        Common standard deviation (latent,).
    evenness
        a, from 0 to 1.
    """
    if not evenness:
        return x
    found = np.array(x, dtype=float)
    for one in np.unique(donor):
        rows = donor == one
        middle = found[rows].mean(axis=0)
        apart = found[rows] - middle
        variance = ((apart**2).sum(axis=0) + PRIOR_NODES * spread**2) / (len(apart) + PRIOR_NODES)
        found[rows] = middle + apart * (spread / np.sqrt(variance)) ** evenness
    return found


def recurring(
    x: Floats, kinds: Floats, donor: NDArray[np.integer], k: int | None, seed: int
) -> tuple[dict[int, StateMixture], float]:
    """Return the mixture of each number of niches, and the evenness of the states that it is a mixture of.

    Evenness and axes are those under which niches of some donors tell most of the kinds of node within others, who were
    left out; nothing is changed where no change is better than none by its standard error over donors. Of one donor,
    there is nothing to choose by.

    Parameters
    ----------
    x
        Niche states (node, latent).
    kinds
        Share of each kind in every node (node, kind).
    donor
        Code of the donor of each node (node,).
    k
        Number of niches, if it is given.
    """
    spread, few = spread_of(x), [n for n in AXES if n is None or n < x.shape[1]]
    best: tuple[float, int | None] = (EVENNESS[0], few[0])

    def told(evenness: float, axes: int | None) -> Floats:
        return _told(evened(x, donor, spread, evenness), axes, kinds, donor, k or USUAL, seed)

    if len(np.unique(donor)) > 1:
        plain = {(EVENNESS[0], n): told(EVENNESS[0], n) for n in few}
        _, axes = max(plain, key=lambda choice: float(plain[choice].mean()))
        every = plain | {(a, axes): told(a, axes) for a in EVENNESS[1:]}
        chosen = max(every, key=lambda choice: float(every[choice].mean()))
        gain = every[chosen] - every[best]
        if gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)):
            best = chosen
    evenness, axes = best
    return _fitted(evened(x, donor, spread, evenness), axes, seed, k or 0, k or 1), evenness


def spread_of(x: Floats) -> Floats:
    """Return the standard deviation of states along each coordinate (latent,), 1 where there is no state."""
    return np.maximum(x.std(axis=0), 1e-9) if len(x) else np.ones(x.shape[1])


def _told(x: Floats, axes: int | None, kinds: Floats, donor: NDArray[np.integer], k: int, seed: int) -> Floats:
    """Return what niches of the others tell of the kinds of node in each donor (donor,) [nats a node]."""
    donors = np.unique(donor)
    fold = np.arange(len(donors)) % FOLDS
    told = np.zeros(len(donors))
    for one in np.unique(fold):
        out = np.isin(donor, donors[fold == one])
        found = _fitted(x[~out], axes, seed, k, k, starts=1)
        mixture = found[min(k, max(found))]
        for i in np.flatnonzero(fold == one):
            rows = donor == donors[i]
            told[i] = information(mixture.posterior(x[rows]), kinds[rows])
    return told


def _fitted(x: Floats, axes: int | None, seed: int, most: int, least: int, **more: int) -> dict[int, StateMixture]:
    if axes is None:
        return fit_mixtures(x, seed, most=most, least=least, **more)
    return fit_along(x, axes, seed, most=most, least=least, **more)
