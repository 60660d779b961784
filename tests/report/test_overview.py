"""The evaluation at a glance: marks lie where the numbers say, and what has no number says why."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aivc_graph.evaluation.records import Evaluation
from aivc_graph.evaluation.risk import risk_of
from aivc_graph.evaluation.scoring import judge, results_of
from aivc_graph.evaluation.settings import EvaluationConfig
from aivc_graph.report.overview import WIDTH, Mark, overview_of, place
from aivc_graph.report.words import plural
from tests.report.full import full_evaluation, task
from tests.report.runs import SCORES


@pytest.fixture(scope="module")
def found() -> Evaluation:
    return full_evaluation()


def marks_of(found: Evaluation) -> list[Mark]:
    return [mark for group in overview_of(found)["groups"] for mark in (*group.shown, *group.folded)]


def test_marks_lie_between_the_mean_rule_and_the_ceiling(found: Evaluation) -> None:
    overview = overview_of(found)
    label = "expression from the image, error in log expression (RMSE)"
    good = next(m for m in marks_of(found) if m.label == label and "far off" not in m.readout)
    ticks = overview["ticks"]
    assert ticks["mean rule"] < good.rule < good.lower <= good.model <= good.upper < ticks["ceiling"]
    assert "model 0.8" in good.said and "best baseline 0.6" in good.said and good.beyond == 0


def test_the_first_scores_of_a_task_are_drawn_and_the_rest_is_folded() -> None:
    judged = judge([task(name, "modality", 0.2, readout=f"r{i}") for name in "ab" for i in range(3)])
    scores = {"risk": risk_of(judged, EvaluationConfig().weights), "results": tuple(results_of(judged))}
    one = full_evaluation().model_copy(update=scores)
    groups = overview_of(one)["groups"]
    assert [(group.task, len(group.shown), len(group.folded)) for group in groups] == [("a", 4, 2), ("b", 4, 2)]
    # Every readout is seen before the second score of any.
    assert [mark.readout.split(";")[0] for mark in groups[0].shown] == ["r0", "r1", "r2", "r0"]


def test_what_lies_beyond_the_picture_is_an_arrow(found: Evaluation) -> None:
    far = next(m for m in marks_of(found) if "far off" in m.readout)
    assert far.beyond == -1 and far.model == place(-99) and "model −4.74, 95 % interval −5.31" in far.said


@settings(deadline=None)
@given(st.floats(-1e9, 1e9))
def test_every_place_is_inside_the_picture(scaled: float) -> None:
    assert 0 < place(scaled) < WIDTH
    assert place(scaled) <= place(scaled + 1.0)


def test_what_has_no_scale_says_why_and_axes_not_run_say_so(found: Evaluation) -> None:
    overview = overview_of(found)
    ((reason, which),) = overview["unscaled"]
    assert (
        reason == "nobody measured it twice"
        and "expression from surroundings, error in log expression (RMSE) (genes)" in which
    )
    rows = {row["axis"]: row for row in overview["axes"]}
    assert rows["intervention"]["reason"] == "not evaluated" and rows["intervention"]["value"] is None
    assert rows["context"]["value"] is None and rows["context"]["reason"] == "nobody measured it twice"
    assert rows["scale"]["lower"] < rows["scale"]["value"] < rows["scale"]["upper"]
    assert (
        overview["total"]["worst"]["axis"] == "modality" and overview["total"]["weights"] == "modality 0.50, scale 0.50"
    )


def test_leakage_calibration_and_inversions_are_told_in_words(found: Evaluation) -> None:
    overview = overview_of(found)
    leaks = dict(overview["leaks"])
    assert leaks["patches whose group was trained on too"] == "donor 0%, site 100%"
    assert leaks["patches: share of all likeness that lies across the split"] == "0.21, by chance 0.33"
    assert leaks["patches: how much better a random split would have looked, by place"] == "−0.19"
    assert not any("profile" in what for what in leaks)
    few, enough = overview["calibration"]
    assert "hold 97% of what was measured, 91% in the donor" in few and "insufficient groups" in few
    assert "Widened by the other donors they hold 90%, at worst 80%." in enough
    row = next(r for r in overview["inversions"] if r["task"] == "niches and more")
    assert row["error"] == "error in log expression (RMSE) (genes)" and row["such_as"].startswith("shifted over ")


def test_an_evaluation_of_bare_scores_has_no_marks() -> None:
    overview = overview_of(Evaluation(**SCORES))
    assert overview["groups"] == [] and overview["total"] is None and overview["inversions"] == []
    assert [row["reason"] for row in overview["axes"]] == ["not evaluated"] * 4


def test_more_than_one() -> None:
    assert [plural(2, word) for word in ("cell", "patch", "donor")] == ["cells", "patches", "donors"]
