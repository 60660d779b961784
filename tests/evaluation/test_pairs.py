"""Runs are compared on the same units or not at all; differences are found pair by pair, adjusted for their number."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aivc_graph import cli
from aivc_graph.errors import ConfigError
from aivc_graph.evaluation.pairs import compare_evaluations
from aivc_graph.evaluation.records import Evaluation
from tests.report.runs import compared, evaluation, result

NAMES = [f"d{i}" for i in range(12)]
NOISE = np.random.default_rng(0).normal(0, 0.3, 12)
Change = Callable[[dict[str, Any]], Any]


def run(shift: float = 0.0, change: Change | None = None) -> dict[str, Any]:
    """Return an evaluation whose scores by donor vary widely, two runs alike, and one of them `shift` above."""
    facts = {"task": "t", "split": "test", "scale": "cell", "asked": "x", "unit": "donor", "names": NAMES}
    own = NOISE + shift + 0.02 * np.random.default_rng(int(shift * 100)).normal(size=12)
    units = [
        {**facts, "readout": readout, "metric": "pearson", "higher_is_better": True, "values": {"model": list(values)}}
        for readout, values in (("genes", own), ("same", NOISE), ("none", [None] * 12))
    ]
    made = evaluation([result("model", "model", 0.4), result("b", "baseline", 0.3)], [compared("model", "b", 0.1)])
    made |= {"provenance": {"sections": ["s1", "s2"], "split": "test"}, "units": units}
    if change is not None:
        change(made)
    return made


def test_a_difference_smaller_than_what_donors_differ_by_is_found_in_pairs() -> None:
    table = compare_evaluations({"a": Evaluation(**run(0.1)), "b": Evaluation(**run())}).set_index("readout")
    assert table.loc["genes", "difference"] == pytest.approx(0.1, abs=0.02) and table.loc["genes", "lower"] > 0.05
    assert table.loc["genes", "p_adjusted"] < 0.01 and table.loc["genes", "n_units"] == 12
    assert table.loc["same", "difference"] == 0 and table.loc["same", "p_adjusted"] == 1.0
    assert pd.isna(table.loc["none", "difference"]) and table.loc["none", "n_units"] == 0
    assert abs(table.loc["genes", "difference"]) < NOISE.std()


def test_all_pairs_are_adjusted_together() -> None:
    runs = {name: Evaluation(**run(shift)) for name, shift in (("a", 0.1), ("b", 0.0), ("c", 0.01))}
    table = compare_evaluations(runs)
    assert list(zip(table["a"], table["b"], strict=True))[::3] == [("a", "b"), ("a", "c"), ("b", "c")]
    alone = compare_evaluations({"a": runs["a"], "b": runs["b"]})
    assert table["p_adjusted"].iloc[0] > alone["p_adjusted"].iloc[0]


def test_what_only_rounding_tells_apart_is_no_difference() -> None:
    def nudged(made: dict[str, Any]) -> None:
        for unit in made["units"]:
            unit["values"] = {
                who: [None if v is None else v * (1 + 1e-6) for v in of] for who, of in unit["values"].items()
            }

    table = compare_evaluations({"a": Evaluation(**run(0.0, nudged)), "b": Evaluation(**run())}).set_index("readout")
    assert table.loc["genes", "difference"] == 0 and table.loc["genes", "p_adjusted"] == 1.0


def test_few_units_have_a_difference_but_no_p_value() -> None:
    def few(made: dict[str, Any]) -> None:
        for unit in made["units"]:
            unit["names"], unit["values"] = NAMES[:3], {"model": unit["values"]["model"][:3]}

    table = compare_evaluations({"a": Evaluation(**run(0.1, few)), "b": Evaluation(**run(0.0, few))})
    assert table["p_adjusted"].isna().all() and table["lower"].isna().all() and np.isfinite(table["difference"][0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda made: made["provenance"].update(sections=["s1", "s3"]),
            "expected the same sections, found sections s1",
        ),
        (lambda made: made["provenance"].update(split="validation"), "split 'test' and 'validation'"),
        (
            lambda made: [unit.update(names=[*NAMES[:-1], "z"]) for unit in made["units"]],
            "12 donors that are not the same",
        ),
        (
            lambda made: [unit.update(asked="y") for unit in made["units"]],
            "t · genes · pearson: expected the same ones",
        ),
        (lambda made: made.update(units=[]), "no scores by unit in b"),
        (lambda made: [unit.update(task="u") for unit in made["units"]], "no score that both have"),
    ],
)
def test_runs_that_were_asked_different_things_are_refused(change: Change, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        compare_evaluations({"a": Evaluation(**run()), "b": Evaluation(**run(0.1, change))})
    assert said in str(raised.value) and "a and b" in str(raised.value)


@pytest.mark.parametrize("other", [{"asked": "y"}, {"names": [*NAMES[:-1], "z"]}])
def test_one_score_that_was_asked_otherwise_is_left_out_and_told(
    other: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    changed = run(0.1, lambda made: made["units"][0].update(other))
    table = compare_evaluations({"a": Evaluation(**run()), "b": Evaluation(**changed)})
    assert table["readout"].tolist() == ["same", "none"]
    assert "left out, as other things were asked: t · genes · pearson" in caplog.text


def test_all_reasons_are_said_at_once() -> None:
    def change(made: dict[str, Any]) -> None:
        made["provenance"].update(sections=["s9"], split="hidden")

    with pytest.raises(ConfigError, match=r"(?s)sections s1, s2 and s9.*split 'test' and 'hidden'"):
        compare_evaluations({"a": Evaluation(**run()), "b": Evaluation(**run(0.0, change))})


def test_the_command_writes_prints_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, shift in (("a", 0.1), ("b", 0.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "evaluation.json").write_text(json.dumps(run(shift)))
    a, b = str(tmp_path / "a"), str(tmp_path / "b/evaluation.json")
    assert cli.main(["compare", a, b]) == 0 and "p_adjusted" in capsys.readouterr().out
    assert cli.main(["compare", a, b, "--out", str(tmp_path / "d.csv")]) == 0
    table = pd.read_csv(tmp_path / "d.csv")
    assert cli.main(["compare", a, b, "--out", str(tmp_path / "d.json")]) == 0
    rows = json.loads((tmp_path / "d.json").read_text())
    assert len(table) == len(rows) == 3 and rows[0]["difference"] == pytest.approx(table["difference"][0])
    assert rows[2]["difference"] is None
    capsys.readouterr()
    for given, said in (
        ([a], "1 run"),
        ([a, a], "one run twice"),
        ([a, str(tmp_path / "absent")], "absent"),
        ([a, str(tmp_path)], "evaluation.json"),
    ):
        assert cli.main(["compare", *given]) == 2
        assert said in capsys.readouterr().err
