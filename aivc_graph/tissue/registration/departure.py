"""How tissue departs from a map fitted to a few known positions, and how sure that is away from them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.stats import f

from aivc_graph.tissue.evenly import evenly
from aivc_graph.tissue.frame import Matrix

# Shares of what the map leaves over that are smooth over the tissue, none to nearly all; and reaches of it, in extents.
SHARES = (0.0, 0.5, 0.9, 0.99, 0.999)
REACHES = (0.1, 0.25, 0.6, 1.5)
# More positions than these choose no better, and are no denser than tissue bends.
CHOOSE_BY, KEEP = 200, 1500
EXACT = 1e-11
# Positions that are off by less than this share of their extent are where they should be.
SAME = 1e-6
NEARLY_ALL = 0.9
# So many points at a time, or a million would take gigabytes.
PIECE = 10_000


@dataclass(frozen=True)
class Departure:
    """A Gaussian process of what a map leaves over, beside the error of the map itself: universal kriging.

    What is left at known positions is a trend (by which the map itself may be off), a smooth departure with a Matérn
    3/2 kernel, and an error of each position alone. How much is smooth, and how far it reaches, is not known from a few
    positions: the answer is the mean over a grid, weighed by restricted likelihood.

    Parameters
    ----------
    places
        Positions ``(known, 2)`` once placed, in units of their extent about their centre.
    fits
        By share and reach of the grid that is likely: weight, reach, variance [µm²] of what is smooth, and by it the
        solved matrices.
    centre_um, extent_um
        Of the known positions.
    bent
        The map is bent by the mean departure; else that counts as error.
    coarse
        What each known position is off by itself, others are too; else it is an error of whoever marked them.

    References
    ----------
    Rasmussen & Williams 2006, section 2.7 (explicit basis functions); Patterson & Thompson 1971,
    doi:10.1093/biomet/58.3.545 (restricted likelihood).
    """

    places: Matrix
    fits: tuple[_Fit, ...]
    centre_um: Matrix
    extent_um: float
    bent: bool
    coarse: bool

    def __call__(self, xy_um: Matrix) -> Matrix:
        """Return the standard deviation [µm] along each axis at placed points ``(point, 2)``; it grows outwards."""
        pieces = np.array_split(xy_um, max(len(xy_um) // PIECE, 1))
        return np.sqrt(np.concatenate([self._variance(one) for one in pieces]) + self.coarse * self.alone_um2)

    def _variance(self, xy_um: Matrix) -> Matrix:
        told = [self._told(xy_um, fit) for fit in self.fits]
        mean = sum(fit.weight * shift for fit, (shift, _) in zip(self.fits, told, strict=True)) if self.bent else 0.0
        square = [sure + ((shift - mean) ** 2).mean(axis=1) for shift, sure in told]
        return np.asarray(sum(fit.weight * one for fit, one in zip(self.fits, square, strict=True)))

    def shift_um(self, xy_um: Matrix) -> Matrix:
        """Return the mean departure ``(point, 2)`` [µm] at placed points."""
        pieces = np.array_split(xy_um, max(len(xy_um) // PIECE, 1))
        told = [sum(fit.weight * self._mean(*self._near(one, fit), fit) for fit in self.fits) for one in pieces]
        return np.asarray(np.concatenate(told))

    @property
    def alone_um2(self) -> float:
        """Variance [µm²] along an axis of what each position is off by itself."""
        return sum(fit.weight * fit.variance * (1 - fit.share) for fit in self.fits)

    @property
    def smooth(self) -> float:
        """How likely it is that nearly all of what is left is smooth over the tissue, 0–1."""
        return sum(fit.weight for fit in self.fits if fit.share >= NEARLY_ALL)

    def left_out(self) -> Matrix:
        """Return how likely each known position is to lie as far as it does from where the others put it (known,).

        In closed form: with P the inverse covariance of what is left, less what the trend takes, a position is off by
        :math:`P_{ii}^{-1} (P y)_i` and its covariance is :math:`P_{ii}^{-1}`, with the scatter of the others.

        References
        ----------
        Dubrule 1983, doi:10.1007/BF01033232 (universal kriging without each position).
        """
        return np.asarray(sum(fit.weight * fit.left_out((SAME * self.extent_um) ** 2) for fit in self.fits))

    def _near(self, xy_um: Matrix, fit: _Fit) -> tuple[Matrix, Matrix]:
        """Covariance with known positions ``(point, known)``, over the variance, and trend (axis, point, parameter)."""
        at = (xy_um - self.centre_um) / self.extent_um
        return fit.share * _matern(at, self.places, fit.reach), _trend(at, fit.affine)

    def _mean(self, near: Matrix, trend: Matrix, fit: _Fit) -> Matrix:
        return np.asarray(near @ fit.solved + np.einsum("apk,k->pa", trend, fit.parameters))

    def _told(self, xy_um: Matrix, fit: _Fit) -> tuple[Matrix, Matrix]:
        """Mean ``(point, 2)`` and variance along an axis ``(point,)`` of trend and departure."""
        near, trend = self._near(xy_um, fit)
        lever = trend - np.stack([near @ one for one in fit.solved_trend])
        sure = np.einsum("pk,kp->p", near, cho_solve(fit.factor, near.T))
        open_ = np.einsum("apk,kl,apl->p", lever, fit.covariance, lever) / 2
        return self._mean(near, trend, fit), fit.variance * (np.maximum(fit.share - sure, 0.0) + open_)


@dataclass(frozen=True)
class _Fit:
    weight: float
    share: float
    reach: float
    affine: bool
    variance: float
    factor: tuple[Matrix, bool]
    solved: Matrix  # K⁻¹ (left − trend), (known, 2)
    solved_trend: Matrix  # K⁻¹ trend, (axis, known, parameter)
    parameters: Matrix
    covariance: Matrix

    def left_out(self, least: float) -> Matrix:
        """Return the chance of each position without it, of an F distribution; what is below `least` [µm²] is none."""
        known, freedom = len(self.solved), 2 * len(self.solved) - len(self.parameters)
        own = np.diag(cho_solve(self.factor, np.eye(known)))
        taken = np.einsum("apk,kl,bpl->pab", self.solved_trend, self.covariance, self.solved_trend)
        precision = own[:, None, None] * np.eye(2) - taken
        square = (self.solved * np.linalg.solve(precision, self.solved[..., None])[..., 0]).sum(axis=1)
        if freedom <= 2:
            return np.ones(known)
        rest = np.maximum(self.variance * (freedom - 2) - square, freedom * least)
        return np.asarray(f.sf(square / 2 / (rest / (freedom - 2)), 2, freedom - 2))


def fit_departure(
    placed_um: Matrix, left_um: Matrix, *, affine: bool, bent: bool = False, coarse: bool = False
) -> Departure | None:
    """Return what a map leaves over at known positions, as a process; `None` where nothing is over to measure it by.

    Parameters
    ----------
    placed_um
        Known positions ``(known, 2)`` once placed.
    left_um
        Where they truly are less where they were placed, ``(known, 2)``.
    affine
        The map has six parameters, rather than four.
    """
    if 2 * len(placed_um) <= (6 if affine else 4):
        return None
    centre = placed_um.mean(axis=0)
    extent = float(np.ptp(placed_um, axis=0).max())
    places = (placed_um - centre) / extent
    some, kept = evenly(len(places), CHOOSE_BY), evenly(len(places), KEEP)
    grid = [(0.0, REACHES[0]), *itertools.product(SHARES[1:], REACHES)]
    least = (EXACT * extent) ** 2
    likelihood = np.array([_fit(places[some], left_um[some], one, affine, least)[0] for one in grid])
    likelihood[1:] -= np.log(len(grid) - 1)  # as likely beforehand that nothing is smooth as that something is
    weight = np.exp(likelihood - likelihood.max())
    weight /= weight.sum()
    likely = [i for i in np.argsort(-weight)[:4] if weight[i] > 0.02]
    total = weight[likely].sum()
    fits = [_fit(places[kept], left_um[kept], grid[i], affine, least, weight[i] / total)[1] for i in likely]
    return Departure(places[kept], tuple(fits), centre, extent, bent, coarse)


def _fit(
    places: Matrix, left: Matrix, one: tuple[float, float], affine: bool, least: float, weight: float = 1.0
) -> tuple[float, _Fit]:
    share, reach = one
    known = len(places)
    kernel = share * _matern(places, places, reach) + (1 - share) * np.eye(known)
    factor = cho_factor(kernel, lower=True)
    trend = _trend(places, affine)
    solved_trend = np.stack([cho_solve(factor, axis) for axis in trend])
    information = np.einsum("apk,apl->kl", trend, solved_trend)
    covariance = np.linalg.inv(information)
    solved_left = cho_solve(factor, left)
    parameters = covariance @ np.einsum("apk,pa->k", trend, solved_left)
    solved = solved_left - np.einsum("apk,k->pa", solved_trend, parameters)
    freedom = 2 * known - len(parameters)
    variance = max(float((left * solved).sum()) / freedom, least)
    # Of few positions the scatter itself is unsure: what is told is Student's, whose variance is larger.
    wider = variance * freedom / max(freedom - 2, 1)
    log_kernel = 2 * float(np.log(np.diag(factor[0])).sum())
    likelihood = -log_kernel - np.linalg.slogdet(information)[1] / 2 - freedom / 2 * np.log(variance)
    return likelihood, _Fit(weight, share, reach, affine, wider, factor, solved, solved_trend, parameters, covariance)


def _trend(at: Matrix, affine: bool) -> Matrix:
    """Ways a map may be off ``(axis, point, parameter)``: shift, then scale and turn, or all four of its matrix."""
    x, y = at.T
    one, none = np.ones_like(x), np.zeros_like(x)
    if affine:
        return np.stack(
            [np.column_stack([one, none, x, y, none, none]), np.column_stack([none, one, none, none, x, y])]
        )
    return np.stack([np.column_stack([one, none, x, -y]), np.column_stack([none, one, y, x])])


def _matern(a: Matrix, b: Matrix, reach: float) -> Matrix:
    from scipy.spatial.distance import cdist

    d = np.sqrt(3.0) * cdist(a, b) / reach
    return np.asarray((1 + d) * np.exp(-d))
