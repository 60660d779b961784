"""A trained, saved operator answers as the rules on its table do, adds over pieces, and says what it has not seen."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from aivc_graph import names
from aivc_graph.errors import QueryError
from aivc_graph.graph.screens import EFFECT, LOG_EXPRESSION, Setting, settings_of
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.graph.windows import windows
from aivc_graph.operators.intervention.condition_effects import ConditionEffects, ConditionsPlan
from aivc_graph.operators.intervention.condition_stack import predict_responses
from aivc_graph.operators.intervention.conditions import conditions_of
from aivc_graph.operators.part import LAST_ANSWERS, Fitting, Shape
from tests.graph.screen_graphs import screen_graph
from tests.graph.tissues import random_tissue

PARTS, GENES = "ABCDE", 30
SINGLES = tuple(PARTS)
PAIRS = tuple(f"{a}+{b}" for i, a in enumerate(PARTS) for b in PARTS[i + 1 :])


def of_pairs(held_out: tuple[str, ...] = ("A+B",), modality: str = LOG_EXPRESSION, n: int = 6) -> TissueGraph:
    """Return a screen of singles and pairs in two contexts, some conditions held out of one of them."""
    rng = np.random.default_rng(0)
    alone = dict(zip(PARTS, rng.normal(size=(len(PARTS), GENES)), strict=True))
    values, condition, context, split = [], [], [], []
    for where in ("k562", "rpe1"):
        base = rng.uniform(2, 4, GENES)
        for name in ("control", *SINGLES, *PAIRS):
            whole = base + sum((alone[part] for part in name.split("+") if part in alone), np.zeros(GENES))
            for _ in range(n):
                values.append(whole + 0.1 * rng.normal(size=GENES))
                condition.append(name)
                context.append(where)
                split.append(names.TEST if name in held_out else names.TRAIN)
    x = np.array(values)
    if modality == names.RNA:
        x = rng.poisson(np.exp(x)).astype(float)
    return screen_graph(x, [f"G{i}" for i in range(GENES)], condition, context, split, modality=modality)


def fitted(graph: TissueGraph, pieces: int = 1) -> ConditionEffects:
    plan = ConditionEffects.plan_of(graph)
    assert plan is not None
    module = ConditionEffects(plan)
    n = graph[plan.level].num_nodes
    module.fit([(graph, np.arange(n) % pieces == i) for i in range(pieces)])
    return module


def test_it_answers_as_the_rules_do_on_the_table_of_its_conditions() -> None:
    graph = of_pairs()
    x, obs = graph["cell"][LOG_EXPRESSION].numpy().astype(float), graph.obs("cell")
    code = graph["cell"].section_index.numpy()
    keys = [(c, name) for c in (0, 1) for name in (*SINGLES, *PAIRS)]
    mean = {
        (c, name): x[(code == c) & (obs["condition"] == name)].mean(axis=0) for c in (0, 1) for name in obs.condition
    }
    effect = np.array([mean[key] - mean[key[0], "control"] for key in keys])
    design = np.array([[part in name.split("+") for part in PARTS] for _, name in keys])
    context, asked = np.array([c for c, _ in keys]), np.array([name == "A+B" for _, name in keys])
    untreated = np.stack([mean[c, "control"] for c in (0, 1)])
    said = predict_responses(conditions_of(effect, design, context, ~asked, untreated=untreated), asked)
    module = fitted(graph)
    for where, expected in zip(("k562", "rpe1"), said, strict=True):
        found, *_, doubts, _ = module.predict(["B", "A"], where)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert doubts == ()
    assert np.abs(said - effect[asked]).max() < 0.5 < np.abs(effect[asked]).max()


@pytest.mark.parametrize("modality", [LOG_EXPRESSION, names.RNA])
def test_pieces_add_up_to_the_whole(modality: str) -> None:
    graph = of_pairs(modality=modality)
    whole, parts = fitted(graph), fitted(graph, pieces=3)
    np.testing.assert_allclose(parts.total, whole.total, rtol=1e-12)
    np.testing.assert_allclose(parts.predict(["A", "B"], "k562")[0], whole.predict(["A", "B"], "k562")[0], atol=1e-9)


def test_windows_of_tissue_with_conditions_add_up_to_it() -> None:
    graph = random_tissue(n_cells=300, n_genes=8)
    rng = np.random.default_rng(0)
    graph["cell"].obs["condition"] = rng.choice(["control", "G1", "G2", "G3", "G1+G2"], 300)
    whole = fitted(graph)
    assert whole.slot == ("cell", "rna") and ConditionEffects.serves(graph, Shape(4, ())) == [whole.plan]
    again = ConditionEffects(whole.plan)
    fit = again.fits(LAST_ANSWERS)
    assert fit is not None
    fit(Fitting(None, [], [], rng, 0, graph, 100, np.zeros(1, np.int64)))  # type: ignore[arg-type]
    torch.testing.assert_close(again.total, whole.total, rtol=1e-12, atol=0.0)
    assert len(list(windows(graph, (), 100))) > 2 and float(whole.total.sum()) > 0


def test_what_is_saved_answers_alike() -> None:
    module = fitted(of_pairs())
    again = ConditionEffects(ConditionsPlan.model_validate(json.loads(module.plan.model_dump_json())))
    again.load_state_dict({name: tensor.clone() for name, tensor in module.state_dict().items()})
    for asked in ((["A", "B"], "k562"), (["A", "new"], "rpe1"), (["A"], "elsewhere")):
        np.testing.assert_array_equal(again.predict(*asked)[0], module.predict(*asked)[0])


def test_what_is_held_out_is_not_read() -> None:
    graph, spoilt = of_pairs(), of_pairs()
    spoilt["cell"][LOG_EXPRESSION][graph["cell"].split != names.SPLITS.index(names.TRAIN)] = 99.0
    one, other = fitted(graph), fitted(spoilt)
    assert not any(set(setting.parts) == {"A", "B"} for setting in one.plan.rows)
    for name, tensor in one.state_dict().items():
        assert torch.equal(torch.nan_to_num(tensor), torch.nan_to_num(other.state_dict()[name])), name


def test_what_training_has_not_is_said() -> None:
    module = fitted(of_pairs())
    assert module.predict(["A", "Z"], "k562").doubts == ("Z was never done in training",)
    assert module.predict(["A"], "jurkat").doubts == ("no condition of jurkat trains",)
    with pytest.raises(QueryError, match="no part"):
        module.predict([], "k562")
    with pytest.raises(QueryError, match="2 values of dose"):
        module.predict(["A"], "k562", dose=(1.0, 2.0))


def of_doses() -> TissueGraph:
    rng = np.random.default_rng(1)
    effect = dict(zip(PARTS, rng.normal(size=(len(PARTS), GENES)), strict=True))
    doses, values, condition, dose = (0.1, 1.0, 10.0), [], [], []
    for name in ("control", *SINGLES):
        for one in doses if name != "control" else (0.0,):
            for _ in range(4):
                whole = effect.get(name, np.zeros(GENES)) * one / (one + 1)
                values.append(3 + whole + 0.05 * rng.normal(size=GENES))
                condition.append(name)
                dose.append(one)
    n = len(values)
    genes = [f"G{i}" for i in range(GENES)]
    return screen_graph(np.array(values), genes, condition, ["a549"] * n, [names.TRAIN] * n, dose=np.array(dose))


def test_doses_are_told_apart_and_one_out_of_range_is_said() -> None:
    graph = of_doses()
    settings, of_node = settings_of(graph, "cell", LOG_EXPRESSION)
    assert Setting("a549", ("A",), (10.0,), (24.0,)) in settings and len(settings) == 16 and (of_node >= 0).all()
    module = fitted(graph)
    high, *_, doubts, _ = module.predict(["A"], "a549", dose=10.0)
    low = module.predict(["A"], "a549", dose=0.1)[0]
    assert doubts == () and np.linalg.norm(low) < 0.5 * np.linalg.norm(high)
    assert module.predict(["A"], "a549", dose=50.0).doubts == ("dose 50 of A is outside 0.1 to 10",)
    assert module.predict(["A"], "a549", dose=1.0, hours=48.0).doubts == ("hours 48 of A is outside 24 to 24",)


def test_effects_need_no_controls_and_a_gene_that_was_not_measured_counts_as_the_mean() -> None:
    rng = np.random.default_rng(2)
    effect = rng.normal(size=(len(PAIRS) + len(SINGLES), GENES))
    effect[0, 3] = np.nan
    genes = [f"G{i}" for i in range(GENES)]
    done = [*SINGLES, *PAIRS]
    graph = screen_graph(effect, genes, done, ["x"] * len(done), [names.TRAIN] * len(done), modality=EFFECT)
    module = fitted(graph)
    found, has = module._effects()
    assert has.all() and found[0, 3] == pytest.approx(np.nanmean(np.float32(effect[:, 3])), abs=1e-6)
    assert np.isfinite(module.predict(["A", "B"], "x")[0]).all()


def test_a_graph_without_conditions_has_no_plan() -> None:
    graph = of_pairs()
    del graph["cell"].obs["condition"]
    assert ConditionEffects.plan_of(graph) is None
    untreated = screen_graph(np.ones((2, 2)), ["G0", "G1"], ["control"] * 2, ["a"] * 2, [names.TRAIN] * 2)
    assert ConditionEffects.plan_of(untreated) is None
