"""The command line: exit codes, messages, help and speed of start-up."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from aivc_graph import cli
from aivc_graph.errors import TrainingError
from aivc_graph.query.questions.question import QUESTIONS
from aivc_graph.simulate.catalogue import CATALOGUE
from aivc_graph.simulate.presets import PRESETS

VERBS = ("demo", "simulate", "init", "inspect", "build", "train", "evaluate", "compare", "query", "export", "schema")
AIVC = [sys.executable, "-m", "aivc_graph.cli"]


def replace(monkeypatch: pytest.MonkeyPatch, verb: str, result: Any) -> list[tuple[Any, ...]]:
    """Put a recorder in place of a pipeline function (``module.function``): only the command line is under test."""
    calls: list[tuple[Any, ...]] = []

    def record(*given: Any, **named: Any) -> Any:
        calls.append((*given, named))
        if isinstance(result, BaseException):
            raise result
        return result

    monkeypatch.setattr(f"aivc_graph.pipeline.{verb}", record)
    return calls


def test_help_starts_at_once_and_loads_nothing_heavy() -> None:
    started = time.perf_counter()
    done = subprocess.run([*AIVC, "--help"], capture_output=True, text=True, check=True)
    assert time.perf_counter() - started < 1
    assert all(verb in done.stdout for verb in VERBS)
    heavy = "[m for m in ('torch', 'numpy', 'pydantic', 'spatialdata') if m in sys.modules]"
    probe = f"import sys, aivc_graph.cli; print({heavy})"
    assert (
        subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_the_package_runs_as_a_module_and_says_its_version() -> None:
    for command in (AIVC, [sys.executable, "-m", "aivc_graph"]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert done.stdout == f"aivc {version('aivc-graph')}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main([verb, "--help"])
    assert done.value.code == 0
    shown = capsys.readouterr().out
    assert re.search(rf"examples?: aivc {verb}", " ".join(shown.split())) and "--debug" in shown and "--quiet" in shown


@pytest.mark.parametrize(
    ("verb", "forms"),
    [
        (
            "evaluate",
            ("runs/demo", "runs/norman --weights", "--predictions mine.h5ad --measured"),
        ),
        ("compare", ("runs/a runs/b\n", "--out differences.csv", "evaluation.json --out differences.json")),
    ],
)
def test_a_verb_of_several_forms_shows_them_all(
    verb: str, forms: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        cli.main([verb, "--help"])
    shown = capsys.readouterr().out
    assert all(f"aivc {verb}" in line for line in shown.split("examples:")[1].strip().splitlines())
    assert all(form in shown for form in forms)


@pytest.mark.parametrize("question", sorted(QUESTIONS))
def test_every_question_has_help_with_an_example(question: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main(["query", "runs/demo", question, "--help"])
    assert done.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"example: aivc query runs/demo {question}" in shown
    assert "one row a " not in shown and ".csv or .parquet or" not in shown


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["buidl"],
        ["build"],
        ["query", "run", "mood"],
        ["query", "r", "niches", "--out", "a.xls"],
        ["compare", "a", "b", "--out", "a.xls"],
    ],
)
def test_wrong_usage_exits_2(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main(given)
    assert done.value.code == 2
    assert "usage: aivc" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("buidl", "aivc: error: VERB: no verb named 'buidl'; did you mean 'build'? (known: build, compare"),
        ("query run mood", "aivc query: error: QUESTION: no question named 'mood' (known: abundance, anch"),
        ("query run nichs", "QUESTION: no question named 'nichs'; did you mean 'niches'?"),
        ("query run niches --levle cell", "RUN niches: error: no option named '--levle'; did you mean '--level'?"),
        ("query run niches --level cel", "--level: no choice named 'cel'; did you mean 'cell'? (known: cell, patch"),
        ("train a.yaml --sett=x=1", "aivc train: error: no option named '--sett'; did you mean '--set'? (known"),
        ("export run --to geojsn --out x", "--to: no choice named 'geojsn'; did you mean 'geojson'?"),
        ("compare a b --outt c.csv", "no option named '--outt'; did you mean '--out'?"),
        ("inspect a b", "aivc inspect: error: b: one word more than it takes"),
    ],
)
def test_a_word_that_is_not_known_is_told_with_the_nearest(
    given: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main(given.split())
    assert done.value.code == 2
    assert said in capsys.readouterr().err


def test_faulty_configuration_exits_2_without_traceback(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("training:\n  epoch: 3\n  seed: x\n")
    out = tmp_path / "run"
    out.mkdir()
    (out / "metrics.jsonl").write_text("kept")
    given = [*AIVC, "train", str(tmp_path / "x.yaml"), "--out", str(out), "--set", "model.depth=deep"]
    done = subprocess.run(given, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    first, *rest = done.stderr.splitlines()
    assert first.startswith("ConfigError: x.yaml:2: training.epoch: unknown key; did you mean 'epochs'?")
    assert [line.split(": ")[1] for line in rest] == ["training.seed", "expected a valid integer, found 'deep'"]
    assert (out / "metrics.jsonl").read_text() == "kept"


def test_missing_input_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(tmp_path / "absent")]) == 2
    assert f"ReadError: {tmp_path / 'absent'}: no such file or folder" in capsys.readouterr().err


def test_failed_run_exits_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    replace(monkeypatch, "demo.demo", TrainingError("epoch 3", "a loss that is NaN", mend="lower the learning rate"))
    assert cli.main(["demo"]) == 1
    assert capsys.readouterr().err == "TrainingError: epoch 3: a loss that is NaN; lower the learning rate\n"


def test_unexpected_error_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    replace(monkeypatch, "demo.demo", RuntimeError("planted\nin two lines"))
    assert cli.main(["demo"]) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and "planted" in said and "--debug" in said


@pytest.mark.parametrize(
    "given", [["demo", "--debug"], ["query", "r", "niches", "--debug"], ["query", "--debug", "r", "niches"]]
)
def test_debug_shows_the_traceback(
    given: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace(monkeypatch, {"demo": "demo.demo", "query": "ask.query"}[given[0]], RuntimeError("planted"))
    assert cli.main(given) == 1
    assert "Traceback" in capsys.readouterr().err


def test_interrupt_exits_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    replace(monkeypatch, "demo.demo", KeyboardInterrupt())
    assert cli.main(["demo"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_arguments_reach_the_pipeline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("task: {name: t}")
    calls = replace(monkeypatch, "train.train_config", SimpleNamespace(folder=tmp_path))
    given = ["train", str(tmp_path / "x.yaml"), "--graph", "g", "--resume", "--device", "cpu"]
    assert cli.main([*given, "--set", "training.epochs=3", "--set", "model.depth=2"]) == 0
    ((config, graph, out, named),) = calls
    assert (config.training.epochs, config.model.depth, graph, out) == (3, 2, Path("g"), None)
    assert named == {"resume": True, "overwrite": False, "device": "cpu"}


def test_simulate_writes_and_refuses_an_unknown_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", "tiny", "--out", str(tmp_path / "tissue"), "--quiet"]) == 0
    assert (tmp_path / "tissue/truth").is_dir()
    assert cli.main(["simulate", "tinny", "--out", str(tmp_path / "other")]) == 2
    assert "did you mean 'tiny'?" in capsys.readouterr().err


def test_help_of_simulate_lists_every_preset_with_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(CATALOGUE) == set(PRESETS)
    with pytest.raises(SystemExit):
        cli.main(["simulate", "--help"])
    lines = capsys.readouterr().out.splitlines()
    for preset, what in CATALOGUE.items():
        assert [line.split(None, 1)[1] for line in lines if line.split(None, 1)[:1] == [preset]] == [what]


@pytest.mark.parametrize("given", [["simulate", "tiny"], ["demo"]])
def test_where_no_folder_can_be_made_is_named(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*given, "--out", "/proc/nowhere", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert (
        said.startswith("StoreError: /proc/nowhere")
        and "while writing; what was there before is intact; free space or choose another place" in said
    )


def test_question_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = replace(monkeypatch, "ask.query", pd.DataFrame({"x": [1]}))
    assert (
        cli.main(["query", "r", "expression", "--genes", "A, B", "--at", "niche", "--out", str(tmp_path / "a.csv")])
        == 0
    )
    assert cli.main(["query", "r", "similar", "--to-node", "AAAC-1", "--section", "s1", "--n", "5"]) == 0
    assert calls[0] == (Path("r"), "expression", tmp_path / "a.csv", {"genes": ["A, B"], "at": "niche"})
    assert calls[1] == (Path("r"), "similar", None, {"to_node": "AAAC-1", "section": "s1", "n": "5"})


@pytest.mark.parametrize("given", [[], ["--to-niche", "1", "--to-node", "a"]])
def test_similar_to_both_or_neither_exits_2(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["query", "r", "similar", *given]) == 2
    assert "one of --to-niche and --to-node" in capsys.readouterr().err


def test_terminal_table_is_aligned_and_says_what_it_hides(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace(monkeypatch, "ask.query", pd.DataFrame({"niche": range(1000), "share": 0.5}))
    assert cli.main(["query", "r", "composition"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 70 and len({len(line) for line in lines[:20]}) == 1
    assert lines[-1].startswith("1,000 rows")


def test_anndata_answer_shows_annotation_and_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    obs = pd.DataFrame({"niche": ["1", "2"]}, index=["a", "b"])
    replace(monkeypatch, "ask.query", ad.AnnData(np.eye(2), obs=obs, var=pd.DataFrame(index=["G1", "G2"])))
    assert cli.main(["query", "r", "niches"]) == 0
    assert capsys.readouterr().out.split() == ["niche", "G1", "G2", "a", "1", "1.0", "0.0", "b", "2", "0.0", "1.0"]


def test_inspect_as_text_and_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = {"kind": "graph", "nodes": {"cell": 12345}, "faults": ["one", "two"], "anchors": {}}
    replace(monkeypatch, "inspect.inspect", found)
    assert cli.main(["inspect", "x", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found
    assert cli.main(["inspect", "x"]) == 0
    assert capsys.readouterr().out == "kind: graph\nnodes:\n  cell: 12,345\nfaults:\n  one\n  two\nanchors: none\n"


def test_no_gene_between_the_commas_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["query", "r", "expression", "--genes", " , "]) == 2
    assert "query expression · genes: expected symbols, as in ACTA2,CD3E" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--k", "three"], "query niches · k: expected a valid integer, found 'three'"),
        (["--plot", "a.xyz"], "expected .png or .pdf or .svg, found the ending '.xyz'"),
    ],
)
def test_options_are_checked_before_a_run_is_read(
    given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["query", "no run", "niches", *given]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "mend"),
    [
        *((number, "free space") for number in (errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EACCES)),
        *((number, "check the path") for number in (errno.ENOENT, errno.EISDIR, errno.ENAMETOOLONG)),
    ],
)
def test_a_disk_that_refuses_is_no_surprise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, mend: str
) -> None:
    replace(monkeypatch, "demo.demo", OSError(number, os.strerror(number), "runs/demo"))
    assert cli.main(["demo"]) == 2
    said = f"StoreError: runs/demo: {os.strerror(number)}; {mend}, or choose another place\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("verb", "result", "given", "printed"),
    [
        ("demo.demo", Path("runs/demo"), ["demo"], {"run": "runs/demo"}),
        ("build.build", Path("g.zarr"), ["build", "x.yaml"], {"graph": "g.zarr"}),
        ("train.train_config", SimpleNamespace(folder=Path("runs/x")), ["train", "x.yaml"], {"run": "runs/x"}),
        (
            "compare.compare",
            pd.DataFrame({"a": [1.5, np.nan]}),
            ["compare", "a", "b"],
            {"rows": [{"a": 1.5}, {"a": None}]},
        ),
        ("ask.export", Path("x.geojson"), ["export", "r", "--to", "geojson", "--out", "x"], {"out": "x.geojson"}),
        ("ask.query", pd.DataFrame({"x": [1]}), ["query", "r", "neighbours"], {"rows": [{"x": 1}]}),
        ("ask.query", pd.DataFrame({"x": [1]}), ["query", "r", "neighbours", "--out", "a.csv"], {"out": "a.csv"}),
        (
            "ask.query",
            ad.AnnData(np.eye(1), obs=pd.DataFrame({"niche": ["1"]}, index=["s:a"])),
            ["query", "r", "niches"],
            {"rows": [{"node": "s:a", "niche": "1", "gene_0": 1.0}]},
        ),
    ],
)
def test_every_verb_prints_json(
    verb: str,
    result: Any,
    given: list[str],
    printed: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text("task: {name: t}")
    replace(monkeypatch, verb, result)
    assert cli.main([*given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == printed


def test_levels_have_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = replace(monkeypatch, "ask.query", pd.DataFrame({"x": [1]}))
    for question in ("niches", "composition", "expression"):
        assert cli.main(["query", "r", question, "--level", "cell"]) == 0
    assert cli.main(["query", "r", "expression", "--at", "cell"]) == 0
    assert calls[2] == calls[3] and calls[2][-1] == {"at": "cell"}
