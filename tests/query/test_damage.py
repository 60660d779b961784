"""A damaged run folder is named, and nothing is answered from it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aivc_graph import cli
from aivc_graph.errors import StoreError
from aivc_graph.query.virtual_tissue import VirtualTissue


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of the run folder that a test may damage."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def damage_graph(run: Path) -> None:
    shutil.move(run / "graph.zarr", run / "elsewhere.zarr")


def damage_shard(run: Path) -> None:
    largest = max((p for p in (run / "graph.zarr").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])


def damage_plan(run: Path) -> None:
    plan = json.loads((run / "model.json").read_text())
    plan["config"]["latent"] = "many"
    (run / "model.json").write_text(json.dumps(plan))


def build_anew(run: Path) -> None:
    facts = json.loads((run / "graph.zarr/zarr.json").read_text())
    facts["attributes"]["provenance"] = {"configuration": {"graph": {"patch_um": 50}}}
    (run / "graph.zarr/zarr.json").write_text(json.dumps(facts))


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "graph moved": (damage_graph, "run.json: its graph 'graph.zarr' is not there; move it back"),
    "graph built anew": (build_anew, "graph.zarr: another graph than the model was trained on; it was built"),
    "graph torn": (damage_shard, "graph.zarr"),
    "no run.json": (lambda run: (run / "run.json").unlink(), "found no run.json; train first"),
    "run.json torn": (lambda run: (run / "run.json").write_text('{"graph": '), "run.json: unreadable"),
    "run.json a list": (lambda run: (run / "run.json").write_text("[1]"), "run.json: unreadable"),
    "run.json poor": (lambda run: (run / "run.json").write_text("{}"), "run.json: no key 'graph'"),
    "no training.json": (lambda run: (run / "training.json").unlink(), "training.json: unreadable"),
    "model corrupt": (
        lambda run: (run / "model.safetensors").write_bytes(b"\x80\x04pickled"),
        "model.safetensors: not a readable safetensors file",
    ),
    "model of an absurd header": (
        lambda run: (run / "model.safetensors").write_bytes((1 << 40).to_bytes(8, "little") + b"{}"),
        "model.safetensors: not a readable safetensors file",
    ),
    "model missing": (lambda run: (run / "model.safetensors").unlink(), "model.safetensors"),
    "model.json torn": (
        lambda run: (run / "model.json").write_text("{"),
        "model.json: no readable model plan: Invalid JSON",
    ),
    "model.json gone": (
        lambda run: (run / "model.json").unlink(),
        "model.json: expected the model's plan, found No such",
    ),
    "model.json of another kind": (
        damage_plan,
        "model.json · config · latent: no readable model plan: Input should be",
    ),
}


@pytest.mark.parametrize("fault", DAMAGE)
def test_a_damaged_run_is_named_and_exits_2(run: Path, fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    damage, said = DAMAGE[fault]
    damage(run)
    with pytest.raises(StoreError) as caught:
        VirtualTissue.load(run)
    assert said in str(caught.value)
    assert cli.main(["query", str(run), "niches"]) == 2
    err = capsys.readouterr().err
    assert (
        err.startswith("StoreError: ")
        and said in err
        and "Traceback" not in err
        and "pydantic" not in err
        and err.count("\n") == 1
    )
