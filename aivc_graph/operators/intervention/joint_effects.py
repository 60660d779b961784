"""Effects and donors' own profiles from all sections at once: each is a control for what was not done to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aivc_graph.operators.intervention.section_shifts import ComponentPart, SectionShifts, variance_between
from aivc_graph.operators.intervention.shrinkage import shrunken_together
from aivc_graph.operators.moderated import moderated_variance

Floats = NDArray[np.floating]

# Prior variance of a donor's departure from the common profile; where the variance between pieces of one tissue beyond
# counting starts, and what it may be.
DONOR, SURPLUS, SURPLUS_RANGE = 0.25, 0.02, (2e-3, 1.0)
# Variance between components, by which their estimates are averaged.
BETWEEN = 0.02
SWEEPS = 3
# Molecules solved at once, and sections that are told apart at most.
AT_ONCE, MOST_SECTIONS = 256, 200
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

    def of_molecules(self, some: slice) -> Rows:
        """Return some of the molecules."""
        return replace(self, **{name: getattr(self, name)[:, some] for name in ("y", "variance", "inflation")})

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
    (`variance_between`). A donor's profile b is thus told by all of its sections, treated ones too; what its components
    have in common has a variance of its own, told alike. Nothing is shrunken yet. Work goes with the third power of the
    number of sections: of more than `MOST_SECTIONS` each counts as its donor does, and ω² is 0.
    """
    design = _Design.of(rows, n_donors, n_components)
    surplus: Floats = np.full(rows.y.shape[1], SURPLUS)
    between: Floats = np.zeros((2, len(surplus)))
    for sweep in range(1 + SWEEPS):
        found, moments = [], []
        for start in range(0, len(surplus), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            one, told = _solved(rows.of_molecules(some), design, surplus[some], between[:, some])
            found.append(one)
            moments.append(told)
        joint = {name: np.concatenate([one[name] for one in found], axis=-1) for name in found[0]}
        between = np.stack([variance_between(*one) for one in np.concatenate(moments, axis=2)])
        # The first time nothing is known of sections, and what they differ by would count as that of their parts.
        surplus = joint["surplus"] if sweep else surplus
    return JointEffects(**joint, evidence=np.full(rows.x.shape[1], np.nan))


@dataclass(frozen=True)
class _Design:
    """What rows show: columns `z` (row, column), those of effects and then a donor each, with their `prior` variance;
    the rows of each component; the sections that are told apart, of each row (row,) and `at` each section of the graph
    (section,), and whose each is, `donor`, -1 of those without rows."""

    z: Floats
    prior: Floats
    component: list[NDArray[np.int64]]
    section: NDArray[np.int64]
    at: NDArray[np.int64]
    donor: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Rows, n_donors: int, n_components: int) -> _Design:
        section = rows.section if len(np.unique(rows.section)) <= MOST_SECTIONS else rows.donor
        at, donor = (np.full(part.max(initial=-1) + 1, -1) for part in (rows.section, section))
        at[rows.section], donor[section] = section, rows.donor
        z = np.concatenate([rows.x, np.eye(n_donors)[rows.donor]], axis=1)
        component = [np.flatnonzero(rows.component == j) for j in range(n_components)]
        return cls(z, np.r_[rows.prior, np.full(n_donors, DONOR)], component, section, at, donor)


def _solved(rows: Rows, design: _Design, surplus: Floats, between: Floats) -> tuple[dict[str, Floats], Floats]:
    """Return the facts of `JointEffects`, with the variance beyond counting told anew, and moments of sections."""
    weight, n = rows.weight(surplus), rows.x.shape[1]
    z, section, prior, n_sections = design.z, design.section, design.prior, len(design.donor)
    parts = [ComponentPart.of(rows.y[of], weight[of], z[of], section[of], prior, n_sections) for of in design.component]
    sections = SectionShifts.of(parts, between, design.donor)
    estimate = np.stack([part.estimate(sections) for part in parts])
    variance = np.stack([part.variance(sections) for part in parts])
    square = np.zeros_like(surplus)
    for j, of in enumerate(design.component):
        left = rows.y[of] - z[of] @ estimate[j].T - sections.shift.T[section[of]]
        square += (weight[of] * rows.inflation[of] * left**2).sum(axis=0)
    spare = len(rows.y) - sections.parameters - (1 - variance / prior).sum(axis=(0, 2))
    # What a donor's sections have in common is the donor's.
    donors = np.eye(z.shape[1] - n)[:, design.donor] * (design.donor >= 0)
    level = (donors / np.maximum(donors.sum(axis=1, keepdims=True), 1)) @ sections.shift.T
    told = _effects(parts, sections, estimate[..., :n], variance[..., :n]) | {
        "base": np.moveaxis(estimate[..., n:], 2, 0) + level[:, None],
        "shift": (sections.shift.T - donors.T @ level)[design.at],
        "surplus": np.clip(surplus * square / np.maximum(spare, 1e-9), *SURPLUS_RANGE),
        "between": between[0],
    }
    return told, sections.moments


def _effects(
    parts: Sequence[ComponentPart], sections: SectionShifts, estimate: Floats, variance: Floats
) -> dict[str, Floats]:
    """Return what `JointEffects` says of effects (component, molecule, column), by name."""
    n = estimate.shape[2]
    alone = np.stack([np.diagonal(part.inverse, axis1=1, axis2=2)[:, :n] for part in parts])
    effect, alone, variance = (np.moveaxis(one, 2, 0) for one in (estimate, alone, variance))
    mean, mean_error, share = _average(effect, np.sqrt(alone))
    shared = np.sum([share[:, j].T[:, :, None] * part.shared[:, :n] for j, part in enumerate(parts)], axis=0)
    in_common = np.einsum("gks,gks->kg", shared @ sections.covariance, shared)
    return {
        "mean": mean,
        "mean_error": np.sqrt(mean_error**2 + in_common),
        "departure": effect - mean[:, None],
        "error": np.sqrt(np.maximum(variance - in_common[:, None], alone)),
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
