"""A run that is replaced while others read it, write beside it, or are killed: one model's files, never two's."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest

from aivc_graph import cli
from aivc_graph.atomic import locked
from aivc_graph.errors import StoreError
from aivc_graph.evaluation.records import read_evaluation
from aivc_graph.pipeline import train as training
from aivc_graph.pipeline.evaluate import evaluate
from aivc_graph.pipeline.inspect import inspect
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.report.write import write_report
from aivc_graph.training import run_folder
from aivc_graph.training.run_folder import UNFINISHED

CLOCK = ("seconds", "nodes_per_second")
OWN = ("config.yaml", "model.safetensors", "model.json", "niches.safetensors", "training.json", "run.json")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a configuration, a finished run of seed 0, evaluated, and one of seed 1."""
    folder = tmp_path_factory.mktemp("as_one")
    rng = np.random.default_rng(0)
    place = np.column_stack([np.arange(60) % 10, np.arange(60) // 10]) * 20.0
    counts = (rng.poisson(3.0, (60, 20)) + 1).astype(np.float32)
    ad.AnnData(counts, obsm={"spatial": place}).write_h5ad(folder / "cells.h5ad")
    source = f"{{path: {folder / 'cells.h5ad'}, reader: h5ad, level: cell, um_per_unit: 1, diameter_um: 10}}"
    (folder / "small.yaml").write_text(
        f"task: {{sections: [{{name: s1, sources: [{source}]}}]}}\n"
        "model: {latent: 4, rings: [6, 12]}\ntraining: {epochs: 3, device: cpu}\n"
    )
    for seed in (0, 1):
        given = ["train", str(folder / "small.yaml"), "--out", str(folder / f"run{seed}"), "--quiet"]
        assert cli.main([*given, "--set", f"training.seed={seed}"]) == 0
    evaluate(folder / "run0")
    return folder


@pytest.fixture
def run(study: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(study / "run0", tmp_path / "run"))


def own(run: Path) -> dict[str, bytes]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    kept = [{key: value for key, value in line.items() if key not in CLOCK} for line in lines]
    return {name: (run / name).read_bytes() for name in OWN} | {"metrics": json.dumps(kept).encode()}


def train_anew(study: Path, run: Path, *more: str) -> int:
    return cli.main(
        ["train", str(study / "small.yaml"), "--out", str(run), "--set", "training.seed=1", "--overwrite", *more]
    )


def test_training_anew_replaces_the_run_whole_and_drops_its_scores(study: Path, run: Path) -> None:
    (run / "notes.txt").write_text("mine")
    assert train_anew(study, run, "--quiet") == 0
    assert {k: v for k, v in own(run).items() if k != "run.json"} == {
        k: v for k, v in own(study / "run1").items() if k != "run.json"
    }
    assert not (run / "evaluation.json").exists() and (run / "notes.txt").read_text() == "mine"
    assert os.listdir(run.parent) == ["run"] and not (run / UNFINISHED).exists()


def test_a_new_run_that_did_not_get_its_name_is_finished_by_resume(
    study: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = own(run)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", str(run))

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "swap", full)
        assert train_anew(study, run) == 2
    assert "No space left on device while writing" in capsys.readouterr().err
    assert own(run) == before and (run / "evaluation.json").exists()
    (run / UNFINISHED).rename(run.with_name(".tmp-run"))  # as a kill just before the swap leaves it
    monkeypatch.setattr(training, "build", None)
    assert train_anew(study, run, "--resume", "--quiet") == 0
    assert own(run)["model.safetensors"] == own(study / "run1")["model.safetensors"]
    assert os.listdir(run.parent) == ["run"]


@pytest.mark.parametrize("torn", ["config.yaml", "metrics.jsonl"])
def test_resumed_after_a_kill_while_a_file_was_written_equals_a_run_that_was_not_killed(
    study: Path, tmp_path: Path, torn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, epochs = tmp_path / "run", 0

    class Killed(BaseException):
        pass

    replace = Path.replace

    def killed(self: Path, target: Path) -> Path:
        nonlocal epochs
        epochs += Path(target).name == "last.safetensors"
        if Path(target).name == torn and (torn == "config.yaml" or epochs > 1):
            raise Killed
        if torn == "metrics.jsonl" and epochs > 1:  # a line that the kill cut short
            with (run / torn).open("a") as lines:
                lines.write('{"epoch": 3, "train')
            raise Killed
        return replace(self, target)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Path, "replace", killed)
        train_anew(study, run, "--quiet")
    assert train_anew(study, run, "--resume", "--quiet") == 0
    assert own(run) == own(study / "run1")
    assert not list(run.rglob(".tmp-*"))


def test_a_training_given_up_leaves_no_checkpoint_to_the_next(study: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(study / "run0", run)
    (run / "run.json").unlink()  # as if it had not come to its end
    with run_folder.writing_run(run, resume=False) as folder:
        assert folder == run and not (run / "checkpoints").exists()


def test_going_on_with_a_finished_run_leaves_it_whole_until_it_is_done(study: Path, run: Path) -> None:
    before = own(run)
    with pytest.raises(RuntimeError), run_folder.writing_run(run, resume=True) as folder:
        assert folder == run / UNFINISHED and (folder / "checkpoints/last.safetensors").exists()
        (folder / "metrics.jsonl").write_text("")
        raise RuntimeError
    assert own(run) == before


def test_scores_never_come_to_lie_beside_another_model(study: Path, run: Path) -> None:
    tissue = VirtualTissue.load(run)
    before = (run / "evaluation.json").read_bytes()
    shutil.copy(study / "run1/model.safetensors", run / "model.safetensors")
    with pytest.raises(StoreError, match="expected the model that was asked, found trained anew meanwhile"):
        evaluate(run, tissue=tissue)
    assert (run / "evaluation.json").read_bytes() == before and not list(run.glob(".*"))
    for read in (lambda: read_evaluation(run / "evaluation.json"), lambda: write_report(run), lambda: inspect(run)):
        with pytest.raises(StoreError, match="scores of another model than the run's; run aivc evaluate again"):
            read()


def test_a_page_of_a_model_never_comes_to_lie_beside_another(study: Path, run: Path) -> None:
    tissue = VirtualTissue.load(run)
    assert train_anew(study, run, "--quiet") == 0  # after the scores, say, and before their page
    with pytest.raises(StoreError, match="trained anew meanwhile; ask the run again"):
        write_report(run, tissue=tissue)
    assert not (run / "report.html").exists() and not list(run.glob(".*"))


def test_new_scores_take_the_page_of_the_old_ones_away(run: Path) -> None:
    (run / "report.html").write_text("of other scores")
    evaluate(run)
    assert not (run / "report.html").exists()


def test_a_run_replaced_while_it_is_read_is_read_again(study: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aivc_graph.query import virtual_tissue

    original, times = virtual_tissue.load_model, []

    def replaced(folder: Path) -> Any:
        times.append(len(times))
        if len(times) == 1:
            assert train_anew(study, run, "--quiet") == 0
        return original(folder)

    monkeypatch.setattr(virtual_tissue, "load_model", replaced)
    tissue = VirtualTissue.load(run)
    assert tissue.seed == 1 and len(times) == 2


def test_two_simulations_into_one_folder(tmp_path: Path, say: Callable[..., tuple[int, str, str]]) -> None:
    with locked(tmp_path / "tissue"):
        code, _, err = say("simulate", "tiny", "--out", tmp_path / "tissue")
    assert code == 2 and f"being written by process {os.getpid()} on" in err and "wait for it" in err
    assert os.listdir(tmp_path) == []


def test_what_a_killed_writer_left_is_swept_by_the_next(run: Path, tmp_path: Path) -> None:
    (tmp_path / ".tmp-n.csv").write_text("half")
    (tmp_path / ".n.csv.lock").write_text("{}")
    (tmp_path / ".tmp-other.csv").write_text("of a writer that may live")
    assert cli.main(["query", str(run), "niches", "--out", str(tmp_path / "n.csv"), "--quiet"]) == 0
    assert sorted(os.listdir(tmp_path)) == [".tmp-other.csv", "n.csv", "run"]


def test_a_verb_that_refuses_what_is_complete_sweeps_the_lock_of_the_killed_one(study: Path, tmp_path: Path) -> None:
    (tmp_path / "tissue").mkdir()
    for file in ("tissue/config.yaml", "study.yaml"):
        (tmp_path / file).write_text("complete")
    for name in ("tissue", "study.yaml"):
        (tmp_path / f".{name}.lock").write_text("{}")  # killed when it was about to take it away
    assert cli.main(["simulate", "tiny", "--out", str(tmp_path / "tissue")]) == 2
    assert cli.main(["init", str(study), "--out", str(tmp_path / "study.yaml")]) == 2
    assert sorted(os.listdir(tmp_path)) == ["study.yaml", "tissue"]
    assert (tmp_path / "study.yaml").read_text() == (tmp_path / "tissue/config.yaml").read_text() == "complete"


def test_of_two_that_look_at_one_folder_the_slower_does_not_write_over_the_quicker(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aivc_graph.pipeline import init as module

    look = module.look

    def slow(folder: Path) -> Any:
        found = look(folder)
        (tmp_path / "study.yaml").write_text("of the quicker one")
        return found

    monkeypatch.setattr(module, "look", slow)
    assert cli.main(["init", str(study / "cells.h5ad"), "--out", str(tmp_path / "study.yaml")]) == 2
    assert (tmp_path / "study.yaml").read_text() == "of the quicker one" and os.listdir(tmp_path) == ["study.yaml"]
