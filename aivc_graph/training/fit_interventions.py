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
from aivc_graph.training.joint_effects import DONOR, JointEffects, Rows, joint_effects
from aivc_graph.training.shrinkage import log_evidence

log = logging.getLogger(__name__)
Floats = NDArray[np.floating]

SAMPLE_NODES = 20_000
EXPONENTS = (1.0, 2.0)
SHARPNESSES = (0.0, 3.0, 10.0, 30.0)
COURSES_HOURS = (2.0, 6.0, 12.0, 24.0, 96.0)
# How much of a shrunken effect is kept: of its mean over components, and of each component's departure from it.
KEPT = ((0.0, 0.0), (0.5, 0.0), (1.0, 0.0), (1.0, 0.25), (1.0, 0.5), (1.0, 1.0))
# Prior variances of natural-log effects: anything goes, but combinations are nearly additive.
EFFECT, INTERACTION = 1e3, 0.05
# Where all tissue was treated, what spreads cannot be told from what was done: no spread, unless it is clear [nats].
CLEAR_GAIN = 10.0


@dataclass(frozen=True)
class Course:
    """How an intervention's strength goes with dose and time, how far it spreads (None: not at all) and how sharply."""

    half: float
    exponent: float
    hours: float
    full_dose: float
    full_hours: float
    handed_on: float | None = None
    sharpness: float = 0.0

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
    courses = _courses(contrasts, plan)
    rows = _rows(contrasts, courses, plan)
    donors = range(len(plan.donors))
    joint = joint_effects(rows, len(donors), plan.components)
    without = [joint_effects(rows.take(rows.donor != d), len(donors), plan.components) for d in donors]
    kept = _kept(rows, joint, without, plan)
    weight, n = model.count_operator(plan.level, plan.modality).weight.double().numpy(), len(plan.keys)
    for copy, found in enumerate((joint, *without)):
        effect = kept[:, 0, None, None] * found.mean[:, None] + kept[:, 1, None, None] * found.departure
        effect[:n] -= effect[n : 2 * n]
        _store(shift, copy, effect, n, weight)
    for row, (key, course) in enumerate(zip(plan.keys, courses, strict=True)):
        shift.course[row] = torch.tensor([getattr(course, name) or 0.0 for name in course.__dataclass_fields__])
        done, beyond = _shown(contrasts, row, course)
        amount = contrasts.nodes * np.clip(done + np.maximum(beyond, 0), 0, 1)
        np.add.at(shift.treated_nodes[row].numpy(), contrasts.component, amount)
        spread = "does not spread" if course.handed_on is None else f"hands on {course.handed_on:g}"
        log.info("%s: %s, keeps %g of its mean and %g of what differs between components", key, spread, *kept[row])
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


def _store(shift: ComponentShift, copy: int, effect: Floats, n_keys: int, weight: Floats) -> None:
    """Write effects (column, component, molecule) as steps in the latent state and what of them lies beside it."""
    latent = _in_state(effect, weight)
    beside = effect - latent @ weight.T
    for part, columns in ((DIRECT, slice(0, n_keys)), (SPREAD, slice(n_keys, 2 * n_keys))):
        shift.latent_effect[copy, :, part].copy_(torch.from_numpy(latent[columns]))
        shift.molecule_effect[copy, :, part].copy_(torch.from_numpy(beside[columns]))
    shift.latent_pair[copy].copy_(torch.from_numpy(latent[2 * n_keys :]))
    shift.molecule_pair[copy].copy_(torch.from_numpy(beside[2 * n_keys :]))


def _courses(contrasts: Contrasts, plan: InterventionPlan) -> list[Course]:
    """Choose each intervention's course by the evidence of what is left when the others are taken away."""
    courses = [_usual_course(contrasts, row) for row in range(len(plan.keys))]
    rows = _rows(contrasts, courses, plan)
    joint = joint_effects(rows, len(plan.donors), plan.components)
    weight = 1 / (rows.variance + joint.surplus)
    rest = rows.y - joint.base[rows.donor, rows.component] - rows.x @ joint.mean
    for row, usual in enumerate(courses):
        own = contrasts.dose[:, row] > 0
        y, w, part = rest[own] + rows.x[own, row, None] * joint.mean[row], weight[own], contrasts.take(own)
        best = _evidence(part, row, usual, y, w)
        for reach, sharpness in product(HANDED_ON, SHARPNESSES):
            spreading = replace(usual, handed_on=reach, sharpness=sharpness)
            found = _evidence(part, row, spreading, y, w) - CLEAR_GAIN
            if found > best:
                courses[row], best = spreading, found
        for option in _course_options(part, row, courses[row]):
            found = _evidence(part, row, option, y, w)
            if found > best + 1e-6:
                courses[row], best = option, found
    return courses


def _evidence(part: Contrasts, row: int, course: Course, y: Floats, weight: Floats) -> float:
    x = np.column_stack(_shown(part, row, course))
    x = x[:, : 1 if course.handed_on is None else 2]
    square = np.einsum("rg,rp,rq->gpq", weight, x, x, optimize=True)
    return log_evidence(square, np.einsum("rg,rp->gp", weight * y, x))


def _shown(part: Contrasts, row: int, course: Course) -> tuple[Floats, Floats]:
    """Return what was done (row,), and how much more is near than was done: 0 where all tissue was treated, or none.

    The first then stands for what treated tissue does as a whole, which is well told even where its spread is not.
    """
    strength = course.strength(part.dose[:, row], part.hours[:, row])
    done = strength * part.applied[:, row]
    if course.handed_on is None:
        return done, np.zeros_like(done)
    near = strength * part.near[:, row, HANDED_ON.index(course.handed_on)]
    return done, (1 + course.sharpness) * near / (1 + course.sharpness * near) - done


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


def _rows(contrasts: Contrasts, courses: list[Course], plan: InterventionPlan) -> Rows:
    """Return the rows of the regression; columns: by intervention what was done, then what is near, then pairs."""
    shown = [_shown(contrasts, row, course) for row, course in enumerate(courses)]
    direct, near = (np.array(part).T for part in zip(*shown, strict=True))
    pairs = [direct[:, plan.keys.index(a)] * direct[:, plan.keys.index(b)] for a, b in plan.pairs]
    x = np.concatenate([direct, near, np.array(pairs).reshape(len(pairs), len(direct)).T], axis=1)
    prior = np.r_[np.full(2 * len(courses), EFFECT), np.full(len(pairs), INTERACTION)]
    return Rows(contrasts.log_ratio, contrasts.variance, x, contrasts.donor, contrasts.component, prior)


def _kept(rows: Rows, joint: JointEffects, without: list[JointEffects], plan: InterventionPlan) -> Floats:
    """Return how much of each column's mean and departures left-out donors support (column, 2).

    The two columns of one intervention share it. With fewer than two donors nothing shows what travels: an intervention
    keeps its mean, and a combination stays additive.
    """
    n = len(plan.keys)
    kept = np.zeros((rows.x.shape[1], 2))
    weight = 1 / (rows.variance + joint.surplus)
    for columns in [[row, n + row] for row in range(n)] + [[2 * n + pair] for pair in range(len(plan.pairs))]:
        donors = [d for d in range(len(plan.donors)) if rows.x[rows.donor == d][:, columns].any()]
        if len(donors) < 2:
            kept[columns] = KEPT[2] if columns[0] < n else KEPT[0]
            continue
        errors = np.zeros(len(KEPT))
        for d in donors:
            own, other = rows.take(rows.donor == d), without[d]
            effect = other.mean[:, None] + other.departure
            shown = np.setdiff1d(np.arange(rows.x.shape[1]), columns)
            rest = own.y - np.einsum("rk,krg->rg", own.x[:, shown], effect[shown][:, own.component])
            for i, (mean, departure) in enumerate(KEPT):
                tried = mean * other.mean[columns, None] + departure * other.departure[columns]
                left = rest - np.einsum("rk,krg->rg", own.x[:, columns], tried[:, own.component])
                errors[i] += _about_own_mean(left, weight[rows.donor == d], own.component)
        kept[columns] = KEPT[int(errors.argmin())]
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
