"""What further terms of the objective taught is let through only where held-out places gain by it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.settings import ModelConfig
from aivc_graph.training.checkpoint import below, load_tensors
from aivc_graph.training.fit import fit
from aivc_graph.training.gates import open_terms
from aivc_graph.training.settings import TrainingConfig
from tests.suites.test_parts import _add_counts

MODEL = ModelConfig(latent=3, rings=(4, 8))
PLAIN, LEARNT = 0.0, 2.0


class One(nn.Module):
    """A model of one number."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(LEARNT))


def opened(best: dict[str, float]) -> tuple[float, float]:
    """Return how far terms are let through, and where the weight comes to lie, given the best weight a question."""
    model: Any = One()
    loss: Callable[[str], float] = lambda question: (model.weight.item() - best[question]) ** 2  # noqa: E731
    plain: dict[str, Tensor] = {"weight": torch.tensor(PLAIN)}
    return open_terms(model, plain, loss), model.weight.item()


@pytest.mark.parametrize(
    ("state", "expression", "expected"),
    [
        (2.0, 2.0, 1.0),
        (1.0, 1.0, 0.5),
        (-1.0, -1.0, 0.0),
        (2.0, -0.1, 0.0),  # what helps one and harms another stays shut
        (2.0, 0.6, 0.5),
    ],
)
def test_it_goes_as_far_as_both_questions_gain(state: float, expression: float, expected: float) -> None:
    opening, weight = opened({"state": state, "expression": expression})
    assert opening == expected and weight == pytest.approx(PLAIN + expected * (LEARNT - PLAIN))


def test_what_makes_no_difference_stays_shut() -> None:
    model: Any = One()
    assert open_terms(model, {"weight": torch.tensor(PLAIN)}, lambda question: 1.0) == 0.0


@pytest.fixture(scope="module")
def graph(striped_section: Callable[..., Any]) -> TissueGraph:
    section = striped_section("s", n=600)
    _add_counts(section, "protein", 6, 1.0, seed=0)
    return build_graph([section], GraphConfig(edges={"cell": {"kind": "knn", "k": 8}}))


def test_a_term_that_harms_leaves_the_model_of_the_likelihood_alone(graph: TissueGraph, tmp_path: Path) -> None:
    config = TrainingConfig(epochs=4, device="cpu", window_nodes=300, learning_rate=0.03)
    harmful = config.model_copy(update={"objective": {"likelihood": 1.0, "alignment": 1000.0}})
    fit(graph, MODEL, config, tmp_path / "alone")
    trained = fit(graph, MODEL, harmful, tmp_path / "both")
    facts = json.loads((tmp_path / "both" / "training.json").read_text())
    last = below(load_tensors(tmp_path / "both" / "checkpoints" / "last.safetensors")[0], "best.")
    assert facts["terms_opening"] == 0.0
    alone = json.loads((tmp_path / "alone" / "training.json").read_text())["likelihoods"]
    assert facts["likelihoods"]["trained, state"] == pytest.approx(alone["trained, state"], abs=1e-5)
    moved = [name for name, value in trained.named_parameters() if not torch.equal(value, last[name])]
    assert moved  # what alignment made of them is not what answers


def test_a_dual_encoder_is_trained_as_it_was_asked_for(graph: TissueGraph, tmp_path: Path) -> None:
    config = TrainingConfig(epochs=1, device="cpu", window_nodes=300, objective={"likelihood": 0.0, "alignment": 1.0})
    fit(graph, MODEL, config, tmp_path)
    assert json.loads((tmp_path / "training.json").read_text())["terms_opening"] == 1.0
    assert not (tmp_path / "checkpoints" / "likelihood").exists()
