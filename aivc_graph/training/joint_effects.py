"""Effects and donors' own profiles from all sections at once: each is a control for what was not done to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aivc_graph.training.shrinkage import shrunken

Floats = NDArray[np.floating]

# Prior variance of a donor's departure from the common profile; where the variance between pieces of one tissue beyond
# counting starts, and what it may be.
DONOR, SURPLUS, SURPLUS_RANGE = 0.25, 0.02, (2e-3, 1.0)
# Variance between components, by which their estimates are averaged.
BETWEEN = 0.02
SWEEPS = 3


@dataclass(frozen=True)
class Rows:
    """Groups of nodes, and what is expected of them.

    Shapes: `y` (row, molecule) log ratio to the common profile, with the `variance` of counting; `x` (row, column) how
    much of each effect they show, and the `prior` variance of each (column,); `donor` and `component` (row,).
    """

    y: Floats
    variance: Floats
    x: Floats
    donor: NDArray[np.int64]
    component: NDArray[np.int64]
    prior: Floats

    def take(self, kept: NDArray[np.bool_]) -> Rows:
        """Return some of the rows."""
        return Rows(self.y[kept], self.variance[kept], self.x[kept], self.donor[kept], self.component[kept], self.prior)


@dataclass(frozen=True)
class JointEffects:
    """Effects by column: `mean` (column, molecule) over components and each component's `departure` (column, component,
    molecule), both shrunken; `base` (donor, component, molecule); `surplus` variance (molecule,)."""

    mean: Floats
    departure: Floats
    base: Floats
    surplus: Floats


def joint_effects(rows: Rows, n_donors: int, n_components: int) -> JointEffects:
    r"""Return effects from the regression of all rows on what was done and on whose tissue it is.

    .. math:: y_r = b_{d(r)j(r)} + \sum_k x_{rk}\,\theta_{kj(r)} + \varepsilon_r, \qquad
              \operatorname{var} \varepsilon_r = v_r + \tau^2

    molecule by molecule, with τ² from the residuals. A donor's profile b is thus told by all of its sections, treated
    ones too. The mean of θ over components and the departures from it are shrunken apart.
    """
    n_columns, molecules = rows.x.shape[1], rows.y.shape[1]
    z = np.concatenate([rows.x, np.eye(n_donors)[rows.donor]], axis=1)
    prior = np.diag(1 / np.r_[rows.prior, np.full(n_donors, DONOR)])
    surplus = np.full(molecules, SURPLUS)
    estimate = np.zeros((n_components, molecules, z.shape[1]))
    variance = np.broadcast_to(np.r_[rows.prior, np.full(n_donors, DONOR)], estimate.shape).copy()
    for _ in range(SWEEPS):
        square, spare = np.zeros(molecules), np.full(molecules, 1e-9)
        for j in np.unique(rows.component):
            own = rows.component == j
            weight = 1 / (rows.variance[own] + surplus)
            products = np.einsum("rg,rp,rq->gpq", weight, z[own], z[own], optimize=True)
            inverse = np.linalg.inv(products + prior)
            estimate[j] = np.einsum("gpq,gq->gp", inverse, np.einsum("rg,rp->gp", weight * rows.y[own], z[own]))
            variance[j] = np.diagonal(inverse, axis1=1, axis2=2)
            square += (weight * (rows.y[own] - z[own] @ estimate[j].T) ** 2).sum(axis=0)
            spare += own.sum() - np.einsum("gpq,gqp->g", inverse, products)
        surplus = np.clip(surplus * square / spare, *SURPLUS_RANGE)
    effect, error = (np.moveaxis(part[..., :n_columns], 2, 0) for part in (estimate, np.sqrt(variance)))
    share = 1 / (error**2 + BETWEEN)
    average = (share * effect).sum(axis=1) / share.sum(axis=1)
    mean = _by_column(average, share.sum(axis=1) ** -0.5)
    base = np.moveaxis(estimate[..., n_columns:], 2, 0)
    return JointEffects(mean, _by_column(effect - mean[:, None], error), base, surplus)


def _by_column(estimate: Floats, error: Floats) -> Floats:
    return np.stack([shrunken(b, s) for b, s in zip(estimate, error, strict=True)])
