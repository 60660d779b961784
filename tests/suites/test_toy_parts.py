"""Parts, questions and readouts of a user's own, all in this file, go the whole way with no other file touched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from pydantic import Field
from torch import Tensor

from aivc_graph import cli
from aivc_graph.config import Config
from aivc_graph.errors import QueryError
from aivc_graph.evaluation.readouts.readout import READOUTS, Ground
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr, to_torch_csr
from aivc_graph.model.settings import ModelConfig
from aivc_graph.operators.lateral.lateral import AbstractLateral
from aivc_graph.operators.lift.lift import AbstractLift
from aivc_graph.operators.measurement.distribution import AbstractDistribution, Normal
from aivc_graph.operators.measurement.gaussian import FeatureInput, GaussianMeasurement
from aivc_graph.operators.part import KINDS, MESSAGES, Device, Fitting
from aivc_graph.operators.product import SparseOperator
from aivc_graph.operators.project.project import AbstractProject
from aivc_graph.operators.propagator.propagator import AbstractPropagator
from aivc_graph.operators.relation.near import NearRelation
from aivc_graph.operators.rings import split_rings
from aivc_graph.pipeline.evaluate import evaluate
from aivc_graph.pipeline.train import train
from aivc_graph.query.questions.question import QUESTIONS, AbstractQuestion, Level
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.registry import Registry
from aivc_graph.settings import Settings
from aivc_graph.tissue.intervention import Intervention, set_interventions
from aivc_graph.tissue.intervention_kinds.kind import INTERVENTION_KINDS, InterventionKind
from aivc_graph.training.run_folder import graph_of_run
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


class CloseRelation(NearRelation):
    """Neighbours count the less the farther away they are."""

    def prepare(self, graph: TissueGraph, device: Device) -> list[SparseOperator]:
        relation = graph[self.plan.relation]
        weight = torch.exp(-relation.distance_um / 20.0)
        near = to_scipy_csr(relation.adj_t)
        near.data = weight.numpy().astype(np.float32)
        rings = split_rings(relation.adj_t, relation.distance_um, self.plan.rings)
        return [SparseOperator.of(to_torch_csr(to_scipy_csr(ring).multiply(near).tocsr())).to(device) for ring in rings]


class SteadyPropagator(AbstractPropagator):
    """An effect that adds up in proportion to dose and time."""

    def courses(self, doses: np.ndarray, hours: np.ndarray) -> np.ndarray:
        return np.array([[float(np.max(doses)), float(np.max(hours))]])

    def carry(self, course: Tensor, before: Tensor, dose: Tensor, hours: Tensor) -> Tensor:
        return before + dose / course[0] * hours / course[1]


class CrowdQuestion(AbstractQuestion):
    """How many nodes of a level each section has, by so many."""

    per: float = Field(1.0, gt=0, description="how many make one")
    level: Level | None = Field(None, description="which nodes are counted")

    def answer(self, tissue: VirtualTissue) -> pd.DataFrame:
        nodes = tissue.graph.obs(tissue.level(self.level)).groupby("section", observed=True).size()
        return (nodes / self.per).rename("nodes").reset_index()

    def draw(self, tissue: VirtualTissue, answer: pd.DataFrame) -> Any:
        axes = Figure().subplots()
        axes.bar(answer["section"].astype(str), answer["nodes"])
        return axes


def above_mean(values: np.ndarray, ground: Ground) -> np.ndarray:
    """Return by how much each gene lies above the mean of its node (asked, gene)."""
    return values - values.mean(axis=1, keepdims=True)


PARTS = {
    "relation": CloseRelation,
    "lateral": HalfwayLateral,
    "lift": MeanLift,
    "project": SilentProject,
    "measurement": WideMeasurement,
    "propagator": SteadyPropagator,
}
TOLD = {"reads": ("expression",), "needs": (), "metrics": ("rmse_log",)}
WORDS = {"formula": "f(x) = x less its mean", "reference": "none", "weakness": "a toy"}
TOYS: list[tuple[Registry[Any], str, Any, dict[str, Any]]] = [
    *((KINDS[kind], f"toy_{kind}", member, {}) for kind, member in PARTS.items()),
    (INTERVENTION_KINDS, "heat", InterventionKind(sign=None, unit="degrees"), {}),
    (QUESTIONS, "crowd", CrowdQuestion, {"asks": "how many nodes there are", "example": "--per 100"}),
    (READOUTS, "above_mean", above_mean, TOLD | WORDS),
]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the toys as a user would, and take them out again: suites over all members are of the project's own."""
    for registry, name, member, facts in TOYS:
        list(registry)  # its own members first
        for held in ("_members", "_facts"):
            monkeypatch.setattr(registry, held, dict(getattr(registry, held)))
        registry.register(name, **facts)(member)


def _section(striped_section: Callable[..., Any], donor: int, heated: bool) -> Any:
    section = striped_section(f"s{donor}{heated:d}", n=300, seed=donor, levels=("cell", "patch"), donor=f"d{donor}")
    if heated:
        set_interventions(section, (Intervention(kind="heat", name="bath", dose=2.0, hours=24.0),))
    return section


@pytest.fixture
def run(striped_section: Callable[..., Any], tmp_path: Path) -> Path:
    """Return a run of two donors, of each a section that was heated and one that was not, by toys alone."""
    graph = build_graph([_section(striped_section, d, heated) for d in range(2) for heated in (False, True)], EDGES)
    chosen = {kind: {"kind": f"toy_{kind}"} for kind in ("lift", "project", "propagator")}
    model = ModelConfig(
        latent=3,
        rings=(4, 8),
        lateral={"kind": "toy_lateral", "share": 0.75},
        measurement={"histology": {"kind": "toy_measurement"}},
        relation={"near": {"kind": "toy_relation"}},
        **chosen,
    )
    return train(graph, Config(model=model, training=TrainingConfig(epochs=2, device="cpu")), tmp_path / "run").folder


def test_toys_go_through_training_questions_and_scores(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tissue = VirtualTissue.load(run)
    _parts_are_the_toys(tissue)
    # Questions: those there are, of what toys have told, and one of its own, by its name and by the command line.
    assert tissue.niches(k=3).n_vars == 3 and np.isfinite(tissue.expression(["G1"]).X).all()
    heat = Intervention(kind="heat", name="bath", dose=2.0, hours=12.0)
    half, whole = (tissue.intervene(heat, hours=hours).fields[0].strength for hours in (12.0, 24.0))
    torch.testing.assert_close(half, 0.5 * whole)
    assert tissue.graph.obs("intervention").loc["heat:bath", "unit"] == "degrees"
    assert len(tissue.ask("response", intervention=["heat:bath@2"], at="niche", genes="G1"))
    asked = ["query", str(run), "crowd", "--per", "100", "--level", "patch"]
    for more in ([], ["--on", str(graph_of_run(run)[0])]):
        assert cli.main([*asked, *more, "--out", str(tmp_path / "a.csv"), "--plot", str(tmp_path / "a.png")]) == 0
        table = pd.read_csv(tmp_path / "a.csv")
        assert list(table["nodes"]) == list(tissue.ask("crowd", per=100.0, level="patch")["nodes"])
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert cli.main(["query", str(run), "crowd", "--per", "-1"]) == 2
    assert "query crowd · per: expected greater than 0, found '-1'" in capsys.readouterr().err
    with pytest.raises(QueryError, match=r"unknown key; did you mean 'level'\? this question takes: level, per"):
        tissue.ask("crowd", levl="cell")
    scored = evaluate(run)
    assert {one.readout for one in scored.results} >= {"above mean"}


def _parts_are_the_toys(tissue: VirtualTissue) -> None:
    part = tissue.model.part
    lateral = part("lateral", "cell")
    assert isinstance(lateral, HalfwayLateral) and float(lateral.seen) >= 1
    assert isinstance(part("lift", "cell", "patch"), MeanLift)
    assert isinstance(part("project", "cell", "patch"), SilentProject)
    assert isinstance(part("measurement", "patch", "histology"), WideMeasurement)
    assert isinstance(part("relation", "cell", "near", "cell"), CloseRelation)
    assert isinstance(part("propagator", "cell"), SteadyPropagator)
    assert part("propagator", "cell").course.tolist() == [[2.0, 24.0]]
    states = tissue.states["cell"]
    went = np.linalg.norm(states.z - states.own, axis=1) / np.linalg.norm(states.context - states.own, axis=1)
    assert np.allclose(went, 0.75, atol=1e-3)
