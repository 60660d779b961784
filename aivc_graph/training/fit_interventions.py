"""Closed form of interventions: effects by component, shrunken, as far as left-out donors support them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.graph.store import GraphStore
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.intervention_plan import InterventionPlan, section_arms
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.intervention.component_shift import DIRECT, SPREAD, ComponentShift
from aivc_graph.training.contrasts import HANDED_ON, Contrasts, encode_nodes, make_contrasts
from aivc_graph.training.joint_effects import DONOR, JointEffects, Rows, joint_effects, shrink
from aivc_graph.training.shrinkage import log_evidence

log = logging.getLogger(__name__)
Floats = NDArray[np.floating]

SAMPLE_NODES = 20_000
EXPONENTS = (1.0, 2.0)
SHARPNESSES = (0.0, 3.0, 10.0, 30.0)
SPREAD_SHARES = (0.5, 1.0)
# What is lost or gained inside a cell is not passed on, only what follows from it.
INSIDE = ("knockout", "activation")
COURSES_HOURS = (2.0, 6.0, 12.0, 24.0, 96.0)
# How much of a shrunken effect is kept: of its mean over components, and of each component's departure from it.
KEPT = ((0.0, 0.0), (0.5, 0.0), (1.0, 0.0), (1.0, 0.25), (1.0, 0.5), (1.0, 1.0))
# Prior variances of natural-log effects: anything goes, but combinations are nearly additive,
# and places nearly alike.
EFFECT, INTERACTION, PLACE = 1e3, 0.05, 0.25
# No effect unless the squared error on left-out donors, in units of its variance, falls by this much.
LEAST_GAIN = 6.0
# Sweeps of the iterated least squares, and the largest log ratio that counts are taken about.
SWEEPS, MOST = 4, 4.0
# No spread of an effect unless it is clear [nats].
CLEAR_GAIN = 10.0


# What of a course the model keeps, in this order.
COURSE = ("half", "exponent", "hours", "full_dose", "full_hours", "handed_on", "sharpness")


@dataclass(frozen=True)
class Course:
    """How an intervention's strength goes with dose and time, and how far and how sharply it spreads.

    `spread`: how much of the effect comes by what is near, 0 none of it, 1 all.
    """

    half: float
    exponent: float
    hours: float
    full_dose: float
    full_hours: float
    handed_on: float = 0.0
    sharpness: float = 0.0
    spread: float = 0.0

    def strength(self, dose: Floats, hours: Floats) -> Floats:
        """Return the strength (row,), 1 at the full dose and hours."""

        def hill(amount: Floats | float) -> Floats:
            raised = np.asarray(amount, float) ** self.exponent
            return raised / (raised + self.half**self.exponent)

        time = np.expm1(-hours / self.hours) / np.expm1(-self.full_hours / self.hours)
        return np.asarray(hill(dose) / hill(self.full_dose) * time)


@torch.no_grad()
def fit_interventions(model: TissueModel, source: TissueGraph | GraphStore, size: int, seed: int) -> None:
    """Fit the model's interventions to the treated training sections of `source`; nothing where there are none.

    All sections of a donor tell what its tissue is like, treated ones too, and what was done to them comes on top of
    it, component by component. How strength goes with dose and time and how far it spreads is chosen by the evidence;
    how much of each effect is kept, and whether components differ, by the error on training donors left out in turn.

    Parameters
    ----------
    size
        Nodes a window.
    seed
        Of the components.
    """
    plan, shift = model.plan.interventions, model.interventions
    if plan is None or not isinstance(shift, ComponentShift):
        return
    device = shift.centre.device
    model.cpu()
    graph = source if isinstance(source, TissueGraph) else source.structure
    _fit_components(shift, plan, graph, encode_nodes(model, source, plan, size), seed)
    contrasts = make_contrasts(model, source, plan, size, seed)
    courses = _courses(contrasts, plan, _passed_on(model, plan))
    rows, joint, without = _effects(contrasts, courses, plan)
    kept = _kept(rows, joint, without, plan)
    weight = model.count_operator(plan.level, plan.modality).weight.double().numpy()
    passed_on = _passed_on(model, plan) * np.array([[course.spread] for course in courses])
    n = len(plan.keys) + len(plan.pairs)
    for copy, found in enumerate((joint, *without)):
        effect = (kept[:, 0, None, None] * found.mean[:, None] + kept[:, 1, None, None] * found.departure)[:n]
        _store(shift, copy, effect, passed_on[:, None], weight)
    for row, (key, course) in enumerate(zip(plan.keys, courses, strict=True)):
        shift.course[row] = torch.tensor([getattr(course, name) for name in COURSE])
        amount = contrasts.nodes * np.clip(rows.x[:, row], 0, 1)
        np.add.at(shift.treated_nodes[row].numpy(), contrasts.component, amount)
        log.info(
            "%s: spreads by %g, keeps %g of its mean and %g of what differs between components",
            *(key, course.spread, *kept[row]),
        )
    model.to(device)


def _fit_components(
    shift: ComponentShift, plan: InterventionPlan, graph: TissueGraph, state: Floats, seed: int
) -> None:
    """Centres of untreated training states by k-means, their spread, and the distance that nearly all lie within."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    arms = section_arms(graph, plan.level)
    section = graph[plan.level].section_index.numpy()
    usable = graph.in_split(plan.level, names.TRAIN).numpy() & np.isfinite(state).all(axis=1)
    untreated = np.array([not arm for arm in arms])[section]
    x = state[usable & untreated].astype(np.float64)
    x = x[np.linspace(0, len(x) - 1, min(len(x), SAMPLE_NODES)).astype(int)]
    with threadpool_limits(1):
        found = KMeans(min(plan.components, len(np.unique(x, axis=0))), n_init=4, random_state=seed).fit(x)
    centre = np.full(tuple(shift.centre.shape), 1e6)
    centre[: len(found.cluster_centers_)] = found.cluster_centers_
    squared = ((x - found.cluster_centers_[found.labels_]) ** 2).sum(axis=1)
    shift.centre.copy_(torch.from_numpy(centre).float())
    shift.log_spread.fill_(float(np.log(max(squared.mean() / x.shape[1], 1e-6))))
    shift.usual_distance.fill_(float(np.quantile(squared, 0.995)))


def _effects(
    contrasts: Contrasts, courses: list[Course], plan: InterventionPlan
) -> tuple[Rows, JointEffects, list[JointEffects]]:
    """Return the rows of the regression, its shrunken effects of all donors, and those without each.

    Counts are Poisson about expectations whose logarithms are linear, fitted by iterated least squares: the logarithm
    of few counts is too low on average, and groups near what was treated are the smallest.

    References
    ----------
    McCullagh & Nelder 1989, doi:10.1007/978-1-4899-3242-6, section 2.5.
    """
    n, fitted, uneven = len(plan.donors), np.zeros(contrasts.counts.shape), np.ones(contrasts.counts.shape[1])
    for _ in range(SWEEPS):
        rows = _rows(contrasts, courses, plan, fitted, uneven)
        given = np.array([(rows.x[rows.donor == d] != 0).any(axis=0) for d in range(n)])
        without = [joint_effects(rows.take(rows.donor != d), n, plan.components) for d in range(n)]
        joint, without = shrink(joint_effects(rows, n, plan.components), without, given)
        fitted = joint.base[rows.donor, rows.component] + joint.of(rows)
        uneven = _unevenness(contrasts, rows.weight(joint.surplus) * rows.inflation, rows.y - fitted)
    return rows, joint, without


def _unevenness(contrasts: Contrasts, weight: Floats, left: Floats) -> Floats:
    """Return how many times more the tiles of untreated sections differ than their groups' errors say, at least once.

    Tissue differs from place to place, in some molecules more than in others, so what is found in the one place that was
    treated is no surer than what is found in any place.
    """
    rows = np.flatnonzero(contrasts.tile >= 0)
    places, place = np.unique(np.column_stack([contrasts.section, contrasts.tile])[rows], axis=0, return_inverse=True)
    spare = len(places) - len(np.unique(places[:, 0]))
    if spare < 1:
        return np.ones(left.shape[1])
    one = np.eye(len(places))[place.reshape(-1)]
    total = one.T @ weight[rows]
    mean = one.T @ (weight[rows] * left[rows]) / np.maximum(total, 1e-12)
    return np.maximum((total * mean**2).sum(axis=0) / spare, 1.0)


def _passed_on(model: TissueModel, plan: InterventionPlan) -> Floats:
    """Return which molecules' effects may spread (key, molecule): 1 or 0."""
    panel = model.plan.counts[plan.level][plan.modality]
    return np.array(
        [
            [0.0 if kind in INSIDE and molecule in targets else 1.0 for molecule in panel]
            for kind, targets in zip(plan.kinds, plan.targets, strict=True)
        ]
    )


def _store(shift: ComponentShift, copy: int, effect: Floats, passed_on: Floats, weight: Floats) -> None:
    """Write effects (column, component, molecule) as steps in the latent state and what of them lies beside it."""
    n = len(passed_on)
    for part, found in ((DIRECT, effect[:n] * (1 - passed_on)), (SPREAD, effect[:n] * passed_on)):
        latent = _in_state(found, weight)
        shift.latent_effect[copy, :, part].copy_(torch.from_numpy(latent))
        shift.molecule_effect[copy, :, part].copy_(torch.from_numpy(found - latent @ weight.T))
    latent = _in_state(effect[n:], weight)
    shift.latent_pair[copy].copy_(torch.from_numpy(latent))
    shift.molecule_pair[copy].copy_(torch.from_numpy(effect[n:] - latent @ weight.T))


def _courses(contrasts: Contrasts, plan: InterventionPlan, passed_on: Floats) -> list[Course]:
    """Choose each intervention's course by the evidence of what is left when the others are taken away.

    What spreads is a share of the effect itself, so that one section treated in a part of it can tell how far.
    """
    courses = [_usual_course(contrasts, row) for row in range(len(plan.keys))]
    rows, joint, _ = _effects(contrasts, courses, plan)
    weight = rows.weight(joint.surplus)
    rest = rows.y - joint.base[rows.donor, rows.component] - joint.of(rows)
    for row, usual in enumerate(courses):
        own = contrasts.dose[:, row] > 0
        effect = joint.mean[row] + joint.departure[row, rows.component[own]]
        y, part = rest[own] + rows.x[own, row, None] * effect, contrasts.take(own)
        w = weight[own] * passed_on[row]
        best = _fit_within(part, row, usual, y, w, effect)
        for reach, sharpness, spread in product(HANDED_ON, SHARPNESSES, SPREAD_SHARES):
            spreading = replace(usual, handed_on=reach, sharpness=sharpness, spread=spread)
            found = _fit_within(part, row, spreading, y, w, effect) - CLEAR_GAIN
            if found > best:
                courses[row], best = spreading, found
        best = _evidence(part, row, courses[row], y, w)
        for option in _course_options(part, row, courses[row]):
            found = _evidence(part, row, option, y, w)
            if found > best + 1e-6:
                courses[row], best = option, found
    return courses


def _evidence(part: Contrasts, row: int, course: Course, y: Floats, weight: Floats) -> float:
    x = _shown(part, row, course)[:, None]
    return log_evidence((weight * x**2).sum(axis=0)[:, None, None], (weight * x * y).sum(axis=0)[:, None])


def _fit_within(part: Contrasts, row: int, course: Course, y: Floats, weight: Floats, effect: Floats) -> float:
    """Return the log-likelihood of where `effect` (row, molecule) is found within each section and component.

    The effect is what all sections say it is, so that tissue that happens to differ from here to there, in other
    molecules, is not taken for its spread.
    """
    left = _about_mean(y - _shown(part, row, course)[:, None] * effect, weight, part.section, part.component)
    return -0.5 * float((weight * left**2).sum())


def _about_mean(values: Floats, weight: Floats, section: NDArray[np.int64], component: NDArray[np.int64]) -> Floats:
    """Return values (row, molecule) less their weighted mean over the rows of each section and component."""
    _, place = np.unique(np.column_stack([section, component]), axis=0, return_inverse=True)
    one = np.eye(place.max() + 1)[place.reshape(-1)]
    mean = (one.T @ (weight * values)) / np.maximum(one.T @ weight, 1e-12)
    return np.asarray(values - one @ mean)


def _shown(part: Contrasts, row: int, course: Course) -> Floats:
    """Return how much of its effect each group shows (row,), nothing in sections it was not given to."""
    return course.strength(part.dose[:, row], part.hours[:, row]) * _footprint(part, row, course)


def _footprint(part: Contrasts, row: int, course: Course) -> Floats:
    """Return how much of an intervention at full strength reaches each group (row,): by what was done, and near it."""
    near = part.near[:, row, HANDED_ON.index(course.handed_on)]
    near = (1 + course.sharpness) * near / (1 + course.sharpness * near)
    return (1 - course.spread) * part.applied[:, row] + course.spread * near


def _usual_course(contrasts: Contrasts, row: int) -> Course:
    dose, hours = (max(float(amount[:, row].max()), 1e-3) for amount in (contrasts.dose, contrasts.hours))
    return Course(dose, 1.0, hours, dose, hours)


def _course_options(part: Contrasts, row: int, usual: Course) -> list[Course]:
    """Return what may be told from the doses and times there are: at least three doses, or two times."""
    doses, hours = np.unique(part.dose[:, row]), np.unique(part.hours[:, row])
    curves = [(usual.half, usual.exponent)]
    if len(doses) > 2:
        halves = np.geomspace(doses.min() / 2, doses.max() * 2, 7)
        curves = [(float(half), exponent) for half, exponent in product(halves, EXPONENTS)]
    times = COURSES_HOURS if len(hours) > 1 else (usual.hours,)
    return [
        replace(usual, half=half, exponent=exponent, hours=time) for (half, exponent), time in product(curves, times)
    ]


def _rows(contrasts: Contrasts, courses: list[Course], plan: InterventionPlan, fitted: Floats, uneven: Floats) -> Rows:
    """Return the rows of the regression about `fitted` log ratios.

    A column an intervention, then one a pair, then one for each place that others were treated at.


    `uneven` (molecule,) is how much the variance of what is found in a part of a section is inflated.
    """
    shown = np.column_stack([_shown(contrasts, row, course) for row, course in enumerate(courses)])
    both = np.array([shown[:, plan.keys.index(a)] * shown[:, plan.keys.index(b)] for a, b in plan.pairs])
    places = [
        contrasts.local[:, row] * _footprint(contrasts, row, course)
        for row, course in enumerate(courses)
        if contrasts.local[:, row].any()
    ]
    x = np.concatenate([part.reshape(-1, len(shown)).T for part in (shown.T, both, np.array(places))], axis=1)
    prior = np.repeat([EFFECT, INTERACTION, PLACE], [len(courses), len(both), len(places)])
    fitted = np.clip(fitted, -MOST, MOST)
    mean = contrasts.expected * np.exp(fitted)
    y = fitted + contrasts.counts / mean - 1
    inflation = np.where(contrasts.local.any(axis=1, keepdims=True), uneven, 1.0)
    return Rows(y, 1 / mean, x, contrasts.donor, contrasts.component, prior, inflation)


def _kept(rows: Rows, joint: JointEffects, without: list[JointEffects], plan: InterventionPlan) -> Floats:
    """Return how much of each column's mean and departures left-out donors support (column, 2).

    With fewer than two donors nothing shows what travels: an intervention keeps its mean, a combination stays additive.
    """
    kept = np.ones((rows.x.shape[1], 2))
    weight = rows.weight(joint.surplus)
    for column in range(len(plan.keys) + len(plan.pairs)):
        donors = [d for d in range(len(plan.donors)) if rows.x[rows.donor == d, column].any()]
        if len(donors) < 2:
            kept[column] = KEPT[2] if column < len(plan.keys) else KEPT[0]
            continue
        errors = np.zeros(len(KEPT))
        for d in donors:
            own, other = rows.take(rows.donor == d), without[d]
            effect = other.mean[column] + other.departure[column]
            rest = own.y - other.of(own) + own.x[:, column, None] * effect[own.component]
            for i, (mean, departure) in enumerate(KEPT):
                tried = mean * other.mean[column] + departure * other.departure[column]
                left = rest - own.x[:, column, None] * tried[own.component]
                errors[i] += _about_own_mean(left, weight[rows.donor == d], own.component)
        errors[1:] += LEAST_GAIN
        kept[column] = KEPT[int(errors.argmin())]
    return kept


def _about_own_mean(left: Floats, weight: Floats, component: NDArray[np.int64]) -> float:
    """Return the weighted square of what is left, less what a donor's own profile explains."""
    total = float((weight * left**2).sum())
    for j in np.unique(component):
        own = component == j
        total -= float(((weight[own] * left[own]).sum(axis=0) ** 2 / (weight[own].sum(axis=0) + 1 / DONOR)).sum())
    return total


def _in_state(effect: Floats, weight: Floats) -> Floats:
    """Return the steps in the latent state whose decoding is nearest to `effect` (…, molecule), as log expression."""
    gram = weight.T @ weight
    return effect @ weight @ np.linalg.inv(gram + 1e-3 * np.trace(gram) / len(gram) * np.eye(len(gram)) + 1e-9)
