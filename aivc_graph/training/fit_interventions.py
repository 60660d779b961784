"""Closed form of interventions: effects by component, shrunk as far as left-out donors ask for."""

from __future__ import annotations

import logging
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.graph.store import GraphStore
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.intervention_plan import InterventionPlan, section_arms
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.intervention.component_shift import ComponentShift
from aivc_graph.training.contrasts import HANDED_ON, Contrasts, encode_nodes, make_contrasts
from aivc_graph.training.shrinkage import CLEAR_GAIN, Moments, Shrinkage, best_shrinkage, moments, shrunken

log = logging.getLogger(__name__)
Floats = NDArray[np.floating]

SAMPLE_NODES = 20_000
REMAINDERS = (0.0, 0.5, 1.0)
EXPONENTS = (1.0, 2.0)
COURSES_HOURS = (2.0, 6.0, 12.0, 24.0, 96.0)


@torch.no_grad()
def fit_interventions(model: TissueModel, source: TissueGraph | GraphStore, size: int, seed: int) -> None:
    """Fit the model's interventions to the treated training sections of `source`; nothing where there are none.

    Effects are differences of log expression between treated and untreated tissue of one donor, component by component.
    How far components differ, how far the effect spreads, its course over dose and time and how much of it lies beside
    the latent state are chosen by the error on training donors left out in turn.

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
    state = encode_nodes(model, source, plan, size)
    graph = source if isinstance(source, TissueGraph) else source.structure
    _fit_components(shift, plan, graph, state, seed)
    contrasts = make_contrasts(model, source, plan, size, seed)
    weight = model.count_operator(plan.level, plan.modality).weight.double().numpy()
    alone = (contrasts.dose > 0).sum(axis=1) == 1
    for row, key in enumerate(plan.keys):
        own = contrasts.take(alone & (contrasts.dose[:, row] > 0))
        if len(own.donor):
            error = _fit_one(shift, plan, own, row, weight)
            log.info("%s: error on left-out donors %+.1f against no effect", key, error)
    for row, pair in enumerate(plan.pairs):
        a, b = (plan.keys.index(key) for key in pair)
        both = (contrasts.dose[:, a] > 0) & (contrasts.dose[:, b] > 0) & ((contrasts.dose > 0).sum(axis=1) == 2)
        if both.any():
            _fit_pair(shift, plan, contrasts.take(both), row, (a, b), weight)
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


def _fit_one(shift: ComponentShift, plan: InterventionPlan, own: Contrasts, row: int, weight: Floats) -> float:
    """Fit one intervention; return its error on left-out donors, below zero where it beats no effect."""
    course = _course(own, row, None)
    reach: tuple[float | None, ...] = (None, *HANDED_ON)
    tried = [best_shrinkage(_moments(own, row, course, handed_on, plan)) for handed_on in reach]
    # Where all tissue was treated, what spreads cannot be told from what was done: no spread, unless it is clear.
    first = min(range(len(reach)), key=lambda i: tried[i].error + (CLEAR_GAIN if i else 0.0))
    handed_on, best = reach[first], tried[first]
    for option in _course_options(own, row):
        found = best_shrinkage(_moments(own, row, _course(own, row, option), handed_on, plan))
        if found.error < best.error - 1e-6:
            course, best = _course(own, row, option), found
    part = _moments(own, row, course, handed_on, plan)
    remainder = _remainder(part, best, weight)
    shift.course[row] = torch.tensor([*course, handed_on or 0.0])
    for copy, left_out in enumerate((None, *range(len(plan.donors)))):
        effect = np.moveaxis(shrunken(*part.without(left_out), best.shared, best.nothing), 2, 0)
        latent = _in_state(effect, weight)
        shift.latent_effect[copy, row].copy_(torch.from_numpy(latent))
        shift.molecule_effect[copy, row].copy_(torch.from_numpy(remainder * (effect - latent @ weight.T)))
    reached = own.applied[:, row]
    if handed_on is not None:
        reached = np.maximum(reached, own.near[:, row, HANDED_ON.index(handed_on)])
    np.add.at(shift.treated_nodes[row].numpy(), own.component, own.nodes * reached)
    return best.error


def _fit_pair(
    shift: ComponentShift, plan: InterventionPlan, both: Contrasts, row: int, pair: tuple[int, int], weight: Floats
) -> None:
    """Fit what a combination does beyond the sum of its parts."""
    strength = {key: _strength(both, key, shift.course[key, :5].numpy()) * both.applied[:, key] for key in pair}
    for copy, left_out in enumerate((None, *range(len(plan.donors)))):
        rest = both.log_ratio.copy()
        for key, strong in strength.items():
            handed_on = int(np.argmin(np.abs(np.array(HANDED_ON) - float(shift.course[key, 5]))))
            near = _strength(both, key, shift.course[key, :5].numpy()) * both.near[:, key, handed_on]
            effect = shift.latent_effect[copy, key].numpy() @ weight.T + shift.molecule_effect[copy, key].numpy()
            rest -= strong[:, None] * effect[0][both.component] + near[:, None] * effect[1][both.component]
        x = np.prod(list(strength.values()), axis=0)[:, None]
        part = moments(x, rest, 1 / both.variance, both.donor, both.component, (len(plan.donors), plan.components))
        if copy == 0:
            best = best_shrinkage(part)
        effect = shrunken(*part.without(left_out), best.shared, best.nothing)[..., 0]
        latent = _in_state(effect, weight)
        shift.latent_pair[copy, row].copy_(torch.from_numpy(latent))
        shift.molecule_pair[copy, row].copy_(torch.from_numpy(effect - latent @ weight.T))


def _moments(
    own: Contrasts, row: int, course: tuple[float, ...], handed_on: float | None, plan: InterventionPlan
) -> Moments:
    strong = _strength(own, row, np.array(course))
    near = np.zeros(len(strong)) if handed_on is None else own.near[:, row, HANDED_ON.index(handed_on)]
    x = np.column_stack([strong * own.applied[:, row], strong * near])
    size = (len(plan.donors), plan.components)
    return moments(x, own.log_ratio, 1 / own.variance, own.donor, own.component, size)


def _strength(own: Contrasts, row: int, course: Floats) -> Floats:
    half, exponent, slow, full_dose, full_hours = (float(value) for value in course)

    def hill(dose: Floats | float) -> Floats:
        raised = np.asarray(dose, float) ** exponent
        return raised / (raised + half**exponent)

    time = np.expm1(-own.hours[:, row] / slow) / np.expm1(-full_hours / slow)
    return hill(own.dose[:, row]) / hill(full_dose) * time


def _course(own: Contrasts, row: int, option: tuple[float, float, float] | None) -> tuple[float, ...]:
    """Return half dose, exponent, hours of the course, and the dose and hours of strength one: the most in training."""
    most, longest = float(own.dose[:, row].max()), float(max(own.hours[:, row].max(), 1e-3))
    return (*(option or (most, 1.0, longest)), most, longest)


def _course_options(own: Contrasts, row: int) -> list[tuple[float, float, float]]:
    """Return what may be told from the doses and times there are: at least three doses, or two times."""
    doses, hours = np.unique(own.dose[:, row]), np.unique(own.hours[:, row])
    usual = (float(doses.max()), 1.0, float(max(hours.max(), 1e-3)))
    curves = [usual[:2]]
    if len(doses) > 2:
        halves = np.geomspace(doses.min() / 2, doses.max() * 2, 7)
        curves = [(float(half), exponent) for half, exponent in product(halves, EXPONENTS)]
    times = COURSES_HOURS if len(hours) > 1 else (usual[2],)
    return [(*curve, time) for curve, time in product(curves, times)]


def _in_state(effect: Floats, weight: Floats) -> Floats:
    """Return the steps in the latent state whose decoding is nearest to `effect` (…, molecule), as log expression."""
    gram = weight.T @ weight
    return effect @ weight @ np.linalg.inv(gram + 1e-3 * np.trace(gram) / len(gram) * np.eye(len(gram)) + 1e-9)


def _remainder(part: Moments, best: Shrinkage, weight: Floats) -> float:
    """Return how much of what the latent state cannot say left-out donors support: none, half or all of it."""
    donors = np.flatnonzero(part.square.any(axis=(1, 2, 3, 4)))
    if len(donors) < 2:
        return 1.0
    errors = np.zeros(len(REMAINDERS))
    for donor in donors:
        effect = np.moveaxis(shrunken(*part.without(donor), best.shared, best.nothing), 2, 0)
        said = _in_state(effect, weight) @ weight.T
        for i, share in enumerate(REMAINDERS):
            tried = np.moveaxis(said + share * (effect - said), 0, 2)
            errors[i] += np.einsum("jgp,jgpq,jgq->", tried, part.square[donor], tried)
            errors[i] -= 2 * np.einsum("jgp,jgp->", tried, part.cross[donor])
    return REMAINDERS[int(errors.argmin())]
