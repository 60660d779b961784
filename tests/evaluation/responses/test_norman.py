"""The figures known of Norman 2019 come out: pairs with both parts seen, 500 genes, by rule and by replicate."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from aivc_graph.evaluation.baselines.responses import additive, saturating
from aivc_graph.evaluation.metrics.metric import metric
from aivc_graph.evaluation.responses import asking
from aivc_graph.evaluation.responses.asking import Exam, conditions_in, examine, scene_of
from aivc_graph.evaluation.responses.questions import Fold
from aivc_graph.evaluation.responses.table import Responses, responses_of
from aivc_graph.evaluation.responses.views import Predicted, Replicates
from aivc_graph.io.h5ad_file import read_anndata
from aivc_graph.operators.intervention.condition_stack import predict_responses
from tests.evaluation.responses.test_asking import asked_of


@pytest.fixture(scope="module")
def exam(data_dir: Path) -> Exam:
    data = read_anndata(data_dir / "norman19-mcfaline23-devel/devel.h5ad")
    return asked_pairs(data[data.obs["cell_type"] == "k562"].copy())


def asked_pairs(data: ad.AnnData) -> Exam:
    table = responses_of(data, "condition", "control", "cell_type")
    return examine(table, asked_of(table, "by_intervention", hold="combination", seen=2, n_test=1), cells=False)


def predict(table: Responses, fold: Fold) -> np.ndarray:
    return predict_responses(conditions_in(table, fold), fold.asked)


def scores(name: str, answer: Predicted | Replicates, exam: Exam) -> np.ndarray:
    n = len(exam.rows)
    sums = metric(name).statistics(answer, exam.measured, np.arange(n), n, np.zeros(n))
    return sums[:, 0] / sums[:, 1]


def test_rules_reach_their_known_scores(exam: Exam) -> None:
    assert exam.table.condition[exam.rows].tolist() == [
        "KLF1+MAP2K6",
        "KLF1+TGFBR2",
        "MAP2K3+MAP2K6",
        "MAP2K3+SLC38A2",
        "MAPK1+TGFBR2",
    ]
    sums, larger = (
        exam.answer(lambda table, fold, rule=rule: rule(scene_of(table, fold))) for rule in (additive, saturating)
    )
    by_pair = scores("pearson_delta_profile", sums, exam)
    np.testing.assert_allclose(by_pair, [0.981, 0.987, 0.727, 0.708, 0.946], atol=1e-3)
    assert by_pair.mean() == pytest.approx(0.870, abs=5e-4)
    assert scores("pearson_delta_profile", larger, exam).mean() == pytest.approx(0.878, abs=5e-4)
    assert 1e3 * scores("mse_delta", sums, exam).mean() == pytest.approx(0.403, abs=1e-3)
    assert 1e3 * scores("mse_delta", larger, exam).mean() == pytest.approx(0.318, abs=1e-3)


def test_the_mean_rule_is_far_below_and_replicates_bound_it(exam: Exam) -> None:
    mean = scores("pearson_delta_profile", exam.baselines()["global_mean"], exam)
    np.testing.assert_allclose([mean.min(), mean.max()], [-0.53, 0.83], atol=0.01)


def test_halves_of_the_cells_agree_as_known(exam: Exam, monkeypatch: pytest.MonkeyPatch) -> None:
    """The known 0.73 to 0.98 is the mean of twenty halvings against the whole control, without any correction.

    One halving varies by about 0.05, so that the five of an evaluation lie within 0.03 of it; a control halved as well
    would give 0.47 to 0.96, and halves brought to full depth 0.84 to 0.99.
    """
    five = scores("pearson_delta_profile", exam.replicates()["replicate_half"], exam)
    monkeypatch.setattr(asking, "HALVINGS", 20)
    found = exam.replicates()
    half, deep = (
        scores("pearson_delta_profile", found[name], exam) for name in ("replicate_half", "replicate_full_depth")
    )
    np.testing.assert_allclose(half, [0.971, 0.981, 0.766, 0.731, 0.943], atol=2e-3)
    assert (round(half.min(), 2), round(half.max(), 2)) == (0.73, 0.98)
    np.testing.assert_allclose(five, half, atol=0.05)
    assert abs(five.mean() - half.mean()) < 0.02
    np.testing.assert_allclose([deep.min(), deep.max()], [0.84, 0.99], atol=0.01)


def test_the_operator_is_ahead_of_the_additive_and_saturating_rules_and_near_bilinear_ridge(exam: Exam) -> None:
    model, rules = exam.answer(predict), exam.baselines()
    for name, better in (("pearson_delta_profile", 1), ("systema_delta", 1), ("mse_delta", -1)):
        own = better * scores(name, model, exam).mean()
        assert all(own > better * scores(name, rules[one], exam).mean() for one in set(rules) - {"bilinear_ridge"})
    # Bilinear ridge is still a little ahead on these five pairs (0.913, 0.273e-3); see benchmarks/results.
    assert scores("pearson_delta_profile", model, exam).mean() == pytest.approx(0.907, abs=2e-3)
    assert 1e3 * scores("mse_delta", model, exam).mean() == pytest.approx(0.276, abs=4e-3)


def test_three_other_lines_that_train_beside_spoil_nothing(data_dir: Path, exam: Exam) -> None:
    beside = asked_pairs(read_anndata(data_dir / "norman19-mcfaline23-devel/devel.h5ad"))
    assert set(beside.table.context) == {"A172", "T98G", "U87MG", "k562"}
    for name in ("pearson_delta_profile", "mse_delta"):
        alone, found = (scores(name, one.answer(predict), one) for one in (exam, beside))
        np.testing.assert_allclose(found, alone, rtol=1e-3)
