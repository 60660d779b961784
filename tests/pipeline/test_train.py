"""From a configuration to a run by the command line: kills, other settings, tissue of few cells."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from aivc_graph.config import load_config
from aivc_graph.graph.store import read_store
from aivc_graph.pipeline.build import input_files

pytestmark = pytest.mark.usefixtures("where_data_lies")


def test_settings_of_the_command_line_reach_the_run(made: Path) -> None:
    config = load_config(made / "run/config.yaml")
    assert config.training.epochs == 3 and config.model.latent == 4
    assert len((made / "run/metrics.jsonl").read_text().splitlines()) == 4


def test_a_run_killed_half_way_is_trained_again(
    made: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]]
) -> None:
    run = tmp_path / "run"
    given = ["train", made / "tiny.yaml", "--graph", made / "graph.zarr", "--out", run, "--set", "training.epochs=40"]
    given += ["--set", "training.patience=40"]
    child = subprocess.Popen([sys.executable, "-m", "aivc_graph.cli", *map(str, given), "--quiet"])
    last, deadline = run / "checkpoints/last.safetensors", time.time() + 60
    while not last.exists() and time.time() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert last.exists() and not (run / "run.json").exists(), "killed too late to test anything"
    code, _, err = say("query", run, "niches")
    assert code == 2 and "no run.json" in err
    resumed = Path(shutil.copytree(run, tmp_path / "resumed"))
    assert say(*given)[0] == 0
    assert say(*given[:5], resumed, *given[6:], "--resume")[0] == 0
    assert (run / "model.safetensors").read_bytes() == (resumed / "model.safetensors").read_bytes()
    assert say("query", resumed, "niches")[0] == 0


def test_other_graph_settings_build_another_graph_and_other_model_settings_are_not_resumed(
    made: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]]
) -> None:
    run = tmp_path / "run"
    train = ("train", made / "tiny.yaml", "--out", run, "--set", "training.epochs=1")
    assert say(*train)[0] == 0
    n_genes = read_store(run / "graph.zarr")["gene"].num_nodes
    code, _, err = say(*train, "--resume", "--set", "model.latent=6")
    assert code == 2 and "other settings: model.latent 4 → 6" in err
    before, model = sorted(run.rglob("*")), (run / "model.safetensors").read_bytes()
    code, _, err = say(*train, "--set", "graph.n_genes=10")
    assert code == 2 and "a finished run of other settings: graph.n_genes None → 10; name another folder by" in err
    assert sorted(run.rglob("*")) == before and (run / "model.safetensors").read_bytes() == model
    assert say(*train, "--set", "training.device=auto", "--set", "task.name=other")[0] == 0
    assert (run / "model.safetensors").read_bytes() == model
    code, _, err = say(*train, "--set", "graph.n_genes=10", "--overwrite")
    assert code == 0
    assert read_store(run / "graph.zarr")["gene"].num_nodes < n_genes
    assert say("query", run, "niches", "--k", 2)[0] == 0
    inode = (run / "graph.zarr" / "zarr.json").stat().st_ino
    code, _, err = say(*train, "--set", "graph.n_genes=10", "--quiet")
    assert code == 0 and "building anew" not in err and (run / "graph.zarr" / "zarr.json").stat().st_ino == inode


def test_files_that_changed_since_build_another_graph_and_are_not_resumed(
    tmp_path: Path, say: Callable[..., tuple[int, str, str]]
) -> None:
    counts = np.random.default_rng(0).poisson(3.0, (30, 8)) + 1
    config, run = write_cells(tmp_path / "few.yaml", counts), tmp_path / "run"
    assert say("train", config, "--out", run)[0] == 0
    assert say("train", config, "--out", run, "--quiet")[2] == ""
    write_cells(tmp_path / "few.yaml", 2 * counts)
    code, _, err = say("train", config, "--out", run, "--resume")
    assert code == 2 and "files that have changed since: s1/few.h5ad; put them back, or train anew without" in err
    code, _, err = say("train", config, "--out", run)
    assert code == 0 and "s1/few.h5ad has changed since" in err
    assert read_store(run / "graph.zarr").counts("cell", "rna").sum() == 2 * counts.sum()
    (tmp_path / "few.h5ad").unlink()  # the graph stands for what it was built from
    assert say("train", config, "--out", run, "--quiet")[2] == ""


def test_files_of_one_name_and_those_beside_are_all_inputs(tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / "d" / place).mkdir(parents=True)
        (tmp_path / "d" / place / "x.csv").write_text(place)
    for name in ("rna.h5ad", "prot.h5ad", "marks.csv"):
        (tmp_path / name).write_text(name)
    (tmp_path / "c.yaml").write_text(
        "task:\n sections:\n"
        "  - {name: A, sources: [{path: ./d, reader: xenium}]}\n"
        "  - {name: B, sources: [{path: ./rna.h5ad, reader: h5ad, beside: {protein: prot.h5ad}}],\n"
        "     registration: [{kind: landmarks, path: ./marks.csv, moving: slide, fixed: cell}]}\n"
    )
    found = dict(input_files(load_config(tmp_path / "c.yaml")))
    assert list(found) == ["A/d/a/x.csv", "A/d/b/x.csv", "B/rna.h5ad", "B/prot.h5ad", "B/marks.csv"]


def write_cells(path: Path, counts: np.ndarray) -> Path:
    """Write an AnnData of cells 20 µm apart and the configuration that trains on it."""
    data = ad.AnnData(counts.astype(np.float32), obsm={"spatial": np.arange(len(counts))[:, None] * [20.0, 0.0]})
    data.write_h5ad(path.with_suffix(".h5ad"))
    source = f"{{path: {path.with_suffix('.h5ad')}, reader: h5ad, level: cell, um_per_unit: 1, diameter_um: 10}}"
    sections = f"task: {{name: few, sections: [{{name: s1, sources: [{source}]}}]}}\n"
    path.write_text(f"{sections}model: {{latent: 4, rings: [6, 12]}}\ntraining: {{epochs: 1, device: cpu}}\n")
    return path


def test_the_graph_of_a_finished_run_is_not_built_over(
    tmp_path: Path, say: Callable[..., tuple[int, str, str]]
) -> None:
    config = write_cells(tmp_path / "few.yaml", np.random.default_rng(0).poisson(3.0, (30, 20)) + 1)
    run, apart = tmp_path / "run", tmp_path / "apart.zarr"
    assert say("train", config, "--out", run)[0] == 0
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    code, _, err = say("build", config, "--out", run / "graph.zarr", "--set", "graph.n_genes=9")
    assert code == 2 and "graph.zarr: expected a place of its own for a new graph, found the graph of a finished" in err
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
    assert say("build", config, "--out", apart)[0] == 0
    assert say("train", config, "--graph", apart, "--out", run)[0] == 0
    assert say("build", config, "--out", apart)[0] == 0 and say("query", run, "niches")[0] == 0  # the same graph again
    assert say("build", config, "--out", apart, "--set", "graph.patch_um=50")[0] == 0
    code, _, err = say("query", run, "niches")
    assert code == 2 and "apart.zarr: another graph than the model was trained on" in err


@pytest.mark.parametrize("n_cells", [1, 2, 5])
def test_a_tissue_of_few_cells_is_answered(
    tmp_path: Path, say: Callable[..., tuple[int, str, str]], n_cells: int
) -> None:
    config = write_cells(tmp_path / "few.yaml", np.random.default_rng(0).poisson(3.0, (n_cells, 20)) + 1)
    assert say("train", config, "--out", tmp_path / "run")[0] == 0
    for asked in (["niches"], ["expression", "--at", "niche"], ["neighbours"], ["similar", "--to-niche", 1]):
        assert say("query", tmp_path / "run", *asked)[0] == 0
    assert say("query", tmp_path / "run", "niches", "--out", tmp_path / "n.csv")[0] == 0
    assert (pd.read_csv(tmp_path / "n.csv")["niche"] == 1).all()


def test_a_table_of_zeros_is_refused(tmp_path: Path, say: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = say("build", write_cells(tmp_path / "no.yaml", np.zeros((9, 20))), "--out", tmp_path / "g.zarr")
    assert code == 2 and "cell · rna: expected counts, found zeros only; check which matrix" in err


def test_one_command_builds_what_training_needs(
    made: Path, tmp_path: Path, say: Callable[..., tuple[int, str, str]]
) -> None:
    code, said, _ = say("train", made / "tiny.yaml", "--out", tmp_path / "run", "--set", "training.epochs=0")
    assert code == 0 and said.strip() == str(tmp_path / "run")
    assert say("query", tmp_path / "run", "niches", "--k", 2)[0] == 0
