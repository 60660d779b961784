"""Operators of a user's own, all in this file, go through training, questions and scores with no other file touched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from aivc_graph.config import Config
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.model.settings import ModelConfig
from aivc_graph.operators.lateral.lateral import AbstractLateral
from aivc_graph.operators.lift.lift import AbstractLift
from aivc_graph.operators.measurement.distribution import AbstractDistribution, Normal
from aivc_graph.operators.measurement.gaussian import FeatureInput, GaussianMeasurement
from aivc_graph.operators.part import KINDS, MESSAGES, Fitting
from aivc_graph.operators.product import SparseOperator
from aivc_graph.operators.project.project import AbstractProject
from aivc_graph.pipeline.evaluate import evaluate
from aivc_graph.pipeline.train import train
from aivc_graph.settings import Settings
from aivc_graph.training.settings import TrainingConfig

EDGES = GraphConfig(edges={"cell": {"kind": "knn", "k": 8}, "patch": {"kind": "knn", "k": 6}})


class HalfwayOptions(Settings):
    """How far a node goes towards its nearest neighbours."""

    share: float = 0.5


class HalfwayLateral(AbstractLateral):
    """Go a share of the way to the mean of the nearest ring."""

    Options = HalfwayOptions
    stages: ClassVar[Mapping[str, str]] = {MESSAGES: "fit"}

    def __init__(self, plan: Any) -> None:
        super().__init__(plan)
        self.hold("seen", torch.zeros(()))

    def forward(self, state: Tensor, known: Tensor, rings: list[SparseOperator]) -> tuple[Tensor, Tensor, Tensor]:
        total = rings[0] @ torch.cat([state * known[:, None], known[:, None]], dim=1)
        mean = total[:, :-1] / total[:, -1:].clamp_min(1e-6)
        share = HalfwayOptions(**self.plan.options).share
        own = torch.where(known[:, None] > 0, state, mean)
        return own + share * (mean - own), mean, torch.where(known > 0, known, (total[:, -1] > 0).float())

    def fit(self, fitting: Fitting) -> None:
        self.seen.fill_(float(len(fitting.training)))


class MeanLift(AbstractLift):
    """Plain mean pooling, whether the parent was measured or not."""

    def forward(self, child: Tensor, parent: Tensor, measured: Tensor, overlap: Any, covered: Tensor) -> Tensor:
        return torch.where(covered[:, None] > 0, overlap @ child, parent)


class SilentProject(AbstractProject):
    """Say nothing."""

    def forward(self, child: Tensor, has_state: Tensor, parent: Tensor, overlap: Any, covered: Tensor) -> Tensor:
        return child


class WideMeasurement(GaussianMeasurement):
    """Features with twice the scale."""

    def likelihood(self, z: Tensor, data: FeatureInput) -> AbstractDistribution:
        told = super().likelihood(z, data)
        return Normal(told.location, told.log_scale + np.log(2.0))


TOYS = {"lateral": HalfwayLateral, "lift": MeanLift, "project": SilentProject, "measurement": WideMeasurement}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the toys as a user would, and take them out again: suites over all members are of the project's own."""
    for kind, member in TOYS.items():
        for held in ("_members", "_facts"):
            monkeypatch.setattr(KINDS[kind], held, dict(getattr(KINDS[kind], held)))
        KINDS[kind].register(f"toy_{kind}")(member)


def test_toys_go_through_training_questions_and_scores(striped_section: Callable[..., Any], tmp_path: Path) -> None:
    graph = build_graph([striped_section("a", n=500, levels=("cell", "patch"))], EDGES)
    model = ModelConfig(
        latent=3,
        rings=(4, 8),
        lateral={"kind": "toy_lateral", "share": 0.75},
        lift={"kind": "toy_lift"},
        project={"kind": "toy_project"},
        measurement={"histology": {"kind": "toy_measurement"}},
    )
    run = train(graph, Config(model=model, training=TrainingConfig(epochs=2, device="cpu")), tmp_path / "run")
    tissue = run.tissue
    lateral = tissue.model.part("lateral", "cell")
    assert isinstance(lateral, HalfwayLateral) and float(lateral.seen) >= 1
    assert isinstance(tissue.model.part("lift", "cell", "patch"), MeanLift)
    assert isinstance(tissue.model.part("project", "cell", "patch"), SilentProject)
    assert isinstance(tissue.model.part("measurement", "patch", "histology"), WideMeasurement)
    states = tissue.states["cell"]
    went = np.linalg.norm(states.z - states.own, axis=1) / np.linalg.norm(states.context - states.own, axis=1)
    assert np.allclose(went, 0.75, atol=1e-3)
    assert tissue.niches(k=3).n_vars == 3 and np.isfinite(tissue.expression(["G1"]).X).all()
    scored = evaluate(run.folder)
    assert {"context_to_expression", "image_to_expression"} & {one.task for one in scored.results}
