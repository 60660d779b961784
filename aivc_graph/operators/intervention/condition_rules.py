"""Rules that tell the effect of a condition from those of others, each as weights of training rows.

`rows` are the rows asked about, `x` what is known of each row's parts (row, f); weights are (asked, row).
"""

from __future__ import annotations

import numpy as np

from aivc_graph.operators.intervention.conditions import Conditions, Floats, Ints, Mask, components
from aivc_graph.operators.kernels import ridge_shares, squared_distances

PENALTY = 0.1
NEIGHBOURS = 3
TIE = 1e-9


def alone(given: Conditions, row: int | np.integer) -> Floats:
    """Return the rows that tell each part's effect alone (part, row).

    From the same context where training has it there, else the mean over other contexts, else the mean over all single
    perturbations of training, or over all conditions where none is single.
    """
    single = given.train & (given.parts.sum(axis=1) == 1)
    found = []
    for part in np.flatnonzero(given.parts[row]):
        there = single & given.parts[:, part]
        found.append(_first_of(there & (given.context == given.context[row]), there, single, given.train))
    return np.stack(found)


def additive(given: Conditions, rows: Ints) -> Floats:
    """Weigh so that the effects of the parts alone add up."""
    return np.stack([alone(given, row).sum(axis=0) for row in rows])


def saturated(effects: Floats) -> Floats:
    """Return the largest rise plus the deepest fall of each gene (gene,) among effects (part, gene)."""
    return np.asarray(effects.clip(min=0).max(axis=0) + effects.clip(max=0).min(axis=0))


def mean_of_context(given: Conditions, rows: Ints) -> Floats:
    """Weigh alike the training rows of the same context, all of them where it has none."""
    return np.stack([_first_of(given.train & (given.context == given.context[row]), given.train) for row in rows])


def same_elsewhere(given: Conditions, rows: Ints) -> Floats:
    """Weigh alike the training rows of the same parts, all of them where there are none."""
    return np.stack([_first_of(_seen(given, row), given.train) for row in rows])


def nearest_context(given: Conditions, rows: Ints) -> Floats:
    """Weigh the training rows of the same parts in the context whose untreated state is most alike; ties all count.

    Where no state is known it is the mean of the same elsewhere, and where there is no such row, that of all.
    """
    shares = same_elsewhere(given, rows)
    for i, row in enumerate(rows):
        far = np.where(_seen(given, row), given.apart[given.context[row], given.context], np.nan)
        if np.isfinite(far).any():
            shares[i] = _first_of(far <= np.nanmin(far) + TIE)
    return shares


def alike_contexts(given: Conditions, rows: Ints) -> Floats:
    r"""Weigh the training rows of the same parts by :math:`\exp(-d/\tau)`, d how far their untreated states are.

    The width :math:`\tau` is the median between training contexts. Where no state or no width is known it is the mean
    of the same elsewhere, and where there is no such row, that of all.

    References
    ----------
    Nadaraya 1964, doi:10.1137/1109020.
    """
    shares = same_elsewhere(given, rows)
    for i, row in enumerate(rows if given.width > 0 else ()):
        near = np.nan_to_num(np.exp(-given.apart[given.context[row], given.context] / given.width)) * _seen(given, row)
        if near.any():
            shares[i] = near / near.sum()
    return shares


def between_amounts(given: Conditions, rows: Ints) -> Floats:
    """Weigh the training rows of the same parts so that effects go linearly from one dose to the next, in logarithms.

    So too from one duration to the next where doses are equal; beyond the range it is the nearest. Those of the same
    place tell, of all places where there is none. Without two amounts it is the mean of the same elsewhere.
    """
    shares = same_elsewhere(given, rows)
    place, amounts = given.place[given.context], given.amounts[given.context]
    for i, row in enumerate(rows):
        seen, away = _seen(given, row), amounts - amounts[row]
        here = seen & (place == place[row])
        told = here if here.any() else seen
        for one, other in ((0, 1), (1, 0)):
            along = told & (np.abs(away[:, other]) <= TIE)
            if along.any() and np.ptp(away[along, one]) > TIE:
                shares[i] = _interpolated(away[:, one], along)
                break
    return shares


def mean(given: Conditions, rows: Ints) -> Floats:
    """Weigh all training rows alike."""
    return np.repeat(given.train[None] / given.train.sum(), len(rows), axis=0)


def bilinear_ridge(given: Conditions, rows: Ints, x: Floats) -> Floats:
    r"""Weigh for :math:`\bar y + G W p`, G ten components of training effects, p the features of the parts.

    References
    ----------
    Ahlmann-Eltze, Huber & Anders 2025, doi:10.1038/s41592-025-02772-6 (penalty 0.1, as there).
    """
    centre = x[given.train].mean(axis=0)
    own = x[given.train] - centre
    axes, _ = components(given)
    return _around_mean(given, ridge_shares(own @ own.T, (x[rows] - centre) @ own.T, PENALTY) @ axes @ axes.T)


def kernel_ridge(given: Conditions, rows: Ints, x: Floats) -> Floats:
    """Weigh by ridge with a Gaussian kernel around the mean; its width is the median distance of training rows."""
    own = x[given.train]
    squares = squared_distances(own, own)
    width = float(np.median(squares[np.triu_indices(len(squares), 1)])) or 1.0
    cross = np.exp(-squared_distances(x[rows], own) / width)
    return _around_mean(given, ridge_shares(np.exp(-squares / width), cross, PENALTY))


def nearest(given: Conditions, rows: Ints, x: Floats) -> Floats:
    """Weigh alike the three training rows with the nearest features; ties are all taken."""
    far = squared_distances(x[rows], x[given.train])
    limit = np.sort(far, axis=1)[:, NEIGHBOURS - 1 : NEIGHBOURS]
    near = (far <= limit + 1e-12).astype(float)
    return _of_all(given, near / near.sum(axis=1, keepdims=True))


def _seen(given: Conditions, row: int | np.integer) -> Mask:
    """Return the training rows in which the same was done (row,)."""
    return np.asarray(given.train & (given.parts == given.parts[row]).all(axis=1))


def _interpolated(away: Floats, told: Mask) -> Floats:
    """Return the weights of rows (row,) by linear interpolation at 0, among those that are `told` and lie `away`."""
    below, above = (told & (sign * away >= -TIE) for sign in (-1, 1))
    if not below.any() or not above.any():
        return _first_of(told & (np.abs(away) <= np.abs(away[told]).min() + TIE))
    low, high = away[below].max(), away[above].min()
    share = -low / (high - low) if high - low > TIE else 0.0
    ends = _first_of(below & (away >= low - TIE)), _first_of(above & (away <= high + TIE))
    return np.asarray((1 - share) * ends[0] + share * ends[1])


def _first_of(*masks: Mask) -> Floats:
    rows = next(mask for mask in masks if mask.any())
    return np.asarray(rows / rows.sum())


def _around_mean(given: Conditions, own: Floats) -> Floats:
    """Return weights on deviations from the training mean (asked, training row) as weights on all rows."""
    return _of_all(given, own + (1 - own.sum(axis=1, keepdims=True)) / own.shape[1])


def _of_all(given: Conditions, own: Floats) -> Floats:
    shares = np.zeros((len(own), len(given.train)))
    shares[:, given.train] = own
    return shares
