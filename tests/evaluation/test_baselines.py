"""Baselines see what they may and nothing else, and answer what they should on known truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from aivc_graph.evaluation.baselines.baseline import BASELINES, Scene, run_baselines
from aivc_graph.evaluation.leakage import leakage

N = 240


def scene(**changes: object) -> Scene:
    rng = np.random.default_rng(0)
    section = np.repeat([0, 1, 2], N // 3)
    pos = rng.random((N, 2)) * 100
    features = rng.normal(size=(N, 4))
    target = features @ rng.normal(size=(4, 3)) + 0.05 * pos[:, :1] + 5.0
    asked = np.zeros(N, bool)
    asked[200:] = True
    train = section < 2
    made = Scene(target, train, ~asked, asked, section, pos, features)
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("readout", ["expression", "composition", "domains", "distribution"])
def test_no_baseline_reads_the_answer(readout: str) -> None:
    one = scene(counts=np.random.default_rng(1).poisson(5.0, (N, 8)), profiles=np.random.default_rng(2).random((3, 8)))
    if readout == "domains":
        one = replace(one, target=(one.target[:, 0] > 5).astype(int))
        shuffled = one.target.copy()
        shuffled[one.asked] = shuffled[one.asked][::-1]
    else:
        shuffled = np.where(one.asked[:, None], np.nan, one.target)
    answers, again = run_baselines(one, readout), run_baselines(replace(one, target=shuffled), readout)
    assert answers and set(answers) == set(again)
    for name, answer in answers.items():
        np.testing.assert_array_equal(answer, again[name], err_msg=name)
        assert len(answer) == one.asked.sum()


def test_those_that_lack_what_they_need_stay_away() -> None:
    assert set(run_baselines(scene(), "expression")) == {
        "global_mean",
        "context_mean",
        "mean_of_6_neighbours",
        "mean_of_18_neighbours",
        "ridge",
        "kernel_ridge_of_features",
        "knn_of_features",
    }
    assert set(run_baselines(scene(features=None, visible=np.zeros(N, bool)), "expression")) == {"global_mean"}
    for name in BASELINES:
        assert {"answers", "rule"} == set(BASELINES.facts[name]) - {"costly"}


def test_nodes_without_features_teach_nothing_about_features() -> None:
    featured = np.arange(N) % 4 != 0
    one = scene(featured=featured | scene().asked)
    other = replace(one, target=np.where((one.train & ~featured)[:, None], 99.0, one.target))
    answers, again = run_baselines(one, "modality"), run_baselines(other, "modality")
    for name in ("ridge", "kernel_ridge_of_features", "knn_of_features"):
        np.testing.assert_array_equal(answers[name], again[name], err_msg=name)


def test_ridge_recovers_a_linear_rule() -> None:
    one = scene()
    found, truth = run_baselines(one, "expression")["ridge"], one.target[one.asked]
    assert np.corrcoef(found.ravel(), truth.ravel())[0, 1] > 0.7


def test_least_squares_recovers_a_mixture_without_noise() -> None:
    rng = np.random.default_rng(3)
    shares, profiles = rng.dirichlet(np.ones(3), N), rng.random((3, 12)) * 9
    one = scene(target=shares, counts=40 * shares @ profiles, profiles=profiles)
    np.testing.assert_allclose(run_baselines(one, "composition")["nnls"], shares[one.asked], atol=1e-9)


def test_neighbours_find_domains_that_own_states_do_not() -> None:
    rng = np.random.default_rng(4)
    pos = rng.random((N * 3, 2)) * 100
    domain = (pos[:, 0] > 50).astype(int)
    features = 1.0 * domain[:, None] * np.eye(6)[0] + rng.normal(size=(N * 3, 6))
    every = np.ones(N * 3, bool)
    one = Scene(domain, ~every, every, every, np.zeros(N * 3, int), pos, features)
    found = {name: adjusted_rand_score(domain, answer) for name, answer in run_baselines(one, "domains").items()}
    assert found["neighbour_mean_mixture"] > 0.7 > found["own_mixture"] + 0.3


def test_planted_leaks_are_counted() -> None:
    rng = np.random.default_rng(5)
    counts = rng.poisson(2.0, (20, 30))
    donor = np.repeat(["a", "b"], 10)
    train, asked = donor == "a", donor == "b"
    clean = leakage(donor, train, asked, sparse.csr_matrix(counts))
    assert clean == {"donors": 0.0, "duplicates": 0.0, "any": 0.0}
    counts[12] = counts[3]
    assert leakage(donor, train, asked, sparse.csr_matrix(counts))["duplicates"] == 0.1
    donor[15:] = "a"
    assert leakage(donor, train, asked, sparse.csr_matrix(counts)) == {"donors": 0.5, "duplicates": 0.1, "any": 0.6}
