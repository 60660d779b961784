"""Tensors and facts of a checkpoint come back as they were, or say what is wrong; devices that are asked for."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from aivc_graph.errors import ModelError, StoreError, TrainingError
from aivc_graph.graph.profiles import add_section_profiles
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.plan import ModelPlan
from aivc_graph.model.settings import ModelConfig
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.training.checkpoint import (
    WEIGHTS,
    below,
    check_model,
    load_model,
    load_tensors,
    save_model,
    save_tensors,
)
from aivc_graph.training.device import device_of, out_of_memory
from aivc_graph.training.settings import TrainingConfig
from tests.graph.tissues import random_tissue


@pytest.fixture(scope="module")
def graph() -> TissueGraph:
    graph = random_tissue(80)
    add_section_profiles(graph)
    return graph


@pytest.fixture
def model(graph: TissueGraph) -> TissueModel:
    torch.manual_seed(0)
    return TissueModel(ModelPlan.of(graph, ModelConfig(latent=4, rings=(3, 6))))


def test_tensors_and_facts_come_back(tmp_path: Path) -> None:
    tensors = {"a.x": torch.arange(6.0).reshape(2, 3).t(), "b": torch.tensor(2, dtype=torch.int64)}
    save_tensors(tensors, {"epoch": 3, "best": 0.5}, tmp_path / "t.safetensors")
    found, facts = load_tensors(tmp_path / "t.safetensors")
    assert found.keys() == tensors.keys() and all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert (facts["epoch"], facts["best"]) == (3, 0.5)
    assert below(found, "a.").keys() == {"x"} and below(found, "c.") == {}


def test_what_is_no_checkpoint_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="expected a safetensors file, found no such file; train first"):
        load_tensors(tmp_path / "none.safetensors")
    pickled = tmp_path / "pickled.safetensors"
    pickled.write_bytes(pickle.dumps({"weight": [1.0]}))
    with pytest.raises(StoreError, match="not a readable safetensors file"):
        load_tensors(pickled)
    save_tensors({"a": torch.ones(3)}, {}, tmp_path / "cut.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "cut.safetensors").read_bytes()[:-5])
    with pytest.raises(StoreError, match="not a readable safetensors file"):
        load_tensors(tmp_path / "cut.safetensors")
    save_file({"a": torch.ones(1)}, tmp_path / "newer.safetensors", {"facts": json.dumps({"format": 99})})
    with pytest.raises(StoreError, match="expected format 1, found format 99; use the version"):
        load_tensors(tmp_path / "newer.safetensors")


def test_a_model_comes_back_and_is_told_from_one_trained_anew(model: TissueModel, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert again.plan == model.plan and not again.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    check_model(again, tmp_path)
    with torch.no_grad():
        next(iter(again.parameters())).add_(1e-3)
    with pytest.raises(StoreError, match="trained anew meanwhile"):
        check_model(again, tmp_path)


def test_weights_and_plan_that_do_not_belong_together_are_refused(model: TissueModel, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    state = dict(model.state_dict())
    state.pop(next(iter(state)))
    save_tensors(state, {}, tmp_path / WEIGHTS)
    gone = next(iter(model.state_dict()))
    with pytest.raises(ModelError, match=rf"do not fit model\.json: 1 of them, first {gone} is missing; if another"):
        load_model(tmp_path)
    for state in ({gone: torch.ones(1, 2, 3)}, {"of_old": torch.ones(1)}):
        save_tensors(dict(model.state_dict()) | state, {}, tmp_path / WEIGHTS)
        with pytest.raises(ModelError) as refused:
            load_model(tmp_path)
        said = str(refused.value)
        assert "\n" not in said and ("(1, 2, 3)" if gone in state else "of_old is not known") in said
    save_model(model, tmp_path)
    plan = json.loads((tmp_path / "model.json").read_text())
    plan["latent"] = "wide"
    (tmp_path / "model.json").write_text(json.dumps(plan))
    with pytest.raises(StoreError, match=r"model\.json · latent: no readable model plan"):
        load_model(tmp_path)
    (tmp_path / "model.json").unlink()
    with pytest.raises(StoreError, match="expected the model's plan, found No such file"):
        load_model(tmp_path)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of(TrainingConfig()).type == device_of(TrainingConfig(device="cpu")).type == "cpu"
    with pytest.raises(TrainingError, match="expected a machine with one, found no CUDA device; set"):
        device_of(TrainingConfig(device="cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of(TrainingConfig()).type == "cuda" and device_of(TrainingConfig(device="cpu")).type == "cpu"


def test_only_a_lack_of_memory_is_one() -> None:
    lacking = (
        MemoryError(),
        torch.OutOfMemoryError("CUDA"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    )
    assert all(map(out_of_memory, lacking)) and not out_of_memory(RuntimeError("shapes differ"))
