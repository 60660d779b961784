"""An ablation is paired with the model and counts neither as a baseline nor as a model."""

from __future__ import annotations

import dataclasses

import numpy as np

from aivc_graph.evaluation.inversions import inversions_of
from aivc_graph.evaluation.risk import risk_of
from aivc_graph.evaluation.scoring import comparisons_of, judge, results_of, units_of_scores
from aivc_graph.evaluation.settings import EvaluationConfig
from tests.report.full import NOISE, TRUE, task

BARE = task("niches_and_more", "scale", 0.5)
# Better than every rule, worse than the model; and the very model.
ABLATED = dataclasses.replace(
    BARE, ablations={"messages_off": TRUE + 0.51 * np.roll(NOISE, 3, axis=0), "rewired_graph": TRUE + 0.5 * NOISE}
)


def test_it_is_paired_by_the_first_metric_alone() -> None:
    judged = judge([ABLATED])
    found = [one for one in comparisons_of(judged) if one.against == "ablation"]
    assert [(one.metric, one.b) for one in found] == [
        ("pearson_by_gene", "messages_off"),
        ("pearson_by_gene", "rewired_graph"),
    ]
    assert {r.metric for r in results_of(judged) if r.kind == "ablation"} == {"pearson_by_gene"}
    off, same = found
    assert off.lower is not None and off.upper is not None and off.lower < off.difference < off.upper
    assert (same.difference, same.lower, same.upper, same.p_adjusted) == (0, 0, 0, 1)


def test_nothing_else_changes() -> None:
    weights = EvaluationConfig().weights
    bare, with_them = judge([BARE]), judge([ABLATED])
    assert risk_of(bare, weights) == risk_of(with_them, weights)
    assert inversions_of(results_of(bare)) == inversions_of(results_of(with_them))
    assert units_of_scores(bare) == units_of_scores(with_them)
    assert comparisons_of(bare) == [one for one in comparisons_of(with_them) if one.against == "baseline"]
    assert results_of(bare) == [one for one in results_of(with_them) if one.kind != "ablation"]
