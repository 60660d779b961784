"""What features say of a target: ridge at first, and any other rule only where donors left out gain by it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from aivc_graph.operators import feature_map
from aivc_graph.operators.feature_map import NESTED, FeatureMap, own_and_around, said_by_rules, weights_of_rules
from aivc_graph.operators.regressions import gaussian_ridge, nearest_mean
from aivc_graph.operators.ridge import ridge_by_axes

N, F, K = 360, 6, 4


def nodes(shape: str, n_donors: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features beside those around, targets and donors.

    Targets are linear in a node's own features, or in its own and those around it, or step with the size of its own.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, 2 * F))
    known = {"linear": F, "around": 2 * F}.get(shape, 0)
    signal = x[:, :known] @ rng.normal(size=(known, K)) if known else 3.0 * (np.abs(x[:, :K]) > 0.7)
    return x, signal + 0.3 * rng.normal(size=(N, K)), np.arange(N) * n_donors // N


def fitted(x: np.ndarray, y: np.ndarray, donor: np.ndarray, there: np.ndarray | None = None) -> FeatureMap:
    one = FeatureMap(x.shape[1] // 2, len(x), y.shape[1])
    one.fit(x, y, donor, donor, there)
    return one


def told(one: FeatureMap, x: np.ndarray) -> np.ndarray:
    return one(torch.from_numpy(x)).numpy()


def test_linear_targets_stay_with_ridge_bit_for_bit() -> None:
    x, y, donor = nodes("linear")
    one = fitted(x, y, donor)
    np.testing.assert_array_equal(one.share.numpy(), NESTED)
    own = (x - x.mean(axis=0))[:, :F]
    plain = y.mean(axis=0) + own @ ridge_by_axes(own, y - y.mean(axis=0), donor)
    np.testing.assert_allclose(told(one, x), plain, atol=1e-5)
    assert not one.linear[F:].any()


def test_what_lies_around_a_node_is_let_in_where_it_tells() -> None:
    x, y, donor = nodes("around")
    train = donor < 5
    one = fitted(x[train], y[train], donor[train])
    assert one.share[1] > 0.9
    own = said_by_rules(x[train], y[train], donor[train], x[~train])[0]
    error = [float(((a - y[~train]) ** 2).mean()) for a in (told(one, x[~train]), own)]
    assert error[0] < 0.2 * error[1]
    dealt = np.column_stack([x[:, :F], np.random.default_rng(1).permutation(x[:, F:])])
    assert fitted(dealt[train], y[train], donor[train]).share[1] < 0.3


def test_features_around_are_the_mean_of_neighbours_that_have_any() -> None:
    near = torch.tensor([[0.0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    own, mask = torch.tensor([[1.0], [2.0], [4.0], [8.0]]), torch.tensor([1.0, 1.0, 1.0, 0.0])
    data = SimpleNamespace(standard=own, mask=mask)
    inputs: Any = SimpleNamespace(measured=lambda level, kind: data, rings=lambda level: [near, torch.ones(4, 4)])
    x, seen = own_and_around(inputs, "patch", ["histology"])
    assert x.tolist() == [[1, 3], [2, 1], [4, 0], [8, 0]] and seen.tolist() == [True, True, True, False]
    inputs.rings = lambda level: []
    assert own_and_around(inputs, "patch", ["histology"])[0][:, 1].tolist() == [0, 0, 0, 0]


def test_steps_are_told_by_neighbours_and_kernel_better_than_by_ridge() -> None:
    x, y, donor = nodes("steps")
    train = donor < 5
    one = fitted(x[train], y[train], donor[train])
    assert one.share[0] < 0.3 and abs(float(one.share.sum()) - 1) < 1e-5
    said = said_by_rules(x[train], y[train], donor[train], x[~train])
    error = [float(((a - y[~train]) ** 2).mean()) for a in (told(one, x[~train]), *said)]
    assert error[0] < 0.8 * error[1] and error[0] < 1.02 * min(error[1:])


def test_each_rule_is_that_of_the_list_of_baselines() -> None:
    x, y, donor = nodes("steps")
    x = x - x[:300].mean(axis=0)
    *_, kernel, nearest, mean = said_by_rules(x[:300], y[:300], donor[:300], x[300:])
    own = x[:, :F]
    np.testing.assert_allclose(kernel, gaussian_ridge(own[:300], y[:300], own[300:], (1.0,))[0], atol=1e-8)
    np.testing.assert_allclose(nearest, nearest_mean(own[:300], y[:300], own[300:]), atol=1e-8)
    np.testing.assert_allclose(mean, np.broadcast_to(y[:300].mean(axis=0), mean.shape))


@pytest.mark.parametrize("n_donors", [1, 2, 3])
def test_fewer_than_four_donors_open_nothing(n_donors: int) -> None:
    x, y, donor = nodes("steps", n_donors)
    np.testing.assert_array_equal(weights_of_rules(x, y, donor, donor), NESTED)


def test_what_helps_within_donors_alone_opens_nothing() -> None:
    """Each donor steps its own way: neighbours of the same donor would tell, and those are left out."""
    x, y, donor = nodes("steps")
    x = np.column_stack([x[:, :2], 5.0 * np.eye(6)[donor], np.zeros((N, 8))])
    y = y[:, :2] * np.where(donor % 2, 1.0, -1.0)[:, None]
    assert weights_of_rules(x, y, donor, donor)[3] < 0.05
    within = np.arange(N) % 6
    assert weights_of_rules(x, y, within, within)[3] > 0.5


def test_targets_that_some_did_not_measure_are_told_by_ridge_alone() -> None:
    x, y, donor = nodes("steps")
    there = np.ones(y.shape, bool)
    there[:120, 0] = False
    one = fitted(x, np.where(there, y, 0.0), donor, there)
    np.testing.assert_array_equal(one.share.numpy(), NESTED)
    rows = there[:, 0]
    alone = ridge_by_axes((x[rows] - x.mean(axis=0))[:, :F], y[rows, :1] - y[rows, :1].mean(axis=0), donor[rows])
    np.testing.assert_allclose(one.linear[:F, :1].numpy(), alone, atol=1e-5)


def test_too_few_nodes_are_not_learned_from() -> None:
    x, y, donor = nodes("linear")
    one = fitted(x[:30], y[:30], donor[:30])
    assert not one.fitted and not told(one, x).any()


def test_many_asked_at_once_are_told_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, donor = nodes("steps")
    one = fitted(x, y, donor)
    whole = told(one, x)
    monkeypatch.setattr(feature_map, "MOST_AT_ONCE", 7)
    np.testing.assert_allclose(told(one, x), whole, atol=1e-6)
