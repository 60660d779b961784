"""Effects of interventions on sections to which nothing was done, against what truly would have been."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import sparse
from scipy.spatial import cKDTree

from aivc_graph import names
from aivc_graph.errors import QueryError, ReadError
from aivc_graph.evaluation.baselines.baseline import run_baselines
from aivc_graph.evaluation.intervals import units_of
from aivc_graph.evaluation.metrics.metric import means_by
from aivc_graph.evaluation.scoring import MODEL, Scored
from aivc_graph.graph.interventions import intervention_dose
from aivc_graph.graph.panels import panel_columns
from aivc_graph.graph.tissue_graph import to_scipy_csr
from aivc_graph.pipeline.tasks.response_readouts import METRICS, Case, read_effects
from aivc_graph.pipeline.tasks.task import TASKS, Asked, Mask
from aivc_graph.pipeline.truth import Truth
from aivc_graph.query.answers import PER
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.tissue.intervention import Combination, Intervention

Floats = NDArray[np.float64]
# Distance from the nearest treated cell [µm]: inside, and rings around.
RINGS_UM = (0.0, 1e-6, 25.0, 50.0, 100.0, 200.0, np.inf)
MOST_VALUES = 4_000_000


@TASKS.register("response", needs="truth: counterfactuals of interventions that training has seen")
def response(asked: Asked) -> list[Scored]:
    """Ask what each known intervention would do to the scored, untreated sections: cells, regions, and over distance.

    Effects are in counts per 10,000, and read as genes called and, where weights are given, as pathways. The mean
    shift is that of treated training cells from the untreated sections of their donors.
    """
    plan = asked.model.plan.interventions
    level = asked.tissue.base_level
    if asked.truth is None or plan is None or plan.level != level:
        return []
    cases = [case for name, parts in _interventions(asked.truth).items() for case in _cases(asked, level, name, parts)]
    if not cases:
        return []
    views = {"cells": _by_cell, "regions": _by_region, "profile over distance": _by_distance}
    scored = [
        _scored(asked, level, readout, [view(asked, level, case) for case in cases]) for readout, view in views.items()
    ]
    return scored + read_effects(asked, level, cases)


def _interventions(truth: Truth) -> dict[str, Combination]:
    path = truth.folder / "interventions.json"
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text())
        return {name: Combination(parts=tuple(Intervention(**part) for part in parts)) for name, parts in found.items()}
    except (OSError, ValueError, TypeError, ValidationError) as error:
        raise ReadError(str(path), f"no interventions ({error})", "name → parts", "simulate again") from error


def _cases(asked: Asked, level: str, name: str, given: Combination) -> list[Case]:
    graph, plan = asked.graph, asked.model.plan.interventions
    assert asked.truth is not None and plan is not None
    if any(part.key not in plan.keys for part in given.parts):
        return []
    section, scored = graph[level].section_index.numpy(), asked.scored(level)
    rates = {}
    for row, of in enumerate(graph.obs(names.SECTION).index.astype(str)):
        tables = [asked.truth.table(of, f"counterfactual/{what}") for what in (name, "untreated")]
        here = (section == row) & scored
        if here.any() and not _was_treated(asked, level, here) and tables[0] is not None and tables[1] is not None:
            barcodes = graph.obs(level)[names.BARCODE].astype(str)[here]
            genes = list(plan_panel(asked, level))
            rates[row] = [_per(table.reindex(barcodes)[genes]) for table in tables if table is not None]
    where = _places(asked, level, given, np.isin(section, list(rates)))
    if not rates or not where.any() or len(where) * len(plan_panel(asked, level)) > MOST_VALUES:
        return []

    def answer(tissue: VirtualTissue) -> Floats:
        # What it would say out of support is scored too, though nobody is told it.
        every = sparse.identity(len(where), format="csr"), list(range(len(plan_panel(asked, level))))
        untreated, treated, *_ = tissue.intervene(given, where=where).rollouts(*every, copies=False)
        return np.asarray(treated[0] - untreated)

    try:
        whole = answer(asked.tissue)
    except QueryError:
        return []
    rules = run_baselines(_scene(asked, level, given, where), "effect")
    ablated = asked.ablations(answer)
    cases = []
    for row, (done, left) in rates.items():
        here = (section == row) & scored
        effects = {MODEL: whole[here], **{rule: answer[here] for rule, answer in rules.items()}}
        known = np.isfinite(done).all(axis=1) & np.isfinite(left).all(axis=1)
        rows = here.copy()
        rows[here] = known
        kept = {who: effect[known] for who, effect in effects.items()}
        parts = {who: effect[here][known] for who, effect in ablated.items()}
        cases.append(Case(given, row, rows, where[rows], kept, (done - left)[known], left[known], parts))
    return cases


def plan_panel(asked: Asked, level: str) -> tuple[str, ...]:
    """Return the genes whose expression is counted at `level`."""
    return asked.model.plan.counts[level][names.RNA]


def _was_treated(asked: Asked, level: str, rows: Mask) -> bool:
    plan = asked.model.plan.interventions
    assert plan is not None
    return any((intervention_dose(asked.graph, level, key)[rows] > 0).any() for key in plan.keys)


def _places(asked: Asked, level: str, given: Combination, asked_of: Mask) -> Mask:
    """Return the cells an intervention is done to: a disc of each section, or all of it."""
    pos = asked.graph[level].pos.numpy()
    inside = np.zeros(len(pos), bool)
    for part in given.parts:
        disc = part.where.disc_um if part.where is not None else None
        inside |= True if disc is None else np.hypot(*(pos - disc[:2]).T) <= disc[2]
    return inside & asked_of


def _scene(asked: Asked, level: str, given: Combination, where: Mask) -> Any:
    """Return training cells treated alike, each less the mean untreated cell of its donor, and who is treated now."""
    graph = asked.graph
    counts = to_scipy_csr(graph.counts(level, names.RNA))[:, panel_columns(graph, level, names.RNA).numpy()].toarray()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) * PER
    donor = asked.donor[graph[level].section_index.numpy()]
    section = graph[level].section_index.numpy()
    plan = asked.model.plan.interventions
    assert plan is not None
    doses = {key: intervention_dose(graph, level, key) > 0 for key in plan.keys}
    wanted = {part.key for part in given.parts}
    alike = np.all([mask if key in wanted else ~mask for key, mask in doses.items()], axis=0)
    ever = np.isin(section, np.unique(section[np.any(list(doses.values()), axis=0)]))
    train, counted = asked.training(level), asked.counted(level)
    target = np.full_like(shares, np.nan)
    for one in np.unique(donor[train]):
        control = train & counted & ~ever & (donor == one)
        if control.any():
            target[donor == one] = shares[donor == one] - shares[control].mean(axis=0)
    usable = train & counted & alike & np.isfinite(target).all(axis=1)
    everyone = np.ones(len(where), bool)
    features = where[:, None].astype(float)
    return asked.scene(level, target, train=usable, visible=~everyone, asked=everyone, features=features)


def _per(rates: pd.DataFrame) -> Floats:
    values = rates.to_numpy(np.float64)
    return values / np.maximum(values.sum(axis=1, keepdims=True), 1e-12) * PER


# A view: effects by predictor, by ablation and true (row, gene), and the position of each row [µm].
View = tuple[dict[str, Floats], dict[str, Floats], Floats, Floats, int]


def _by_cell(asked: Asked, level: str, case: Case) -> View:
    return case.effects, case.ablations, case.true, asked.graph[level].pos.numpy()[case.rows], case.section


def _by_region(asked: Asked, level: str, case: Case) -> View:
    region = asked.graph[level].region_index.numpy()[case.rows]
    return _means(asked, level, case, region)


def _by_distance(asked: Asked, level: str, case: Case) -> View:
    pos = asked.graph[level].pos.numpy()[case.rows]
    away = cKDTree(pos[case.treated]).query(pos)[0] if case.treated.any() else np.full(len(pos), np.inf)
    return _means(asked, level, case, np.digitize(away, RINGS_UM))


def _means(asked: Asked, level: str, case: Case, group: NDArray[np.integer[Any]]) -> View:
    kinds, place = np.unique(group, return_inverse=True)

    def means(values: Floats) -> Floats:
        return means_by(values, place.reshape(-1), len(kinds))

    effects, ablations = ({who: means(values) for who, values in of.items()} for of in (case.effects, case.ablations))
    return effects, ablations, means(case.true), means(asked.graph[level].pos.numpy()[case.rows]), case.section


def _scored(asked: Asked, level: str, readout: str, views: list[View]) -> Scored:
    predictors = set.intersection(*(set(effects) for effects, *_ in views))
    effects = {name: np.concatenate([view[0][name] for view in views]) for name in sorted(predictors)}
    section = np.concatenate([np.full(len(true), one) for *_, true, _, one in views])
    pos = np.concatenate([place for *_, place, _ in views])
    true = np.concatenate([true for *_, true, _, _ in views])
    return Scored(
        task="response",
        axis="intervention",
        split=asked.split,
        scale="region" if readout == "regions" else level,
        modality="rna",
        readout=f"effect, {readout}",
        measured=true,
        model=effects.pop(MODEL),
        baselines=effects,
        ablations={who: np.concatenate([view[1][who] for view in views]) for who in views[0][1]},
        metrics=METRICS,
        units=units_of(asked.donor[section], section, pos if readout != "profile over distance" else None),
        leakage=asked.leakage(level, asked.scored(level) & asked.counted(level))["any"],
        ceilings={"truth": true},
    )
