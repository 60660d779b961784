"""The page says of each question whether the graph helps, by the interval that is hardest to pass."""

from __future__ import annotations

from typing import Any

import pytest

from aivc_graph.evaluation.records import Evaluation
from aivc_graph.report.ablations import ablations_of
from aivc_graph.report.page import render
from tests.report.runs import SCORES, compared, evaluation, result


def told(off: tuple[float, float | None], rewired: tuple[float, float | None], higher: bool = True) -> Any:
    """Return the one question of a run, from differences of scores and half their intervals."""
    results = [result("model", "model", 0.4), result("ridge", "baseline", 0.1)]
    pairs = [("ridge", 0.3, 0.01, "baseline")]
    pairs += [("messages_off", *off, "ablation"), ("rewired_graph", *rewired, "ablation")]
    same = {"higher_is_better": higher}
    content = evaluation(
        [{**one, **same} for one in results], [compared("model", b, d, h, against=of, **same) for b, d, h, of in pairs]
    )
    found = ablations_of(Evaluation(**content))
    assert found is not None
    (question,) = found["questions"]
    return question


@pytest.mark.parametrize(
    ("off", "rewired", "verdict", "rests_on"),
    [
        ((0.2, 0.1), (0.03, 0.02), "yes", " (+0.030 [+0.010, +0.050] over rewired graph)"),
        ((0.2, 0.1), (0.03, 0.04), "not shown", " (+0.030 [−0.010, +0.070] over rewired graph)"),
        ((-0.2, 0.1), (0.03, 0.02), "no, it hurts", " (−0.200 [−0.300, −0.100] over messages off)"),
        ((0.2, None), (0.03, 0.02), "too few units to tell", " (+0.030 [+0.010, +0.050] over rewired graph)"),
        ((0.0, 0.0), (0.0, 0.0), "no effect", " (the answer is the same without it)"),
        ((0.0, 0.0), (0.03, 0.02), "not shown", " (+0.000 [+0.000, +0.000] over messages off)"),
    ],
)
def test_the_hardest_of_both_decides(off: Any, rewired: Any, verdict: str, rests_on: str) -> None:
    found = told(off, rewired)
    assert (found.verdict, found.rests_on) == (verdict, rests_on)


def test_less_is_more_where_the_score_is_an_error() -> None:
    found = told((-0.2, 0.1), (-0.03, 0.02), higher=False)
    assert found.verdict == "yes" and found.rests_on == " (+0.030 [+0.010, +0.050] over rewired graph)"
    assert found.over_baseline.said == "−0.300" and found.baseline == "ridge"


def test_a_run_asked_without_ablations_has_no_table() -> None:
    assert ablations_of(Evaluation(**SCORES)) is None


def test_what_was_not_asked_is_told_on_the_page() -> None:
    results = [result("model", "model", 0.4), result("ridge", "baseline", 0.1)]
    results += [{**one, "task": "distribution"} for one in results]
    comparisons = [compared("model", "ridge", 0.3), compared("model", "messages_off", 0.2, against="ablation")]
    comparisons.append(compared("model", "ridge", 0.3, task="distribution"))
    content = evaluation(results, comparisons) | {
        "provenance": {"ablations": {"features_only": "not asked: no <features>", "messages_off": "all messages"}}
    }
    found = ablations_of(Evaluation(**content))
    assert found is not None and found["columns"] == ["messages_off"] and found["others"] == "distribution"
    page = render("ablations.html", ablations=found)
    assert "Features only: not asked: no &lt;features&gt;" in page and "Not ablated: distribution" in page


def test_a_prior_helps_where_it_beats_itself_rewired_shuffled_and_taken_away() -> None:
    results = [result("model", "model", 0.4), result("ridge", "baseline", 0.1)]
    gains = {"prior_rewired": 0.2, "prior_shuffled": 0.02, "prior_none": 0.3}
    comparisons = [compared("model", "ridge", 0.3, 0.01)]
    comparisons += [compared("model", name, gain, 0.05, against="ablation") for name, gain in gains.items()]
    found = ablations_of(Evaluation(**evaluation(results, comparisons)))
    assert found is not None and found["columns"] == list(gains)
    assert found["questions"][0].verdict == "not shown" and "over prior shuffled" in found["questions"][0].rests_on
    page = render("ablations.html", ablations=found)
    assert "What is known of genes helps" in page and "Over prior none" in page
