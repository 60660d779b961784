"""A run folder of which a file is torn, old or missing: what `inspect`, `evaluate` and the report say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from aivc_graph import cli
from aivc_graph.errors import StoreError
from aivc_graph.pipeline.inspect import inspect
from aivc_graph.pipeline.train import Run
from aivc_graph.report.learning import learning_of
from aivc_graph.report.write import write_report
from tests.report.runs import SCORES, small_run, write_scores


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, striped_section: Callable[..., Any]) -> Path:
    return small_run(tmp_path_factory.mktemp("damaged") / "run", [striped_section("a", n=200)])


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """Return a copy that a test may damage, with scores."""
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    write_scores(run, SCORES)
    return run


def tear(file: Path) -> None:
    file.write_text(file.read_text()[:-20])


TORN = ("run.json", "training.json", "metrics.jsonl", "evaluation.json")


@pytest.mark.parametrize("name", TORN)
def test_inspect_and_the_report_name_a_torn_file(run: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    tear(run / name)
    assert cli.main(["inspect", str(run)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"StoreError: {run / name}: ") and "again" in said and said.count("\n") == 1
    with pytest.raises(StoreError, match=name):
        write_report(run)


@pytest.mark.parametrize("name", TORN[:3])
def test_evaluate_names_a_torn_file(run: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    tear(run / name)
    before = (run / "evaluation.json").read_bytes()
    assert cli.main(["evaluate", str(run), "--out", str(run / "scores"), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"StoreError: {run / name}: ") and "unexpected" not in said
    assert (run / "evaluation.json").read_bytes() == before


@pytest.mark.parametrize("content", ["[1]\n", '{"epoch": 0}\n', "", '{"epoch": 0, "train_loss": null\n'])
def test_metrics_of_another_kind_are_named(run: Path, content: str) -> None:
    (run / "metrics.jsonl").write_text(content)
    with pytest.raises(StoreError, match=r"metrics\.jsonl: .*train the run again"):
        _ = Run(run).metrics


def test_inspect_tells_what_a_run_holds_and_what_is_wrong_with_it(run: Path) -> None:
    found = inspect(run)
    assert (found["epochs"], found["faults"], found["doubts"]) == (2, [], [])
    assert found["evaluation"] == {
        "scores": len(SCORES["results"]),
        "task": ["composition", "image → expression"],
        "split": ["test"],
    }
    (run / "evaluation.json").unlink()
    shutil.move(run / "graph.zarr", run / "elsewhere.zarr")
    found = inspect(run)
    assert found["evaluation"] == "not evaluated" and "no graph store" in found["faults"][0]


def test_a_run_from_before_the_loss_said_what_it_is_of_still_opens(run: Path) -> None:
    now = learning_of(run)
    assert now is not None and now["of"] == "tissue kept apart to decide when to stop"
    table = pd.read_json(run / "metrics.jsonl", lines=True).drop(columns="held_out")
    (run / "metrics.jsonl").write_text(table.to_json(orient="records", lines=True))
    facts = json.loads((run / "training.json").read_text())
    del facts["held_out"]
    (run / "training.json").write_text(json.dumps(facts))
    shown = [text.get_text() for text in Run(run).plot().get_legend().get_texts()]
    assert shown[1] == "negative log-likelihood, held out"
    old = learning_of(run)
    assert old is not None and old["of"] == "what was held out" and inspect(run)["epochs"] == 2


def test_the_curve_says_hidden_where_nothing_was_kept_apart(run: Path) -> None:
    text = (run / "metrics.jsonl").read_text().replace('"validation"', '"hidden"')
    (run / "metrics.jsonl").write_text(text)
    found = learning_of(run)
    assert found is not None and "hidden from it by turns" in found["of"]
    assert "hidden from it by turns" in found["picture"].alt
    assert "hidden from it by turns" in write_report(run).read_text()
