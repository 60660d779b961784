"""Writing a run folder: one writer, and the earlier result whole until the new one is complete."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from aivc_graph.errors import ConfigError, StoreError
from aivc_graph.training.checkpoint import save_tensors
from aivc_graph.training.run_folder import UNFINISHED, check_resumed, writing_run
from aivc_graph.yaml_source import dump_yaml

SETTINGS = {"model": {"latent": 4, "rings": [6, 12]}, "training": {"epochs": 2, "seed": 0}}


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    for name in ("run.json", "model.safetensors", "niches.csv"):
        (tmp_path / name).write_text("old")
    (tmp_path / "graph.zarr").mkdir()
    return tmp_path


def content(run: Path) -> dict[str, str]:
    return {str(p.relative_to(run)): p.read_text() for p in run.rglob("*") if p.is_file()}


def test_training_anew_that_fails_leaves_the_finished_run(finished: Path) -> None:
    before = content(finished)
    with pytest.raises(RuntimeError), writing_run(finished, resume=False) as folder:
        (folder / "model.safetensors").write_text("new")
        raise RuntimeError
    kept = {name: text for name, text in content(finished).items() if not name.startswith(UNFINISHED)}
    assert kept == before
    with writing_run(finished, resume=True) as folder:
        assert (folder / "model.safetensors").read_text() == "new"
        (folder / "run.json").write_text("new")
    assert content(finished) == {**before, "model.safetensors": "new", "run.json": "new"}


def test_training_anew_that_ends_well_replaces_files_and_folders(finished: Path) -> None:
    (finished / "graph.zarr/old").write_text("old")
    with writing_run(finished, resume=False) as folder:
        (folder / "graph.zarr").mkdir()
        (folder / "graph.zarr/new").write_text("new")
        (folder / "run.json").write_text("new")
    assert content(finished) == {
        "run.json": "new",
        "graph.zarr/new": "new",
        "model.safetensors": "old",
        "niches.csv": "old",
    }


def test_what_a_killed_swap_took_over_in_part_is_taken_over_anew(tmp_path: Path) -> None:
    run, left = tmp_path / "run", tmp_path / ".tmp-run"
    for folder, text in ((run, "old"), (left, "new")):
        (folder / "graph.zarr").mkdir(parents=True)
        (folder / "run.json").write_text(text)
    (run / "graph.zarr/a").write_text("graph")
    (run / "graph.zarr/b").write_text("graph")
    os.link(run / "graph.zarr/a", left / "graph.zarr/a")
    os.utime(run / "run.json", ns=(0, 0))
    with writing_run(run, resume=True) as folder:
        assert (folder / "run.json").read_text() == "new" and not (folder / "graph.zarr").exists()
    assert content(run) == {"run.json": "new", "graph.zarr/a": "graph", "graph.zarr/b": "graph"}


def test_an_unfinished_run_is_written_in_place(tmp_path: Path) -> None:
    for resume in (False, True):
        with writing_run(tmp_path / "run", resume=resume) as folder:
            assert folder == tmp_path / "run"


def test_two_writers(tmp_path: Path) -> None:
    mine = f"being written by process {os.getpid()} on"
    with (
        writing_run(tmp_path, resume=False),
        pytest.raises(StoreError, match=mine),
        writing_run(tmp_path, resume=True),
    ):
        pass


def test_a_file_where_the_run_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for run in (tmp_path / "file", tmp_path / "file/run"):
        with pytest.raises(StoreError, match="while writing; free space, or"), writing_run(run, resume=False):
            pass
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("part", "key", "value", "said"),
    [
        ("model", "latent", 6, "model.latent 4 → 6"),
        ("model", "rings", [6], "model.rings.1 12 → None"),
        ("training", "seed", 1, "training.seed 0 → 1"),
        ("training", "epochs", 9, None),
    ],
)
def test_only_the_length_of_training_may_change_when_resumed(
    tmp_path: Path, part: str, key: str, value: Any, said: str | None
) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.yaml").write_text(dump_yaml(SETTINGS))
    changed = {**SETTINGS, part: {**SETTINGS[part], key: value}}
    if said is None:
        check_resumed(tmp_path, changed)
        return
    with pytest.raises(ConfigError, match=f"found other settings: {said}; resume with the settings"):
        check_resumed(tmp_path, changed)


def test_weights_are_as_readable_as_other_files_and_a_failure_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "beside").write_text("")
    save_tensors({"a": torch.ones(3)}, {}, tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").stat().st_mode == (tmp_path / "beside").stat().st_mode
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(IsADirectoryError):
        save_tensors({"a": torch.ones(3)}, {}, tmp_path / "folder.safetensors")
    assert not list(tmp_path.glob("*.tmp"))
