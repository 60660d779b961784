"""Terms across levels: each against a formula of its own, what they are blind to, and what training by them does."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.settings import ModelConfig
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.part import BEFORE_TRAINING
from aivc_graph.operators.state import Hidden
from aivc_graph.training.fit import fit
from aivc_graph.training.objective import Objective
from aivc_graph.training.settings import TrainingConfig
from aivc_graph.training.terms.term import Pass
from tests.fitting import fit_stages, fitting_of, fold_of, model_of

EDGES = GraphConfig(edges={"cell": {"kind": "knn", "k": 6}, "patch": {"kind": "knn", "k": 4}})
MODEL = ModelConfig(latent=3, rings=(4, 8))
TERMS = ("anchors", "down_up", "up_down")
KEY = ("patch", "cell within")


@pytest.fixture(scope="module")
def graph(striped_section: Callable[..., Any]) -> TissueGraph:
    return build_graph([striped_section("s", n=400, levels=("cell", "patch"))], EDGES)


@pytest.fixture(scope="module")
def model(graph: TissueGraph) -> TissueModel:
    made = model_of(graph, MODEL)
    fit_stages(fitting_of(graph, made, [fold_of(graph, made)]), BEFORE_TRAINING)
    return made


def objective(graph: TissueGraph, **weights: float) -> Objective:
    return Objective(graph, TrainingConfig(objective={"likelihood": 0.0} | weights))


def passed(model: TissueModel, graph: TissueGraph) -> Pass:
    inputs, hidden = model.prepare(graph), Hidden()
    counted = {level: torch.ones(n) for level, n in inputs.n_nodes.items()}
    generator = torch.Generator().manual_seed(0)
    return Pass(model, inputs, model(inputs, hidden), hidden, counted, generator)


@torch.no_grad()
def test_each_term_is_its_formula(model: TissueModel, graph: TissueGraph) -> None:
    one = passed(model, graph)
    losses = objective(graph, **dict.fromkeys(TERMS, 1.0))(one)
    overlap = one.inputs["relation", "cell", "within", "patch"]
    up, down = (side.forward_csr.to_dense() for side in (overlap.up, overlap.down))
    lift, project = (model.part(kind, "cell", "patch").map for kind in ("lift", "project"))
    z, t = (one.state.mean[level] for level in ("cell", "patch"))
    rows = torch.nonzero(up.sum(dim=1) > 0).ravel()
    noise = {level: model.state_maker(level).log_precision.exp() for level in ("cell", "patch")}
    back = up @ (down @ t @ project) @ lift
    by_hand = ((back - t)[rows].square() * noise["patch"]).mean()
    torch.testing.assert_close(losses["down_up"].mean(), by_hand, rtol=1e-4, atol=0)
    counts = one.inputs.measured("patch", "rna").counts.to_dense()[rows]
    part = model.state_maker("patch")
    mean = part.likelihood(up @ z @ lift, one.inputs.measured("patch", "rna")).mean()[rows]
    theta = part.dispersion().exp()
    nll = -torch.distributions.NegativeBinomial(theta, logits=torch.log(mean / theta)).log_prob(counts).mean()
    torch.testing.assert_close(losses["anchors"].mean(), nll, rtol=1e-3, atol=0)
    told = down @ (up @ z @ lift) @ project
    scale, distances = noise["cell"].sqrt(), []
    for row in rows.tolist():
        x, y = (values[up[row] > 0] * scale for values in (told, z))
        far = [(a[:, None] - b[None]).norm(dim=2).mean() for a, b in ((x, y), (x, x), (y, y))]
        distances.append(2 * far[0] - far[1] - far[2])
    mean_distance = losses["up_down"].mean()
    assert min(distances) <= mean_distance <= max(distances)
    assert losses["up_down"].number[KEY] == min(32, len(rows))


@torch.no_grad()
def test_only_parents_that_are_learnt_from_and_whose_children_were_measured_count(
    model: TissueModel, graph: TissueGraph
) -> None:
    terms, one = objective(graph, **dict.fromkeys(TERMS, 1.0)), passed(model, graph)
    whole = terms(one)
    one.counted["patch"] *= torch.arange(len(one.counted["patch"])) % 2
    half = terms(one)
    for term in ("anchors", "down_up"):
        assert 0 < half[term].number[KEY] < 0.8 * whole[term].number[KEY]
    bare = copy.copy(graph)
    bare["cell"].rna_mask = torch.zeros_like(graph["cell"].rna_mask)
    assert not any(loss.measured for loss in terms(passed(model, bare)).values())


def test_one_level_has_nothing_to_hold_together(striped_section: Callable[..., Any]) -> None:
    graph = build_graph([striped_section("s", n=200)], EDGES)
    losses = objective(graph, **dict.fromkeys(TERMS, 1.0))(passed(model_of(graph, MODEL), graph))
    assert not any(loss.total for loss in losses.values())


@pytest.mark.parametrize("term", TERMS)
def test_a_step_along_its_gradient_makes_a_term_smaller(graph: TissueGraph, model: TissueModel, term: str) -> None:
    made = model_of(graph, MODEL)
    made.load_state_dict(model.state_dict())
    made.train()
    terms, optimiser = objective(graph, **{term: 1.0}), torch.optim.Adam(made.parameters(), 1e-2)
    values = []
    for _ in range(8):
        optimiser.zero_grad()
        one = passed(made, graph)
        value = terms.value(terms(one))
        value.backward()
        optimiser.step()
        values.append(float(value.detach()))
    assert values[-1] < 0.999 * values[0]
    moved = [name for name, p in made.named_parameters() if p.grad is not None and float(p.grad.abs().sum()) > 0]
    assert any("lift" in name or "project" in name for name in moved)
    assert not any("measurement" in name and "correction" in name for name in moved)  # what is measured gives no way


def test_training_tells_each_term_and_its_share_of_the_gradient(graph: TissueGraph, tmp_path: Path) -> None:
    config = TrainingConfig(epochs=2, device="cpu", objective=dict.fromkeys(TERMS, 0.1))
    fit(graph, MODEL, config, tmp_path)
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert set(last["terms"]) == {"likelihood", *TERMS} == set(last["gradient"])
    assert sum(last["gradient"].values()) == pytest.approx(1.0, abs=1e-3)
    assert all(last["gradient"][term] > 0 for term in TERMS)
