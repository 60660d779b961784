"""Effects and donors' own profiles from all sections at once: each is a control for what was not done to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aivc_graph.operators.intervention.section_shifts import ComponentPart, SectionShifts, within_donors
from aivc_graph.operators.intervention.shrinkage import shrunken_together
from aivc_graph.operators.moderated import moderated_variance

Floats = NDArray[np.floating]

# Prior variance of a donor's departure from the common profile; where the variance between pieces of one tissue beyond
# counting starts, and what it may be.
DONOR, SURPLUS, SURPLUS_RANGE = 0.25, 0.02, (2e-3, 1.0)
# Variance between components, by which their estimates are averaged.
BETWEEN = 0.02
SWEEPS = 3
SHRUNKEN = ("mean", "departure", "error", "evidence")


@dataclass(frozen=True)
class Rows:
    """Groups of nodes, and what is expected of them.

    Shapes: `y` (row, molecule) log ratio to the common profile, with the `variance` of counting; `x` (row, column) how
    much of each effect they show, and the `prior` variance of each (column,); `donor`, `section`, `component` (row,);
    `inflation` (row, molecule) of the variance, for rows that err together.
    """

    y: Floats
    variance: Floats
    x: Floats
    donor: NDArray[np.int64]
    section: NDArray[np.int64]
    component: NDArray[np.int64]
    prior: Floats
    inflation: Floats

    def take(self, kept: NDArray[np.bool_]) -> Rows:
        """Return some of the rows."""
        names = ("y", "variance", "x", "donor", "section", "component", "inflation")
        return replace(self, **{name: getattr(self, name)[kept] for name in names})

    def weight(self, surplus: Floats) -> Floats:
        """Return the weights (row, molecule), given the variance beyond counting (molecule,)."""
        return 1 / ((self.variance + surplus) * self.inflation)


@dataclass(frozen=True)
class JointEffects:
    """Effects by column: `mean` (column, molecule) over components and each component's `departure` (column, component,
    molecule), with the error of the mean, and that of each component's whole effect beside the variance that all
    components have `in_common` (column, molecule) since sections err as wholes; shrunken ones have the posterior error.
    `evidence` [nats] (column,) that a column does anything, told of shrunken ones alone; `base` (donor, component,
    molecule); `shift` (section, molecule) from what is the donor's; `surplus` variance, and that `between` sections
    (molecule,)."""

    mean: Floats
    mean_error: Floats
    departure: Floats
    error: Floats
    in_common: Floats
    evidence: Floats
    base: Floats
    shift: Floats
    surplus: Floats
    between: Floats

    def of(self, rows: Rows) -> Floats:
        """Return what the columns do to each row (row, molecule)."""
        effect = self.mean[:, None] + self.departure
        return np.asarray(np.einsum("rk,krg->rg", rows.x, effect[:, rows.component]))


def joint_effects(rows: Rows, n_donors: int, n_components: int) -> JointEffects:
    r"""Return effects from the regression of all rows on what was done and on whose tissue it is.

    .. math:: y_r = b_{d(r)j(r)} + u_{s(r)} + \sum_k x_{rk}\,\theta_{kj(r)} + \varepsilon_r, \qquad
              u_s \sim N(0, \omega^2), \quad \operatorname{var} \varepsilon_r = v_r + \tau^2

    molecule by molecule, with τ² from the residuals and ω² from what the sections of a donor differ by as wholes
    (`variance_between`). A donor's profile b is thus told by all of its sections, treated ones too. Nothing is shrunken
    yet.
    """
    donor = np.eye(n_donors)[rows.donor]
    z = np.concatenate([rows.x, donor], axis=1)
    prior = np.r_[rows.prior, np.full(n_donors, DONOR)]
    contrast = within_donors(rows.section, rows.donor)
    whole = np.concatenate([donor, contrast[rows.section]], axis=1)
    own = [np.flatnonzero(rows.component == j) for j in range(n_components)]
    surplus = np.full(rows.y.shape[1], SURPLUS)
    for _ in range(SWEEPS):
        weight = rows.weight(surplus)
        parts = [ComponentPart.of(rows.y[of], weight[of], z[of], whole[of], prior) for of in own]
        sections = SectionShifts.of(parts, n_donors, DONOR)
        square, spare = np.zeros_like(surplus), len(rows.y) - sections.parameters
        for of, part in zip(own, parts, strict=True):
            left = rows.y[of] - z[of] @ part.estimate(sections).T - whole[of] @ sections.shift.T
            square += (weight[of] * rows.inflation[of] * left**2).sum(axis=0)
            spare -= (1 - part.variance(sections) / prior).sum(axis=1)
        surplus = np.clip(surplus * square / np.maximum(spare, 1e-9), *SURPLUS_RANGE)
    estimate = np.stack([part.estimate(sections) for part in parts])
    base = np.moveaxis(estimate[..., rows.x.shape[1] :] + sections.shift[:, :n_donors], 2, 0)
    shift = contrast @ sections.shift[:, n_donors:].T
    return JointEffects(
        **_effects(parts, sections, rows.x.shape[1]),
        evidence=np.full(rows.x.shape[1], np.nan),
        base=base,
        shift=shift,
        surplus=surplus,
        between=sections.variance,
    )


def _effects(parts: Sequence[ComponentPart], sections: SectionShifts, n: int) -> dict[str, Floats]:
    """Return what `JointEffects` says of the first `n` columns, by name."""
    alone = np.stack([np.diagonal(part.inverse, axis1=1, axis2=2) for part in parts])
    every = [np.stack([part.estimate(sections) for part in parts]), alone]
    every += [np.stack([part.variance(sections) for part in parts])]
    effect, alone, variance = (np.moveaxis(part[..., :n], 2, 0) for part in every)
    mean, mean_error, share = _average(effect, np.sqrt(alone))
    shared = np.sum([share[:, j].T[:, :, None] * part.shared[:, :n] for j, part in enumerate(parts)], axis=0)
    in_common = np.einsum("gkp,gpq,gkq->kg", shared, sections.covariance, shared)
    error = np.sqrt(np.maximum(variance - in_common[:, None], alone))
    return {
        "mean": mean,
        "mean_error": np.sqrt(mean_error**2 + in_common),
        "departure": effect - mean[:, None],
        "error": error,
        "in_common": in_common,
    }


def _average(effect: Floats, error: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the mean over components of effects (…, component, molecule), its error by counting, and their shares."""
    share = 1 / (error**2 + BETWEEN)
    share /= share.sum(axis=-2, keepdims=True)
    return (share * effect).sum(axis=-2), np.sqrt((share**2 * error**2).sum(axis=-2)), share


def shrink(
    whole: JointEffects, without: Sequence[JointEffects], given: NDArray[np.bool_]
) -> tuple[JointEffects, list[JointEffects]]:
    """Return the effects of all donors, and those without each in turn, shrunken where donors do not agree.

    Groups of one section err together (its staining, its place in the tumour), so the error of an effect is that of
    counting as many times as it takes to account for what effects change by when donors are left out in turn. Few
    donors tell that badly of one molecule, so it is drawn towards what is usual among them.

    Parameters
    ----------
    given
        Which columns each donor was given (donor, column).

    References
    ----------
    Efron & Stein 1981, doi:10.1214/aos/1176345462; Smyth 2004, doi:10.2202/1544-6115.1027 (variances drawn together).
    """
    found = [tuple(getattr(part, name).copy() for name in SHRUNKEN) for part in (whole, *without)]
    for column in range(given.shape[1]):
        donors = np.flatnonzero(given[:, column])
        times = {}
        for name, by_counting in (("mean", "mean_error"), ("departure", "error")):
            left_out = np.array([getattr(without[int(d)], name)[column] for d in donors])
            times[name] = _inflation(getattr(whole, name)[column], left_out, getattr(whole, by_counting)[column])
        for part, (mean, departure, error, evidence) in zip((whole, *without), found, strict=True):
            counting = part.error[column]
            in_common = part.in_common[column] + (times["mean"] - 1) * part.mean_error[column] ** 2
            effect = part.mean[column] + part.departure[column]
            told = shrunken_together(effect, np.sqrt(times["departure"]) * counting, in_common)
            mean[column] = _average(told.mean, counting)[0]
            departure[column], error[column] = told.mean - mean[column], told.error
            evidence[column] = told.evidence
    shrunk = [
        replace(part, **dict(zip(SHRUNKEN, of_part, strict=True)))
        for part, of_part in zip((whole, *without), found, strict=True)
    ]
    return shrunk[0], shrunk[1:]


def _inflation(every: Floats, left_out: Floats, counting: Floats) -> Floats:
    """Return how many times the variance of counting an effect's is, each at least once (…).

    `left_out` (donor, …) are the effects without each donor; one donor alone shows nothing.
    """
    n = len(left_out)
    if n < 2:
        return np.ones_like(counting)
    ratio = (n - 1) / n * ((left_out - every) ** 2).sum(axis=0) / counting**2
    return np.maximum(moderated_variance(ratio.ravel(), n - 1)[0].reshape(ratio.shape), 1.0)
