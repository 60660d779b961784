"""Training: resuming, refusing, staying shut on noise, and the same bytes for the same command."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aivc_graph.errors import StoreError, TrainingError
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.store import open_store, write_store
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.plan import ModelPlan
from aivc_graph.model.settings import ModelConfig
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.intervention.condition_effects import ConditionEffects
from aivc_graph.pipeline.train import Run
from aivc_graph.training.checkpoint import load_model, load_tensors
from aivc_graph.training.fit import LEAST_GAIN, fit
from aivc_graph.training.gates import choose_gates, gates_of
from aivc_graph.training.settings import TrainingConfig

MODEL = ModelConfig(latent=4, rings=(4, 8))
GRAPH = GraphConfig(edges={"cell": {"kind": "knn", "k": 8}, "patch": {"kind": "knn", "k": 6}})
TRAINING = TrainingConfig(epochs=6, window_nodes=150, device="cpu")


@pytest.fixture(scope="module")
def graph(striped_section: Callable[..., Any]) -> TissueGraph:
    return build_graph([striped_section("a", levels=("cell", "patch"))], GRAPH)


def test_same_command_same_bytes(graph: TissueGraph, tmp_path: Path) -> None:
    for name in ("one", "two"):
        fit(graph, MODEL, TRAINING, tmp_path / name)
    for file in ("model.safetensors", "model.json", "training.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_from_the_store_equals_from_memory(graph: TissueGraph, tmp_path: Path) -> None:
    write_store(graph, tmp_path / "graph.zarr")
    fit(graph, MODEL, TRAINING, tmp_path / "memory")
    fit(open_store(tmp_path / "graph.zarr"), MODEL, TRAINING, tmp_path / "store")
    assert (tmp_path / "memory/model.safetensors").read_bytes() == (tmp_path / "store/model.safetensors").read_bytes()


def test_training_lowers_the_loss_on_held_out_tissue(graph: TissueGraph, tmp_path: Path) -> None:
    fit(graph, MODEL, TRAINING.model_copy(update={"epochs": 25}), tmp_path)
    losses = [json.loads(line)["validation_loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert min(losses[1:]) < losses[0] - 0.001


def test_a_gate_opens_only_as_far_as_held_out_tissue_gains_and_for_each_question_apart(graph: TissueGraph) -> None:
    model = TissueModel(ModelPlan.of(graph, MODEL))
    gates = gates_of(model)
    helps, hurts, indifferent, half = list(gates)[:4]
    wanted = {"state": {helps: 1.0, hurts: 0.0, half: 0.5}, "expression": {helps: 0.0, hurts: 1.0, half: 0.5}}

    def loss(question: str) -> float:
        return sum((float(gates[name](torch.ones(()))) - w) ** 2 for name, w in wanted[question].items())

    chosen = choose_gates(model, loss)
    for question, openings in wanted.items():
        assert {name: chosen[name][question] for name in openings} == openings
        assert chosen[indifferent][question] == 0.0
        with model.asked(question):
            assert {name: float(gates[name](torch.ones(()))) for name in openings} == openings
    assert not any(by["response"] for by in chosen.values())


def test_training_ends_when_it_has_converged(graph: TissueGraph, tmp_path: Path) -> None:
    for epochs in (3, 200):
        fit(graph, MODEL, TRAINING.model_copy(update={"epochs": epochs, "patience": 4}), tmp_path / str(epochs))
    short, whole = (json.loads((tmp_path / str(n) / "training.json").read_text()) for n in (3, 200))
    assert not short["converged"] and whole["converged"]
    losses = [json.loads(line)["validation_loss"] for line in (tmp_path / "200/metrics.jsonl").read_text().splitlines()]
    assert len(losses) < 201 and whole["best_epoch"] == len(losses) - 5
    assert min(losses[-4:]) > losses[whole["best_epoch"]] - LEAST_GAIN
    assert load_tensors(tmp_path / "200/checkpoints/last.safetensors")[1]["halvings"] >= 1


def test_without_structure_nothing_gets_worse(striped_section: Callable[..., Any], tmp_path: Path) -> None:
    noise = build_graph([striped_section("n", n=900, structure=False)], GRAPH)
    fit(noise, MODEL, TRAINING.model_copy(update={"epochs": 30}), tmp_path)
    losses = [json.loads(line)["validation_loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert json.loads((tmp_path / "training.json").read_text())["validation_loss"] <= losses[0]


KILLED = """
import pickle, sys
from pathlib import Path
from aivc_graph.graph.store import read_store
from aivc_graph.model.settings import ModelConfig
from aivc_graph.training.fit import fit
from aivc_graph.training.settings import TrainingConfig
config = TrainingConfig(epochs=60, patience=60, window_nodes=150, device="cpu")
fit(read_store(sys.argv[1]), ModelConfig(latent=4, rings=(4, 8)), config, Path(sys.argv[2]))
"""


def test_killed_and_resumed_equals_never_stopped(graph: TissueGraph, tmp_path: Path) -> None:
    write_store(graph, tmp_path / "graph.zarr")
    config = TrainingConfig(epochs=60, patience=60, window_nodes=150, device="cpu")
    fit(graph, MODEL, config, tmp_path / "whole")
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "graph.zarr"), str(tmp_path / "cut")])
    last = tmp_path / "cut/checkpoints/last.safetensors"
    deadline = time.time() + 60
    while not (last.exists() and load_tensors(last)[1]["epoch"]) and time.time() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert 0 < load_tensors(last)[1]["epoch"] < 60, "killed too late to test resuming"
    fit(graph, MODEL, config, tmp_path / "cut", resume=True)
    assert (tmp_path / "cut/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
    epochs = [json.loads(line)["epoch"] for line in (tmp_path / "cut/metrics.jsonl").read_text().splitlines()]
    assert epochs == list(range(61))


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(graph: TissueGraph, tmp_path: Path) -> None:
    fit(graph, MODEL, TRAINING.model_copy(update={"epochs": 2}), tmp_path)
    kept = (tmp_path / "checkpoints/last.safetensors").read_bytes()
    broken = TRAINING.model_copy(update={"learning_rate": 1e30, "epochs": 6})
    with pytest.raises(
        TrainingError, match=r"epoch \d+ · window \d+: expected a finite loss, found .*lower training.learning_rate"
    ) as caught:
        fit(graph, MODEL, broken, tmp_path, resume=True)
    assert caught.value.exit_code == 1
    tensors, facts = load_tensors(tmp_path / "checkpoints/last.safetensors")
    assert all(torch.isfinite(t).all() for name, t in tensors.items() if name.startswith("best."))
    assert facts["epoch"] >= 2 and kept


def test_no_training_node_is_an_error(striped_section: Callable[..., Any], tmp_path: Path) -> None:
    section = striped_section("a")
    section.shapes["cell"]["split"] = "test"
    with pytest.raises(TrainingError, match="no node is for training"):
        fit(build_graph([section], GRAPH), MODEL, TRAINING, tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x80\x04not a tensor file", b"\xff" * 64])
def test_a_model_file_that_is_no_safetensors_is_refused(graph: TissueGraph, tmp_path: Path, content: bytes) -> None:
    fit(graph, MODEL, TRAINING.model_copy(update={"epochs": 1}), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(StoreError, match=r"model.safetensors: not a readable safetensors file"):
        load_model(tmp_path)


def test_validation_nodes_fit_nothing(striped_section: Callable[..., Any], tmp_path: Path) -> None:
    """Change the held-out side: nothing fitted in closed form on the training side moves."""
    section, changed = striped_section("a"), striped_section("a")
    held_out = (changed.shapes["cell"]["split"] == "validation").to_numpy()
    rows = np.isin(changed.tables["cell_rna"].obs_names, changed.shapes["cell"].index[held_out])
    matrix = changed.tables["cell_rna"].X.toarray()
    matrix[rows] = matrix[rows][:, ::-1]
    changed.tables["cell_rna"].X = type(changed.tables["cell_rna"].X)(matrix)
    zero = TRAINING.model_copy(update={"epochs": 0, "window_nodes": 10**6})
    a = fit(build_graph([section], GRAPH), MODEL, zero, tmp_path / "a").state_dict()
    b = fit(build_graph([changed], GRAPH), MODEL, zero, tmp_path / "b").state_dict()
    for name, tensor in a.items():
        # Thinning draws random numbers for all nodes, so shares may differ by a draw; validation nodes choose how far
        # neighbours are followed.
        if not name.endswith("share") and not name.startswith("kinds.prediction."):
            assert torch.allclose(tensor, b[name], atol=1e-6), name


def test_out_of_memory_halves_the_window_and_goes_on(
    graph: TissueGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No machine can be made to run out of memory at will, so the first step of the second epoch says it did."""
    from aivc_graph.training.terms import likelihood as module

    calls, original = [], module.likelihood

    def failing(model: Any, *rest: Any) -> Any:
        calls.append(model.training)
        if sum(calls) == 5:
            raise MemoryError
        return original(model, *rest)

    monkeypatch.setattr(module, "likelihood", failing)
    fit(graph, MODEL, TRAINING, tmp_path)
    assert "out of memory: going on with windows of 75 nodes" in caplog.text
    epochs = [json.loads(line)["epoch"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert epochs == list(range(7))


@pytest.mark.parametrize("held_out", ["validation", "hidden"])
def test_the_loss_says_what_it_is_of(striped_section: Callable[..., Any], tmp_path: Path, held_out: str) -> None:
    section = striped_section("a", n=100)
    if held_out == "hidden":
        section.shapes["cell"]["split"] = "train"
    fit(build_graph([section], GRAPH), MODEL, TRAINING.model_copy(update={"epochs": 1}), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    facts = json.loads((tmp_path / "training.json").read_text())
    assert {record["held_out"] for record in [*lines, facts]} == {held_out}
    split = "validation" if held_out == "validation" else "hidden in training tissue"
    shown = [text.get_text() for text in Run(tmp_path).plot().get_legend().get_texts()]
    assert shown[:2] == ["negative log-likelihood, train", f"negative log-likelihood, {split}"]


def test_bfloat16_trains_to_nearly_the_same_loss(graph: TissueGraph, tmp_path: Path) -> None:
    finals = {}
    for precision in ("float32", "bfloat16"):
        config = TRAINING.model_copy(update={"precision": precision})
        fit(graph, MODEL, config, tmp_path / precision)
        finals[precision] = json.loads((tmp_path / precision / "training.json").read_text())["validation_loss"]
    assert finals["bfloat16"] == pytest.approx(finals["float32"], rel=0.01)
    assert finals["bfloat16"] != finals["float32"]


def test_the_operator_of_conditions_is_fitted_and_saved_with_the_model(
    striped_section: Callable[..., Any], tmp_path: Path
) -> None:
    graph = build_graph([striped_section("a", levels=("cell", "patch"))], GRAPH)
    level = graph.levels[0]
    n = int(graph[level].num_nodes)
    graph[level].obs["condition"] = np.random.default_rng(0).choice(["control", "A", "B", "C", "A+B"], n)
    write_store(graph, tmp_path / "graph.zarr")
    fit(open_store(tmp_path / "graph.zarr"), MODEL, TRAINING.model_copy(update={"epochs": 0}), tmp_path / "run")
    model = load_model(tmp_path / "run")
    (saved,) = (part for part in model.modules() if isinstance(part, ConditionEffects))
    assert model.interventions is None and model.plan.interventions is None
    again = ConditionEffects(saved.plan)
    again.fit([(graph, np.ones(n, bool))], seed=TRAINING.seed)
    np.testing.assert_allclose(saved.predict(["A", "C"], "a")[0], again.predict(["A", "C"], "a")[0], atol=1e-9)
    assert float(saved.total.sum()) > 0
