"""What a run folder says of itself, and what it says where that is torn or of other settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aivc_graph.errors import ConfigError, StoreError
from aivc_graph.training.run_folder import (
    CONFIG,
    FACTS,
    METRICS,
    built_alike,
    check_replaced,
    graph_of_run,
    held_out_words,
    read_whole,
    run_facts,
    run_metrics,
)
from aivc_graph.yaml_source import dump_yaml

SETTINGS: dict[str, Any] = {
    "task": {"name": "t", "sections": [{"name": "s1", "sources": ["a", "b"]}]},
    "graph": {"n_genes": 10},
    "model": {"latent": 4},
    "training": {"epochs": 2, "device": "cpu"},
}


def changed(**parts: dict[str, Any]) -> dict[str, Any]:
    return {key: {**SETTINGS[key], **parts.get(key, {})} for key in SETTINGS}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a folder with the facts of a finished run."""
    (tmp_path / FACTS).write_text(json.dumps({"graph": "graph.zarr", "seed": 3}))
    (tmp_path / CONFIG).write_text(dump_yaml(SETTINGS))
    return tmp_path


def test_facts_that_are_missing_or_torn_are_named(run: Path) -> None:
    assert run_facts(run / FACTS, ("seed",))["seed"] == 3
    with pytest.raises(StoreError, match=r"run\.json: no key 'task'; train the run again"):
        run_facts(run / FACTS, ("seed", "task"))
    for torn in ('{"graph": ', "[1, 2]", ""):
        (run / FACTS).write_text(torn)
        with pytest.raises(StoreError, match=r"run\.json: unreadable"):
            run_facts(run / FACTS, ())
    with pytest.raises(StoreError, match="unreadable"):
        run_facts(run / "none.json", ())


def test_losses_are_a_row_an_epoch_also_of_runs_that_did_not_say_what_they_held_out(run: Path) -> None:
    rows = [{"epoch": i, "train_loss": 2.0 - i, "validation_loss": 3.0 - i} for i in range(3)]
    (run / METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = run_metrics(run)
    assert found["epoch"].tolist() == [0, 1, 2] and set(found["held_out"]) == {""}
    (run / METRICS).write_text("".join(json.dumps({**row, "held_out": "hidden"}) + "\n" for row in rows))
    assert set(run_metrics(run)["held_out"]) == {"hidden"}
    assert held_out_words("hidden") == "hidden in training tissue" and held_out_words("validation") == "validation"
    assert held_out_words("") == "held out"


@pytest.mark.parametrize(
    ("text", "said"), [('{"epoch": 0}\n', "no 'train_loss'"), ('{"epoch"', "unreadable"), ("", "no")]
)
def test_losses_that_are_torn_are_refused(run: Path, text: str, said: str) -> None:
    (run / METRICS).write_text(text)
    with pytest.raises(StoreError, match=said):
        run_metrics(run)


def test_a_finished_run_is_replaced_by_one_of_the_same_settings_alone(run: Path) -> None:
    check_replaced(run, SETTINGS)
    check_replaced(run, changed(task={"name": "other"}, training={"device": "cuda"}))  # the same tissue, elsewhere
    with pytest.raises(ConfigError, match=r"a finished run of other settings: model\.latent 4 → 8; name another"):
        check_replaced(run, changed(model={"latent": 8}))
    many = changed(model={"latent": 8}, graph={f"x{i}": i for i in range(6)})
    with pytest.raises(ConfigError, match="and 2 more"):
        check_replaced(run, many)
    (run / FACTS).unlink()
    check_replaced(run, many)  # not finished


def test_a_graph_is_taken_over_if_built_from_the_same_task_and_settings(tmp_path: Path) -> None:
    def store(configuration: Any) -> Path:
        (tmp_path / "zarr.json").write_text(
            json.dumps({"attributes": {"provenance": {"configuration": configuration}}})
        )
        return tmp_path

    assert built_alike(store(SETTINGS), changed(model={"latent": 9}, training={"epochs": 50}, task={"name": "x"}))
    assert not built_alike(store(SETTINGS), changed(graph={"n_genes": 11}))
    other = [{"name": "s1", "sources": ["a", "c"]}]
    assert not built_alike(store(SETTINGS), changed(task={"sections": other}))
    assert not built_alike(store({}), SETTINGS) and not built_alike(tmp_path / "none", SETTINGS)


def test_a_run_without_its_graph_says_where_it_was(run: Path) -> None:
    with pytest.raises(StoreError, match=r"its graph 'graph\.zarr' is not there; move it back"):
        graph_of_run(run)
    (run / FACTS).unlink()
    with pytest.raises(StoreError, match=r"expected a finished run folder, found no run\.json; train first"):
        graph_of_run(run)


def test_a_run_that_is_replaced_while_it_is_read_is_read_again(run: Path) -> None:
    reads: list[int] = []

    def replaced_once(folder: Path) -> int:
        reads.append(1)
        if len(reads) == 1:
            beside = folder / "new"
            beside.write_text(json.dumps({"seed": 4}))
            beside.replace(folder / FACTS)
            raise StoreError("weights", "of another run")
        return int(run_facts(folder / FACTS, ())["seed"])

    assert read_whole(run, replaced_once) == 4 and len(reads) == 2
    with pytest.raises(StoreError, match="damaged"):  # of a run that stays it is no accident
        read_whole(run, lambda folder: (_ for _ in ()).throw(StoreError("weights", "damaged")))

    def always_replaced(folder: Path) -> None:
        beside = folder / "new"
        beside.write_text("{}")
        beside.replace(folder / FACTS)

    with pytest.raises(StoreError, match="replaced while it was read; read it when training is done"):
        read_whole(run, always_replaced)
