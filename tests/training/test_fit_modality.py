"""A modality is told from another at least as well as by ridge, its zero case, and from training cells alone."""

from __future__ import annotations

import numpy as np
import pytest

from aivc_graph.evaluation.baselines.baseline import Scene, run_baselines
from aivc_graph.operators.stacking import shares_of_rules
from aivc_graph.training import fit_modality
from aivc_graph.training.fit_modality import BEFOREHAND, RULES, predict_modality, rules

N, FEATURES, TARGETS = 320, 60, 12


def cells(shape: str, n_donors: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, targets and donors of cells of six states; targets are linear in the state or step with it."""
    rng = np.random.default_rng(seed)
    state = np.eye(6)[rng.integers(0, 6, N)] @ rng.normal(size=(6, 8)) + 0.4 * rng.normal(size=(N, 8))
    x = state @ rng.normal(size=(8, FEATURES)) + rng.normal(size=(N, FEATURES))
    wanted = state @ rng.normal(size=(8, TARGETS))
    y = wanted if shape == "linear" else 4.0 * (np.abs(wanted) > 2.0)
    return x, y + 0.5 * rng.normal(size=y.shape), np.sort(np.arange(N) % n_donors)


def errors(shape: str, n_donors: int) -> dict[str, float]:
    x, y, donor = cells(shape, n_donors)
    train = donor < n_donors - 1
    target = np.where(train[:, None], y, np.nan)
    scene = Scene(target, train, ~train & False, ~train, donor, np.zeros((N, 2)), features=x, comparable=True)
    answers = run_baselines(scene, "modality") | {"model": predict_modality(x, target, train, ~train, donor)}
    return {name: float(((said - y[~train]) ** 2).mean()) for name, said in answers.items()}


@pytest.mark.parametrize("n_donors", [2, 4])
@pytest.mark.parametrize("shape", ["linear", "steps"])
def test_it_is_at_or_below_the_error_of_every_rule(shape: str, n_donors: int) -> None:
    found = errors(shape, n_donors)
    assert set(found) == {"model", "ridge", "kernel_ridge_of_features", "knn_of_features", "global_mean"}
    assert found["model"] <= 1.005 * min(found.values())
    if shape == "steps":
        assert found["model"] < 0.9 * found["ridge"]


def test_without_other_evidence_it_is_ridge(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, donor = cells("steps", 4)
    train = donor < 3
    scene = Scene(y, train, ~train & False, ~train, donor, np.zeros((N, 2)), features=x, comparable=True)
    ridge = run_baselines(scene, "modality")["ridge"]
    monkeypatch.setattr(fit_modality, "FOR_BEFOREHAND", 1e9)
    np.testing.assert_allclose(predict_modality(x, y, train, ~train, donor), ridge, atol=1e-4)


def test_rules_are_those_of_the_baselines() -> None:
    x, y, donor = cells("steps")
    train = donor == 0
    scene = Scene(y, train, ~train & False, ~train, donor, np.zeros((N, 2)), features=x, comparable=True)
    beside = run_baselines(scene, "modality")
    said = dict(zip(RULES, rules(x[train], y[train], x[~train], (1.0, 1.0)), strict=True))
    for rule, baseline in (
        ("kernel ridge", "kernel_ridge_of_features"),
        ("nearest cells", "knn_of_features"),
        ("mean", "global_mean"),
    ):
        np.testing.assert_allclose(said[rule], beside[baseline], atol=1e-9, err_msg=rule)


def test_targets_of_other_cells_are_not_read() -> None:
    x, y, donor = cells("linear", 3)
    train = donor < 2
    one, other = (np.where(train[:, None], y, value) for value in (np.nan, 9.0))
    said = predict_modality(x, one, train, ~train, donor)
    np.testing.assert_array_equal(said, predict_modality(x, other, train, ~train, donor))
    assert predict_modality(x, one, np.arange(N) < 30, ~train, donor) is None


def test_weights_of_rules_are_the_best_shares_and_ties_stay() -> None:
    rng = np.random.default_rng(0)
    said = rng.normal(size=(len(RULES), 500))
    wanted = np.array([0.0, 0.3, 0.0, 0.7, 0.0, 0.0, 0.0])
    found = shares_of_rules(said @ said.T, said @ (wanted @ said), BEFOREHAND)
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    alike = np.ones((len(RULES), len(RULES)))
    np.testing.assert_allclose(shares_of_rules(alike, alike[0], BEFOREHAND), BEFOREHAND, atol=1e-3)
    np.testing.assert_array_equal(shares_of_rules(0 * alike, 0 * alike[0], BEFOREHAND), BEFOREHAND)
