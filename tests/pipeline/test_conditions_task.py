"""Held-out conditions of a graph are scored as a table of them is, with the same baselines and ceilings."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from torch import nn

from aivc_graph import names
from aivc_graph.config import Config
from aivc_graph.errors import GraphError, QueryError
from aivc_graph.evaluation.responses.asking import conditions_in, examine
from aivc_graph.evaluation.responses.of_graph import held_out_conditions, responses_of_graph
from aivc_graph.evaluation.responses.questions import Fold, Question
from aivc_graph.evaluation.responses.table import responses_of
from aivc_graph.evaluation.scoring import score
from aivc_graph.graph.known import known_of
from aivc_graph.graph.priors import add_priors
from aivc_graph.graph.screens import EFFECT
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.intervention.condition_effects import ConditionEffects
from aivc_graph.operators.intervention.condition_stack import predict_responses
from aivc_graph.pipeline.tasks.conditions import conditions
from aivc_graph.tissue.prior import Prior
from tests.graph.screen_graphs import screen_graph

GENES = tuple(f"G{i}" for i in range(40))
SINGLES = ("G1", "G2", "G3", "G4", "G5", "G6")
PAIRS = ("G1+G2", "G3+G4", "G5+G6", "G1+G6", "G2+G3", "G4+G5", "G1+G3")
HELD_OUT = ("G1+G2", "G4+G5")


def screen(contexts: tuple[str, ...] = ("a",), cells: int = 12) -> tuple[np.ndarray, pd.DataFrame]:
    rng = np.random.default_rng(0)
    effect = {name: rng.normal(size=len(GENES)) * (rng.random(len(GENES)) < 0.4) for name in SINGLES}
    x, rows = [], []
    for where in contexts:
        base = np.log(rng.gamma(2.0, 4.0, len(GENES)))
        for name in ("control", *SINGLES, *PAIRS):
            rate = np.exp(base + sum((effect[one] for one in name.split("+") if one in effect), np.zeros(len(GENES))))
            x += list(rng.poisson(rate, (cells, len(GENES))).astype(float))
            rows += [(name, where)] * cells
    return np.array(x), pd.DataFrame(rows, columns=["condition", "context"], index=[f"c{i}" for i in range(len(rows))])


def asked_of(graph: TissueGraph) -> Any:
    """Return a run of the operator alone: what the task reads of one."""
    plan = ConditionEffects.plan_of(graph)
    assert plan is not None
    operator = ConditionEffects(plan)
    operator.fit([(graph, np.ones(graph["cell"].num_nodes, bool))])
    return SimpleNamespace(
        graph=graph,
        model=nn.ModuleList([operator]),
        split=names.TEST,
        weights=None,
        config=Config(),
        screen=responses_of_graph(graph),
        tissue=SimpleNamespace(seed=0),
    )


def by_conditions(held_out: tuple[str, ...] = HELD_OUT) -> tuple[TissueGraph, np.ndarray, pd.DataFrame]:
    x, obs = screen()
    split = np.where(obs["condition"].isin(held_out), names.TEST, names.TRAIN)
    return screen_graph(x, GENES, obs["condition"], obs["context"], split, modality=names.RNA), x, obs


def test_the_scores_are_those_of_the_same_table_asked_the_same_question() -> None:
    graph, x, obs = by_conditions()
    (found,) = conditions(asked_of(graph))
    table = responses_of(
        ad.AnnData(sparse.csr_matrix(x), obs, pd.DataFrame(index=GENES)), "condition", "control", "context"
    )
    held_out = np.isin(table.condition, HELD_OUT)
    fold = Fold(~held_out & ~table.is_control, held_out)
    exam = examine(table, Question("x", "intervention", (fold,), "perturbation", tuple(table.condition)))
    beside = exam.scored(exam.of_effects([predict_responses(conditions_in(table, fold), fold.asked)]))
    assert found.units.name == "perturbation" and found.units.labels == HELD_OUT and found.axis == "intervention"
    assert set(found.baselines) == set(beside.baselines) and set(found.ceilings) == {
        "replicate_half",
        "replicate_full_depth",
    }
    one, other = (pd.DataFrame([r.model_dump() for r in score([s])[0]]) for s in (found, beside))
    assert len(one) > 100
    for key in ("metric", "predictor", "kind", "n_units"):
        assert one[key].tolist() == other[key].tolist()
    np.testing.assert_allclose(one["value"].to_numpy(float), other["value"].to_numpy(float), rtol=2e-4, atol=1e-5)


def test_a_context_held_out_is_asked_with_its_control_told_and_contexts_are_resampled() -> None:
    x, obs = screen(("a", "b", "c"), cells=6)
    split = np.where(obs["context"] == "c", names.TEST, names.TRAIN)
    graph = screen_graph(x, GENES, obs["condition"], obs["context"], split, modality=names.RNA)
    (found,) = conditions(asked_of(graph))
    assert (found.axis, found.units.name, found.units.labels) == ("context", "context", ("c",))
    rows, compared = score([found])
    assert {row.lower for row in rows} == {None} and {one.lower for one in compared} == {None}
    assert {"nearest_context", "alike_contexts", "same_elsewhere"} <= set(found.baselines)


def test_a_condition_on_both_sides_is_neither_asked_nor_told_to_baselines() -> None:
    x, obs = screen()
    split = np.where(obs["condition"].isin(HELD_OUT), names.TEST, names.TRAIN)
    split[np.flatnonzero(obs["condition"] == "G4+G5")[:3]] = names.TRAIN
    graph = screen_graph(x, GENES, obs["condition"], obs["context"], split, modality=names.RNA)
    found = responses_of_graph(graph)
    assert found is not None
    table, _, row = found
    question = held_out_conditions(graph, table, row, names.TEST)
    assert question is not None
    assert table.condition[question.asked].tolist() == ["G1+G2"]
    assert "G4+G5" not in table.condition[question.folds[0].train]


def test_without_anything_held_out_there_is_nothing_to_ask() -> None:
    assert conditions(asked_of(by_conditions(held_out=())[0])) == []


def test_without_an_operator_of_the_run_folds_are_answered_all_the_same() -> None:
    graph, *_ = by_conditions()
    run = asked_of(graph)
    (told,) = conditions(run)
    run.model = nn.ModuleList([])
    (again,) = conditions(run)
    np.testing.assert_allclose(again.model.profile, told.model.profile, atol=1e-3)


def test_values_that_have_no_control_are_named() -> None:
    lone = screen_graph(np.ones((2, 2)), ["G1", "G2"], ["A", "control"], ["x", "y"], ["train"] * 2)
    with pytest.raises(GraphError, match="no condition with a control"):
        responses_of_graph(lone)


def test_effects_are_scored_without_controls_and_without_what_is_missing() -> None:
    rng = np.random.default_rng(0)
    effect = {name: rng.normal(size=len(GENES)) for name in SINGLES}
    done = [*SINGLES, *PAIRS] * 2
    values = np.array([sum(effect[part] for part in one.split("+")) for one in done])
    values += 0.1 * rng.normal(size=values.shape)
    values[rng.random(values.shape) < 0.1] = np.nan
    split = [names.TEST if one in HELD_OUT else names.TRAIN for one in done]
    graph = screen_graph(values, GENES, done, ["x"] * len(done), split, modality=EFFECT)
    table, _, row = responses_of_graph(graph)
    assert table.is_control.sum() == 1 and (table.profile[table.is_control] == 0).all() and (row >= 0).all()
    assert table.unmeasured is not None and 0 < table.unmeasured.mean() < 0.1
    (found,) = conditions(asked_of(graph))
    assert found.modality == EFFECT and "energy_distance" not in found.metrics
    value = {(one.metric, one.predictor): one.value for one in score([found])[0]}
    assert all(np.isfinite(one) for (metric, _), one in value.items() if metric == "mse_delta" and one is not None)
    assert value["mse_delta", "model"] < 0.1 < value["mse_delta", "no_change"]
    assert value["mse_delta", "replicate_half"] < 0.1 and value["pearson_delta_profile", "model"] > 0.95


def test_with_too_few_conditions_no_model_answers_and_it_is_said() -> None:
    graph, *_ = by_conditions(held_out=tuple(one for one in (*SINGLES, *PAIRS) if one not in ("G1", "G2")))
    (found,) = conditions(asked_of(graph))
    assert found.model is None and found.no_model == "fewer than 3 conditions to learn from (2)"
    assert "additive" in found.baselines and all(one.kind != "model" for one in score([found])[0])


def test_a_prior_is_scored_beside_itself_rewired_shuffled_and_taken_away() -> None:
    graph, *_ = by_conditions()
    pairs = [(a, b) for a in SINGLES for b in SINGLES if a < b]
    table = pd.DataFrame(pairs, columns=["source", "target"]).assign(sign=0.0, weight=1.0)
    add_priors(graph, [Prior("interacts", table, {"file": "i.csv", "layout": "columns", "sha256": "0" * 64})])
    asked = asked_of(graph)
    (found,) = conditions(asked)
    assert set(found.ablations) == {"prior_rewired", "prior_shuffled", "prior_none"}
    (plain,) = conditions(asked_of(by_conditions()[0]))
    np.testing.assert_allclose(found.ablations["prior_none"].profile, plain.model.profile, rtol=1e-4)  # type: ignore[union-attr]
    results, comparisons = score([found])
    assert {r.predictor for r in results if r.kind == "ablation"} == set(found.ablations)
    beside = {c.b for c in comparisons if c.against == "ablation"}
    assert beside == set(found.ablations)
    operator = next(iter(asked.model))
    assert operator.plan.known == ("interacts",)
    with pytest.raises(QueryError, match="training knew interacts of genes, and here nothing is known"):
        operator.predict(("G1", "G2"), "a")
    said = operator.predict(("G1", "NEVER"), "a", known=known_of(graph))
    assert np.isfinite(said.effect).all() and said.doubts == ("NEVER was never done in training",)
    assert all("is let through" in one for one in operator.told_of_known()) and operator.told_of_known()


def test_a_run_that_knows_answers_as_its_table_does_and_so_does_a_copy_of_its_numbers() -> None:
    graph, *_ = by_conditions()
    table = pd.DataFrame([("G1", "G4"), ("G4", "G9"), ("G1", "G9"), ("G2", "G5")], columns=["source", "target"])
    facts = {"file": "i.csv", "layout": "columns", "sha256": "0" * 64}
    add_priors(graph, [Prior("interacts", table.assign(sign=1.0, weight=1.0), facts)])
    asked = asked_of(graph)
    operator, known = next(iter(asked.model)), known_of(graph)
    copy = ConditionEffects(operator.plan)
    copy.load_state_dict(operator.state_dict())
    found, _, _ = asked.screen
    held_out = np.isin(found.condition, HELD_OUT)
    fold = Fold(~held_out & ~found.is_control, held_out)
    on_table = predict_responses(conditions_in(found, fold, known), held_out)
    own, same = (
        [one.predict(found.parts[i], "a", known=known).effect for i in np.flatnonzero(held_out)]
        for one in (operator, copy)
    )
    np.testing.assert_array_equal(own, same)
    np.testing.assert_allclose(own, on_table, atol=1e-4)
