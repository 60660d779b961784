"""Faults planted before the command line: what is said, the exit code, and that nothing that existed is lost."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

from aivc_graph import cli
from aivc_graph.atomic import locked
from aivc_graph.graph.store import read_store
from aivc_graph.training.terms import likelihood as term

SETTINGS = "model: {latent: 4, rings: [6, 12]}\ntraining: {epochs: 2, device: cpu}\n"


def write_config(path: Path, n_cells: int = 60) -> Path:
    """Write an AnnData of cells 20 µm apart and the configuration that trains on it."""
    counts = np.random.default_rng(0).poisson(3.0, (n_cells, 20)) + 1
    place = np.column_stack([np.arange(n_cells) % 30, np.arange(n_cells) // 30]) * 20.0
    data = ad.AnnData(counts.astype(np.float32), obsm={"spatial": place})
    data.write_h5ad(path.with_suffix(".h5ad"))
    source = f"{{path: {path.with_suffix('.h5ad')}, reader: h5ad, level: cell, um_per_unit: 1, diameter_um: 10}}"
    path.write_text(f"task: {{sections: [{{name: s1, sources: [{source}]}}]}}\n{SETTINGS}")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run folder of 600 cells."""
    folder = tmp_path_factory.mktemp("faults")
    config = write_config(folder / "many.yaml", 600)
    assert cli.main(["train", str(config), "--out", str(folder / "run"), "--quiet"]) == 0
    return folder / "run"


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_barcodes_that_differ_by_a_suffix(tmp_path: Path, say: Callable[..., tuple[int, str, str]]) -> None:
    barcodes = [f"AC{i:03d}" for i in range(40)]
    pd.DataFrame({"barcode": [f"{b}-1" for b in barcodes], "x": np.arange(40) * 20.0, "y": 0.0}).to_csv(
        tmp_path / "places.csv", index=False
    )
    counts = pd.DataFrame(np.random.default_rng(0).poisson(3.0, (40, 5)) + 1, columns=[f"G{i}" for i in range(5)])
    counts.assign(barcode=barcodes).to_csv(tmp_path / "counts.csv", index=False)
    config = tmp_path / "suffix.yaml"
    options = "reader: plain_table, level: cell, um_per_unit: 1, diameter_um: 10, positions: ./places.csv"
    config.write_text(f"task: {{sections: [{{name: s1, sources: [{{path: ./counts.csv, {options}}}]}}]}}\n{SETTINGS}")
    build = ("build", config, "--out", tmp_path / "graph.zarr")
    code, _, err = say(*build)
    assert code == 2 and "section s1: " in err and "40 of 40 barcodes without a position (0.0% overlap)" in err
    assert 'they differ by a suffix such as "-1": set `strip_suffix: true`' in err and "Traceback" not in err
    assert not (tmp_path / "graph.zarr").exists()
    assert say(*build, "--set", "task.sections[0].sources[0].strip_suffix=true")[0] == 0
    assert list(read_store(tmp_path / "graph.zarr").obs("cell")["barcode"].sort_values()) == [
        f"{b}-1" for b in barcodes
    ]


@pytest.mark.parametrize("ending", ["csv", "parquet", "h5ad"])
def test_disk_full_while_an_answer_is_written(
    run: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]], ending: str
) -> None:
    out = tmp_path / f"niches.{ending}"
    assert say("query", run, "niches", "--k", 2, "--out", out)[0] == 0
    before = content(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, hard))
    try:
        code, _, err = say("query", run, "niches", "--k", 3, "--out", out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 2 and f"StoreError: {out}: " in err and "while writing; what was there before is intact" in err
    assert content(tmp_path) == before


def test_killed_while_the_graph_is_written(tmp_path: Path, say: Callable[..., tuple[int, str, str]]) -> None:
    config, store = write_config(tmp_path / "few.yaml"), tmp_path / "out/graph.zarr"
    command = [sys.executable, "-m", "aivc_graph.cli", "build", str(config), "--out", str(store), "--quiet"]
    half = store.with_name(".tmp-graph.zarr")
    for _ in range(10):  # writing so few cells takes a moment, which a busy machine misses
        assert say("build", config, "--out", store)[0] == 0
        before = content(store)
        child = subprocess.Popen([*command, "--set", "graph.patch_um=50"])
        deadline = time.time() + 60
        while not half.exists() and child.poll() is None and time.time() < deadline:
            time.sleep(0.001)
        child.send_signal(signal.SIGKILL)
        child.wait()
        if half.exists():
            break
    assert half.exists(), "killed too early or too late to test anything"
    assert content(store) == before and read_store(store)["cell"].num_nodes == 60
    assert say("inspect", store)[0] == 0
    assert say("build", config, "--out", store, "--set", "graph.patch_um=50")[0] == 0
    assert os.listdir(store.parent) == ["graph.zarr"] and content(store) != before


def test_two_writers_at_once(run: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]]) -> None:
    config, store = write_config(tmp_path / "few.yaml"), tmp_path / "graph.zarr"
    assert say("build", config, "--out", store)[0] == 0
    before = content(store), content(run)
    mine = f"being written by process {os.getpid()} on"
    with locked(store):
        code, _, err = say("build", config, "--out", store, "--set", "graph.patch_um=50")
        assert code == 2 and mine in err and "wait for it" in err
        assert say("inspect", store)[0] == 0  # a reader is not kept out
    with locked(run):
        for resume in (("--overwrite",), ("--resume",)):
            code, _, err = say("train", config, "--graph", store, "--out", run, *resume)
            assert code == 2 and mine in err and "wait for it" in err
        assert say("query", run, "niches", "--k", 2)[0] == 0
    assert (content(store), content(run)) == before


def test_a_loss_that_is_not_finite_stops_with_the_last_good_state(
    tmp_path: Path, say: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, original, steps = write_config(tmp_path / "few.yaml"), term.likelihood, []

    def failing(model: Any, *rest: Any) -> Any:
        loss = original(model, *rest)
        steps.append(model.training)
        if sum(steps) == 2 and model.training:
            loss.total = {key: value * torch.nan for key, value in loss.total.items()}
        return loss

    train = ("train", config, "--out", tmp_path / "run", "--set", "training.epochs=3")
    with monkeypatch.context() as patch:
        patch.setattr(term, "likelihood", failing)
        code, _, err = say(*train)
    assert code == 1 and "epoch 2 · window 0: expected a finite loss, found a loss of nan; lower training." in err
    assert not (tmp_path / "run/run.json").exists() and (tmp_path / "run/checkpoints/last.safetensors").exists()
    assert say(*train, "--resume")[0] == 0
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1, 2, 3]
