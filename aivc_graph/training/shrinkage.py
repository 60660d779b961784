"""Weighted least squares of one or two effects a component, shrunk to their mean and to nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

# How sure it is beforehand, as 1 / variance of a natural-log effect, that components share one effect, and that it is
# nothing: from anything goes to certain.
SHARED = (1.0, 10.0, 100.0, 1e8)
NOTHING = (1e-3, 1.0, 10.0, 100.0, 1e8)
# Squared error in units of its own variance, twice a log-likelihood.
CLEAR_GAIN = 6.0


@dataclass(frozen=True)
class Moments:
    """Sums of weighted products by donor and component: `square` (donor, component, molecule, p, p), `cross` (…, p)."""

    square: Floats
    cross: Floats

    def without(self, donor: int | np.integer | None) -> tuple[Floats, Floats]:
        """Return both summed over all donors but one."""
        kept = np.arange(len(self.square)) != (-1 if donor is None else donor)
        return self.square[kept].sum(axis=0), self.cross[kept].sum(axis=0)


def moments(
    x: Floats, y: Floats, weight: Floats, donor: NDArray[np.int64], component: NDArray[np.int64], n: tuple[int, int]
) -> Moments:
    """Sum rows of `x` (row, p) against `y` (row, molecule) by donor and component; `n`: how many of each there are."""
    p, molecules = x.shape[1], y.shape[1]
    square = np.zeros((*n, molecules, p, p))
    cross = np.zeros((*n, molecules, p))
    for i, (d, j) in enumerate(zip(donor, component, strict=True)):
        square[d, j] += weight[i][:, None, None] * np.outer(x[i], x[i])
        cross[d, j] += (weight[i] * y[i])[:, None] * x[i]
    return Moments(square, cross)


@dataclass(frozen=True)
class Shrinkage:
    """Penalties a molecule, `shared` and `nothing` (molecule,), and their error on left-out donors less no effect's."""

    shared: Floats
    nothing: Floats
    error: float


def shrunken(square: Floats, cross: Floats, shared: Floats, nothing: Floats) -> Floats:
    r"""Return effects (component, molecule, p) that minimise squared error and two penalties.

    .. math:: \sum_j \lVert y_j - x_j\theta_j \rVert^2_w + \lambda_s \lVert\theta_j - \bar\theta\rVert^2
              + \lambda_0 \lVert\bar\theta\rVert^2

    With :math:`\lambda_s \to \infty` all components have the mean effect; with :math:`\lambda_0 \to \infty` too, none.
    """
    eye = np.eye(square.shape[-1])
    inverse = np.linalg.inv(square + shared[:, None, None] * eye)
    known = shared[:, None, None] * square @ inverse
    pulled = shared[:, None] * np.einsum("jgpq,jgq->gp", inverse, cross)
    mean = np.linalg.solve(known.sum(axis=0) + nothing[:, None, None] * eye, pulled[..., None])[..., 0]
    effect: Floats = np.einsum("jgpq,jgq->jgp", inverse, cross + shared[:, None] * mean)
    return effect


def held_out_error(part: Moments, donors: Iterable[int], shared: Floats, nothing: Floats) -> Floats:
    """Return the squared error (molecule,) on each donor of effects fitted without it, less that of no effect."""
    total = np.zeros(part.cross.shape[2])
    for donor in donors:
        effect = shrunken(*part.without(donor), shared, nothing)
        total += np.einsum("jgp,jgpq,jgq->g", effect, part.square[donor], effect)
        total -= 2 * np.einsum("jgp,jgp->g", effect, part.cross[donor])
    return total


def best_shrinkage(part: Moments) -> Shrinkage:
    """Return the penalties with the least error on left-out donors; ties shut the effect.

    All molecules share them, but for those that gain clearly by others: few molecules answer to a perturbation, and
    what keeps the noise of the many down would flatten the few. A single donor cannot show that an effect travels
    between components: they share their mean then.
    """
    n = part.cross.shape[2]
    donors = np.flatnonzero(part.square.any(axis=(1, 2, 3, 4)))
    if len(donors) < 2:
        return Shrinkage(np.full(n, SHARED[-1]), np.full(n, 1.0), 0.0)
    options = list(product(reversed(SHARED), reversed(NOTHING)))
    errors = np.stack([held_out_error(part, donors, np.full(n, s), np.full(n, z)) for s, z in options])
    common = int(errors.sum(axis=1).argmin())
    own = errors.argmin(axis=0)
    chosen = np.where(errors[own, np.arange(n)] < errors[common] - CLEAR_GAIN, own, common)
    shared, nothing = np.array(options)[chosen].T
    return Shrinkage(shared, nothing, float(errors[chosen, np.arange(n)].sum()))
