"""Questions hold out what they say they do; nobody who answers sees what was measured of the rows asked about."""

from __future__ import annotations

import dataclasses
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from aivc_graph.evaluation.baselines.baseline import run_baselines
from aivc_graph.evaluation.baselines.responses import additive
from aivc_graph.evaluation.responses.asking import Exam, examine, scene_of
from aivc_graph.evaluation.responses.leaks import Leaks
from aivc_graph.evaluation.responses.questions import Question, conditions_of_table, question_of
from aivc_graph.evaluation.responses.table import Responses, responses_of
from aivc_graph.evaluation.scoring import fingerprint, score
from aivc_graph.splits.design import split_design

SINGLES = ("A", "B", "C", "D", "E", "F")
PAIRS = ("A+B", "C+D", "A+X", "X+Y", "Y+Z")
RULES = {
    "no_change",
    "global_mean",
    "context_mean",
    "additive",
    "saturating",
    "bilinear_ridge",
    "kernel_ridge",
    "knn",
    "label_shuffled",
}


def screen(contexts: tuple[str, ...] = ("a", "b"), cells: int = 30, genes: int = 40) -> ad.AnnData:
    rng = np.random.default_rng(0)
    effect = {part: rng.normal(size=genes) * (rng.random(genes) < 0.4) for part in "ABCDEFXYZ"}
    rows, names, lines = [], [], []
    for line in contexts:
        base = np.log(rng.gamma(2.0, 2.0, genes))
        for name in ("ctrl", *SINGLES, *(PAIRS if line == "a" else ())):
            rate = np.exp(base + sum((effect[part] for part in name.split("+") if part in effect), np.zeros(genes)))
            rows.append(rng.poisson(rate, (cells, genes)))
            names += [name] * cells
            lines += [line] * cells
    made = ad.AnnData(
        sparse.csr_matrix(np.concatenate(rows).astype(float)),
        obs=pd.DataFrame({"condition": names, "line": lines}, index=[str(i) for i in range(len(names))]),
    )
    made.var_names = [*"ABCDEF", *(f"G{i}" for i in range(6, genes))]
    return made


def asked_of(table: Responses, kind: str, *within: str, **options: Any) -> Question:
    found = question_of(split_design(kind, **options), table, conditions_of_table(table), within)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def table() -> Responses:
    return responses_of(screen(), "condition", "ctrl", "line")


@pytest.fixture(scope="module")
def questions(table: Responses) -> dict[str, Question]:
    pairs = [asked_of(table, "by_intervention", "a", hold="combination", seen=n, n_test=1) for n in (2, 1, 0)]
    asked = [asked_of(table, "by_intervention", "a", n_test=2), *pairs, asked_of(table, "by_context")]
    return {question.name.removesuffix("_in_a"): question for question in asked}


@pytest.fixture(scope="module")
def exam(table: Responses, questions: dict[str, Question]) -> Exam:
    return examine(table, questions["unseen_combination_2_seen"])


def test_questions_hold_out_what_they_say(table: Responses, questions: dict[str, Question]) -> None:
    assert set(questions) == {
        "unseen_target",
        "unseen_combination_2_seen",
        "unseen_combination_1_seen",
        "unseen_combination_0_seen",
        "unseen_context",
    }
    for question in questions.values():
        for fold in question.folds:
            assert not (fold.train & fold.asked).any() and not (fold.train & table.is_control).any()
            if question.name != "unseen_context":
                names = {table.parts[row] for row in np.flatnonzero(fold.asked)}
                assert not names & {table.parts[row] for row in np.flatnonzero(fold.train)}
    for fold in questions["unseen_target"].folds:
        assert not (table.design[fold.train].any(axis=0) & table.design[fold.asked].any(axis=0)).any()
    for fold in questions["unseen_context"].folds:
        assert not set(table.context[fold.train]) & set(table.context[fold.asked])
    asked = {name: set(table.condition[question.asked]) for name, question in questions.items()}
    assert asked["unseen_combination_2_seen"] == {"A+B", "C+D"}
    assert asked["unseen_combination_1_seen"] == {"A+B", "C+D", "A+X"}
    assert asked["unseen_combination_0_seen"] == set(PAIRS) and asked["unseen_target"] >= set(SINGLES)
    for fold in questions["unseen_combination_0_seen"].folds:
        assert not table.design[fold.train][:, table.design[fold.asked].any(axis=0)].any()
    assert {(one.unit, one.axis) for one in questions.values()} == {
        ("target", "intervention"),
        ("combination", "intervention"),
        ("context", "context"),
    }


def test_no_baseline_reads_what_is_asked(table: Responses, questions: dict[str, Question]) -> None:
    for question in questions.values():
        for fold in question.folds:
            scene = scene_of(table, fold)
            assert np.isnan(scene.target[~fold.train]).all()
            answers = run_baselines(scene, "response")
            assert set(answers) >= RULES - {"context_mean"}
            assert all(np.isfinite(answer).all() and len(answer) == fold.asked.sum() for answer in answers.values())


def test_what_was_measured_of_asked_rows_moves_no_answer(table: Responses, questions: dict[str, Question]) -> None:
    for question in questions.values():
        fold = question.folds[0]
        other = np.where(fold.asked[:, None], table.profile + 1.0, table.profile)
        changed = dataclasses.replace(table, profile=other)
        one, two = (run_baselines(scene_of(given, fold), "response") for given in (table, changed))
        for name in one:
            np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_sum_of_planted_effects_is_told_by_the_additive_rule(exam: Exam) -> None:
    rows, _ = score([exam.scored(exam.answer(lambda table, fold: additive(scene_of(table, fold))))])
    found = {(one.metric, one.predictor): one for one in rows}
    assert found["pearson_delta_profile", "model"].value > 0.8
    assert found["pearson_delta_profile", "model"].value == found["pearson_delta_profile", "additive"].value
    assert found["pearson_delta_profile", "no_change"].value == -1.0
    assert (
        found["pearson_delta_profile", "replicate_full_depth"].value
        > found["pearson_delta_profile", "replicate_half"].value
    )
    assert found["energy_distance", "additive"].value < found["energy_distance", "no_change"].value
    assert found["r2_weighted", "global_mean"].value == 0.0
    assert {one.predictor for one in rows if one.kind == "baseline"} == RULES
    assert {one.unit for one in rows} == {"combination"} and {one.leakage for one in rows} == {0.0}


def test_a_condition_of_one_cell_has_no_replicate_and_is_left_out_of_the_ceilings() -> None:
    given = screen(("a",))
    name = given.obs["condition"].to_numpy()
    drop = np.flatnonzero(name == "A+B")[1:]
    lone = responses_of(given[np.setdiff1d(np.arange(given.n_obs), drop)].copy(), "condition", "ctrl", "line")
    exam = examine(lone, asked_of(lone, "by_intervention", hold="combination", seen=2, n_test=1))
    ceiling = exam.replicates()["replicate_half"]
    assert lone.condition[exam.rows].tolist() == ["A+B", "C+D"] and ceiling.replicated.tolist() == [False, True]
    rows, _ = score([exam.scored(exam.of_profiles(exam.measured.profile))])
    value = {(one.metric, one.predictor): one.value for one in rows}
    one, other = ceiling.pairs[0]
    assert len(other) == len(one.profile) == 1 and value["pearson_delta_profile", "replicate_half"] > 0.8
    assert value["sig_jaccard", "replicate_half"] > 0
    alone = dataclasses.replace(exam, rows=exam.rows[:1], measured=exam.measured.take(np.array([0])))
    assert alone.replicates() == {}


def test_axes_are_fitted_without_the_rows_asked_about(table: Responses, questions: dict[str, Question]) -> None:
    question = questions["unseen_combination_2_seen"]
    asked = question.asked[table.cells.row]
    cells = dataclasses.replace(
        table.cells, x=sparse.csr_matrix(table.cells.x.multiply(np.where(asked, 7.0, 1.0)[:, None]))
    )
    one, two = (examine(given, question).axes for given in (table, dataclasses.replace(table, cells=cells)))
    assert one is not None and two is not None
    np.testing.assert_array_equal(one.weights, two.weights)
    np.testing.assert_array_equal(one.bandwidths, two.bandwidths)


def test_planted_leaks_are_counted(table: Responses, questions: dict[str, Question]) -> None:
    question = questions["unseen_combination_2_seen"]
    assert Leaks(table, question).share == 0.0 and Leaks(table, question).told == []
    fold = question.folds[0]
    open_ = dataclasses.replace(question, folds=(dataclasses.replace(fold, train=fold.train | fold.asked),))
    assert Leaks(table, open_).share == 1.0
    assert Leaks(table, open_).told[0].endswith(" is asked, and trains as A+B in a")
    row = table.cells.row
    asked, trained = np.flatnonzero(fold.asked[row]), np.flatnonzero(fold.train[row])
    order = np.arange(len(row))
    order[asked[0]] = trained[0]
    copied = dataclasses.replace(table, cells=dataclasses.replace(table.cells, x=table.cells.x[order]))
    once = Leaks(copied, dataclasses.replace(question, folds=(fold,)))
    assert (
        once.share == pytest.approx(1 / len(asked), abs=1e-6) and once.told == []
    )  # one cell is no second measurement


def test_what_was_asked_is_known_by_controls_and_cells_too(exam: Exam) -> None:
    asked, measured = fingerprint(exam.measured), exam.measured
    assert fingerprint(dataclasses.replace(measured, profile=measured.profile + 1e-7)) == asked
    for name in ("profile", "control", "reference", "variance"):
        assert fingerprint(dataclasses.replace(measured, **{name: getattr(measured, name) + 0.1})) != asked
    assert fingerprint(dataclasses.replace(measured, space=None)) != asked


def test_a_profile_without_cells_moves_the_controls_cells(exam: Exam) -> None:
    still = exam.of_profiles(exam.measured.control)
    assert still.space is not None and exam.axes is not None and still.differential is not None
    control = exam.axes.of_rows(exam.table.cells, exam.table.control[exam.rows])
    np.testing.assert_allclose(still.space.points[0], control[0], atol=1e-9)
    assert not still.differential.significant.any() and (still.differential.lfc == 0).all()


def test_a_pair_of_two_targets_that_are_held_out_apart_is_asked_in_neither_fold(table: Responses) -> None:
    question = asked_of(table, "by_intervention", "a", n_test=1)
    assert set(table.condition[question.asked]) == set(SINGLES)
    assert len(question.folds) == len(SINGLES)  # X, Y and Z were done in pairs alone
    every = asked_of(table, "by_intervention", "a")
    assert [fold.asked.tolist() for fold in every.folds] == [fold.asked.tolist() for fold in question.folds]


def test_of_a_context_what_trains_elsewhere_is_asked(table: Responses) -> None:
    question = asked_of(table, "by_context")
    assert set(table.condition[question.asked]) == set(SINGLES) and len(question.folds) == 2
    rows, _ = score([examine(table, question).scored(None, no_model="none was asked")])
    assert {(one.unit, one.n_units, one.lower) for one in rows} == {("context", 2, None)}


def test_few_values_are_judged_by_their_errors_and_missing_ones_by_nobody() -> None:
    table = responses_of(screen(("a",))[:, :6].copy(), "condition", "ctrl", "line")
    question = asked_of(table, "by_intervention", hold="combination", seen=2, n_test=1)
    assert examine(table, question).metrics == ("mse_delta", "rmse_delta")
    missing = np.zeros(table.profile.shape, bool)
    missing[np.flatnonzero(question.asked)[0], 2] = True
    effects = dataclasses.replace(table, unmeasured=missing)
    exam = examine(effects, question)
    assert exam.axes is None
    wrong = exam.measured.profile.copy()
    wrong[0, 2] = 99.0
    rows, _ = score([exam.scored(exam.of_profiles(wrong))])
    assert next(one.value for one in rows if one.predictor == "model") == 0.0
    train = question.folds[0].train
    filled = dataclasses.replace(effects, unmeasured=np.eye(len(missing), missing.shape[1], dtype=bool)).learned(train)
    row = int(np.flatnonzero(train)[0])
    assert row < 6 and filled[row, row] == pytest.approx(table.effect[train][1:, row].mean())
