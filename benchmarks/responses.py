"""Responses of Norman 2019 and McFaline-Figueroa 2023 (500 genes): every question, every rule, and the ceilings.

    AIVC_DATA=… python benchmarks/responses.py

Writes ``benchmarks/results/responses.json``: the five pairs with both parts seen one by one, all scores of all
questions, and the operator against the best rule in hindsight with a 95 % interval over conditions. Norman et al. 2019,
doi:10.1126/science.aax4438; subset of Wu et al. 2024, doi:10.48550/arXiv.2408.10609.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
from responses_elsewhere import answers, put, summary
from result_file import write_result

from aivc_graph.config import data_folder
from aivc_graph.evaluation.metrics.metric import metric
from aivc_graph.evaluation.responses.asking import Exam, conditions_in, examine
from aivc_graph.evaluation.responses.questions import Fold
from aivc_graph.evaluation.responses.table import Responses, responses_of
from aivc_graph.evaluation.responses.views import Predicted, Replicates
from aivc_graph.evaluation.scoring import rounded, score
from aivc_graph.operators.intervention.condition_stack import predict_responses

FILE = "norman19-mcfaline23-devel/devel.h5ad"
OUT = Path(__file__).parent / "results" / "responses.json"
OF_NORMAN = {"kind": "by_intervention", "within": ("k562",)}
QUESTIONS: tuple[dict[str, Any], ...] = (
    {**OF_NORMAN, "n_test": 5},
    *({**OF_NORMAN, "hold": "combination", "seen": n, "n_test": 1} for n in (2, 1, 0)),
    {"kind": "by_context"},
)


def main() -> None:
    """Score everything and write the figures."""
    table = responses_of(ad.read_h5ad(data_folder() / FILE), "condition", "control", "cell_type", where=FILE)
    question = put(table, **QUESTIONS[1])
    assert question is not None
    found = {"pairs_with_both_parts_seen": pairs(examine(table, question)), "questions": questions(table)}
    write_result(OUT, found)
    print(json.dumps(found["pairs_with_both_parts_seen"]["mean"], indent=1))


def pairs(exam: Exam) -> dict[str, Any]:
    """Return Pearson delta and squared error of every rule pair by pair, and their means."""
    names = list(exam.table.condition[exam.rows])
    answers: dict[str, Predicted | Replicates] = {
        "model": exam.answer(predict),
        **exam.baselines(),
        **exam.replicates(),
    }
    by_pair: dict[str, Any] = {name: {} for name in names}
    mean: dict[str, Any] = {}
    for predictor, answer in answers.items():
        for judged in ("pearson_delta_profile", "mse_delta"):
            each = scores(judged, answer, exam)
            mean.setdefault(predictor, {})[judged] = rounded(float(np.mean(each)))
            for name, value in zip(names, each, strict=True):
                by_pair[name].setdefault(predictor, {})[judged] = rounded(float(value))
    return {"mean": mean, "by_pair": by_pair}


def scores(judged: str, answer: Predicted | Replicates, exam: Exam) -> np.ndarray:
    """Return the score of each row."""
    n = len(exam.rows)
    sums = metric(judged).statistics(answer, exam.measured, np.arange(n), n, np.zeros(n))
    with np.errstate(invalid="ignore"):
        return sums[:, 0] / sums[:, 1]


def questions(table: Responses) -> dict[str, Any]:
    """Return the scores of everybody on every question, by metric."""
    found: dict[str, Any] = {}
    for question in (put(table, **one) for one in QUESTIONS):
        assert question is not None
        exam = examine(table, question)
        results, _ = score([exam.scored(exam.answer(predict))])
        against = summary(*answers(table, question))
        rows: dict[str, Any] = {}
        found[question.name] = {"conditions": len(exam.rows), "against the best rule": against, "scores": rows}
        for one in results:
            rows.setdefault(one.metric, {})[one.predictor] = [one.value, one.lower, one.upper]
    return found


def predict(table: Responses, fold: Fold) -> np.ndarray:
    """Return what the operator says of a fold (asked, gene)."""
    return predict_responses(conditions_in(table, fold), fold.asked)


if __name__ == "__main__":
    main()
