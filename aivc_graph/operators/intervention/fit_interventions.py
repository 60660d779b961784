"""Closed form of interventions: effects by component, shrunken, of those that left-out donors support."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.intervention.choose_courses import choose_courses
from aivc_graph.operators.intervention.contrasts import Encoded, make_contrasts
from aivc_graph.operators.intervention.effect_rows import effects_of, make_rows
from aivc_graph.operators.intervention.exposure import DIRECT, SPREAD
from aivc_graph.operators.intervention.joint_effects import DONOR, JointEffects, Rows
from aivc_graph.operators.intervention_plan import InterventionPlan, section_arms
from aivc_graph.operators.part import Fitting
from aivc_graph.tissue.evenly import evenly
from aivc_graph.tissue.intervention_kinds.kind import INTERVENTION_KINDS

if TYPE_CHECKING:
    from aivc_graph.operators.intervention.component_shift import ComponentShift

log = logging.getLogger(__name__)
Floats = NDArray[np.floating]

SAMPLE_NODES = 20_000


def fit_interventions(shift: ComponentShift, fitting: Fitting) -> None:
    """Fit interventions to the treated training sections.

    All sections of a donor tell what its tissue is like, treated ones too, and what was done to them comes on top of
    it, component by component. How strength goes with dose and time and how far it spreads is chosen by the evidence.
    Whether an intervention does anything is told by training donors left out in turn; how much it does to each molecule
    in each component by that molecule's own evidence (`shrunken_together`).
    """
    plan, source, size, seed = shift.plan, fitting.source, fitting.window_nodes, fitting.seed
    measurement = fitting.model.part("measurement", plan.level, plan.modality)
    device = shift.centre.device
    fitting.model.to("cpu")
    encoded = Encoded(measurement, plan, source, size, seed)
    _fit_components(shift, plan, source.structure, encoded.nodes(), seed)
    contrasts = make_contrasts(shift, encoded)
    propagator = fitting.model.part("propagator", plan.level)
    courses = choose_courses(contrasts, plan, _passed_on(measurement.plan.names, plan), propagator)
    rows, _ = make_rows(contrasts, courses, plan)
    effects = effects_of(rows, plan)
    n = len(plan.keys) + len(plan.pairs)
    told = effects.whole.mean[:n, None] + effects.whole.departure[:n]
    whole = told * _supported(rows, effects.whole, effects.without, plan)[:n, None, None]
    # An effect that is held at nothing is out by as much as it was told to be.
    error = np.sqrt(effects.whole.error[:n] ** 2 + (told - whole) ** 2)
    weight = measurement.decoder().detach().double().numpy()
    passed_on = _passed_on(measurement.plan.names, plan) * np.array([[course.spread] for course in courses])
    # Not shrunken are departures of components too: an interval about what they share would miss those that differ.
    not_shrunken = [found.mean[:n, None] + found.departure[:n] for found in effects.not_shrunken]
    for copy, effect in enumerate((whole, *not_shrunken)):
        _store(shift, copy, effect, passed_on[:, None], weight)
    shift.error.copy_(torch.from_numpy(_in_parts(error[: len(plan.keys)], passed_on[:, None])))
    shift.pair_error.copy_(torch.from_numpy(error[len(plan.keys) :]))
    for row, (key, course) in enumerate(zip(plan.keys, courses, strict=True)):
        propagator.course[row] = torch.from_numpy(course.numbers)
        shift.reach[row] = torch.tensor([course.handed_on, course.sharpness])
        amount = contrasts.nodes * np.clip(rows.x[:, row], 0, 1)
        np.add.at(shift.treated_nodes[row].numpy(), contrasts.component, amount)
        log.info("%s: spreads by %g%s", key, course.spread, "" if whole[row].any() else ", does nothing")
    fitting.model.to(device)


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
    x = x[evenly(len(x), SAMPLE_NODES)]
    with threadpool_limits(1):
        found = KMeans(min(plan.components, len(np.unique(x, axis=0))), n_init=4, random_state=seed).fit(x)
    centre = np.full(tuple(shift.centre.shape), 1e6)
    centre[: len(found.cluster_centers_)] = found.cluster_centers_
    squared = ((x - found.cluster_centers_[found.labels_]) ** 2).sum(axis=1)
    shift.centre.copy_(torch.from_numpy(centre).float())
    shift.log_spread.fill_(float(np.log(max(squared.mean() / x.shape[1], 1e-6))))
    shift.usual_distance.fill_(float(np.quantile(squared, 0.995)))


def _passed_on(panel: tuple[str, ...], plan: InterventionPlan) -> Floats:
    """Return which molecules' effects may spread (key, molecule), 1 or 0: what stays inside a cell is not passed on."""
    return np.array(
        [
            [0.0 if INTERVENTION_KINDS[kind].inside and molecule in targets else 1.0 for molecule in panel]
            for kind, targets in zip(plan.kinds, plan.targets, strict=True)
        ]
    )


def _store(shift: ComponentShift, copy: int, effect: Floats, passed_on: Floats, weight: Floats) -> None:
    """Write effects (column, component, molecule) as steps in the latent state and what of them lies beside it."""
    n = len(passed_on)
    for part, found in zip((DIRECT, SPREAD), np.moveaxis(_in_parts(effect[:n], passed_on), 1, 0), strict=True):
        latent = _in_state(found, weight)
        shift.latent_effect[copy, :, part].copy_(torch.from_numpy(latent))
        shift.molecule_effect[copy, :, part].copy_(torch.from_numpy(found - latent @ weight.T))
    latent = _in_state(effect[n:], weight)
    shift.latent_pair[copy].copy_(torch.from_numpy(latent))
    shift.molecule_pair[copy].copy_(torch.from_numpy(effect[n:] - latent @ weight.T))


def _in_parts(effect: Floats, passed_on: Floats) -> Floats:
    """Return what of effects (key, component, molecule) is direct, what passed on (key, 2, component, molecule)."""
    return np.stack([effect * (1 - passed_on), effect * passed_on], axis=1)


def _supported(
    rows: Rows, joint: JointEffects, without: list[JointEffects], plan: InterventionPlan
) -> NDArray[np.bool_]:
    """Return which columns' effects left-out donors support (column,).

    With fewer than two donors nothing shows what travels: an intervention has its effect, a combination stays additive.
    There is an effect if the squared error on left-out donors, in units of its variance, falls by more than the largest
    of as many chances as there are effects makes it fall, 2 log (component · molecule), as where one molecule answers
    and all donors agree; or if the evidence for one is as large, as where donors answer unequally. (Evidence is of a
    prior fitted to the same estimates; half as much is now and then found where nothing was done.)

    References
    ----------
    Foster & George 1994, doi:10.1214/aos/1176325766.
    """
    weight = rows.weight(joint.surplus + joint.between)
    n, least = len(plan.keys) + len(plan.pairs), 2 * np.log(joint.departure[0].size)
    supported = np.arange(rows.x.shape[1]) < len(plan.keys)
    for column in range(n):
        donors = [d for d in range(len(plan.donors)) if rows.x[rows.donor == d, column].any()]
        if len(donors) < 2:
            continue
        gain = 0.0
        for d in donors:
            own, other = rows.take(rows.donor == d), without[d]
            effect = own.x[:, column, None] * (other.mean[column] + other.departure[column])[own.component]
            left = own.y - other.of(own)
            for sign, part in ((1, left + effect), (-1, left)):
                gain += sign * _about_own_mean(part, weight[rows.donor == d], own.component)
        supported[column] = max(joint.evidence[column], gain) > least
    return supported


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
    # A decoder that tells nothing, in all or some directions, takes no step.
    ridge = 1e-3 * np.trace(gram) / len(gram) + 1e-9
    return effect @ weight @ np.linalg.inv(gram + ridge * np.eye(len(gram)))
