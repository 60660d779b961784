"""Plans say what a model was made for: written and read back, checked against graphs, and refused with a reason."""

from __future__ import annotations

import copy
from typing import Any

import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from aivc_graph import names
from aivc_graph.errors import ModelError
from aivc_graph.graph.profiles import add_section_profiles
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.plan import MESSAGES, ModelPlan, message_steps
from aivc_graph.model.settings import ModelConfig
from aivc_graph.model.tissue_model import TissueModel
from tests.graph.tissues import random_tissue

CONFIG = ModelConfig(latent=4, rings=(3, 6), depth=2)


@pytest.fixture(scope="module")
def graph() -> TissueGraph:
    graph = random_tissue(120)
    add_section_profiles(graph)
    return graph


@pytest.fixture(scope="module")
def plan(graph: TissueGraph) -> ModelPlan:
    return ModelPlan.of(graph, CONFIG)


def test_a_plan_is_read_back_and_makes_the_same_parts(plan: ModelPlan) -> None:
    again = ModelPlan.model_validate_json(plan.model_dump_json())
    assert again == plan
    one, other = TissueModel(plan), TissueModel(again)
    assert {name: tuple(value.shape) for name, value in one.state_dict().items()} == {
        name: tuple(value.shape) for name, value in other.state_dict().items()
    }
    assert [type(spec.make()) for spec in plan.parts] == [spec.part_class for spec in again.parts]


def test_a_plan_says_what_was_measured_where(graph: TissueGraph, plan: ModelPlan) -> None:
    genes = tuple(graph.obs("gene").index)
    assert plan.counts == plan.panels == {"cell": {"rna": genes}}
    assert set(plan.features["patch"]["histology"]) == {f"f{i}" for i in range(5)} and "cell" not in plan.features
    assert plan.made_of("cell") == plan.expressed("cell") == "rna" and plan.made_of("patch") is None
    assert plan.laterals == ("cell", "patch") and plan.compositions == {} and plan.interventions is None
    assert plan.latent == 4


def test_the_state_is_no_wider_than_what_it_is_made_of(graph: TissueGraph) -> None:
    few = random_tissue(60, n_genes=4)
    add_section_profiles(few)
    assert ModelPlan.of(few, ModelConfig(latent=16)).latent == 3


def test_messages_travel_block_by_block_and_their_reach_is_known_before_anything_is_measured(
    graph: TissueGraph, plan: ModelPlan
) -> None:
    steps = message_steps(graph, CONFIG)
    assert steps and steps == plan.steps[: len(steps)]
    half = steps[: len(steps) // 2]
    assert steps == half * 2 and steps == message_steps(graph, CONFIG.model_copy(update={"depth": 1})) * 2
    relations = {relation for relation, _ in steps}
    assert ("cell", "near", "cell") in relations and (("cell", "within", "patch"), True) in steps
    model = TissueModel(plan)
    assert len(model.blocks) == 2 and set(MESSAGES) == set(model.blocks[0])


def test_a_graph_with_another_panel_is_refused_and_one_without_counts_is_not(
    graph: TissueGraph, plan: ModelPlan
) -> None:
    plan.check(graph)
    other = copy.copy(graph)
    other["gene"].obs = pd.DataFrame(index=[f"H{i}" for i in range(20)])
    with pytest.raises(ModelError, match=r"cell · rna: expected the panel the model was trained on, found 20 of the"):
        plan.check(other)
    slide = copy.copy(graph)
    del slide["gene", names.OBSERVED_IN, "cell"]
    del slide["cell"]["rna_mask"]
    plan.check(slide)


def test_nothing_measured_is_refused_with_what_would_do(graph: TissueGraph) -> None:
    bare = copy.copy(graph)
    del bare["gene", names.OBSERVED_IN, "cell"]
    del bare["cell"]["rna_mask"]
    for key in ("histology", "histology_mask", "histology_names"):
        del bare["patch"][key]
    with pytest.raises(ModelError, match=r"expected measurements, or labels of 2 to .* types, found no label, and"):
        ModelPlan.of(bare, CONFIG)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"measurement": {"rma": {"kind": "poisson"}}}, "did you mean 'rna'"),
        ({"measurement": {"rna": {"kind": "intensity"}}}, "found 'intensity', a measurement of"),
        (
            {"measurement": {"rna": {"kind": "gaussian"}}},
            "expected one of rna, found 'gaussian', a measurement of features",
        ),
        ({"relation": {"nere": {"kind": "near"}}}, "did you mean 'near'"),
        ({"relation": {"within": {"kind": "near"}}}, "found 'near', which does not read cell · within · patch"),
    ],
)
def test_what_a_part_cannot_read_is_refused(graph: TissueGraph, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        ModelPlan.of(graph, CONFIG.model_copy(update=given))


@pytest.mark.parametrize("rings", [(), (6, 6), (0, 4), (8, 3)])
def test_rings_grow(rings: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="rings must be positive and grow"):
        ModelConfig(rings=rings)


def test_the_state_is_drawn_only_of_who_was_measured(graph: TissueGraph, plan: ModelPlan) -> None:
    torch.manual_seed(0)
    model = TissueModel(plan).eval()
    with torch.no_grad():
        for part in model.parts_of("measurement"):
            part.begin(graph)
        inputs = model.prepare(graph)
        plain = model(inputs)
        drawn = [model(inputs, generator=torch.Generator().manual_seed(seed)).z["cell"] for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.allclose(drawn[0], drawn[2])
    bare = plain.precision["region"].sum(dim=1) == 0
    assert bool(bare.all()) and not plain.mean["region"].any()  # of regions nothing was measured, and nothing is drawn


def test_a_question_is_asked_and_then_taken_back(plan: ModelPlan) -> None:
    model = TissueModel(plan)
    gates = [module for module in model.modules() if type(module).__name__ == "Gate"]
    before = [gate.question for gate in gates]
    with pytest.raises(RuntimeError), model.asked("expression"):
        assert {gate.question for gate in gates} == {1}
        raise RuntimeError
    assert [gate.question for gate in gates] == before and len(gates) > 3
