"""Intervals of expected expression by niche: of few units they hold as often as they say, and lie around the mean."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from aivc_graph.query.answers import _averaged, _by_a_factor, _by_niche, _half_width


def draw(rng: np.random.Generator, n_units: int, uneven: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return expression (node, gene) of units whose means are skewed about one, and the unit of each node."""
    size = rng.integers(20, 200, n_units) if uneven else np.full(n_units, 60)
    mean = np.repeat(rng.gamma(4, 0.25, (n_units, 30)), size, axis=0)
    return mean + rng.normal(0, 0.3, mean.shape), np.repeat(np.arange(n_units), size)


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("n_units", [5, 8, 20])
def test_the_true_mean_lies_inside_as_often_as_is_said(n_units: int, uneven: bool) -> None:
    rng, inside, half = np.random.default_rng(n_units), [], []
    for _ in range(30):
        values, unit = draw(rng, n_units, uneven)
        wide, n = _half_width(values, unit)
        middle = values.mean(axis=0)
        low, high = _by_a_factor(middle, wide)
        assert n == n_units and (low < middle).all() and (middle < high).all() and (low > 0).all()
        inside.append((low <= 1) & (high >= 1))
        low, high = _by_a_factor(middle, wide / 2)
        half.append((low <= 1) & (high >= 1))
    assert 0.9 < np.mean(inside) < 0.98
    assert np.mean(half) < 0.8


def test_units_of_one_size_are_a_t_interval_of_their_means() -> None:
    values, unit = draw(np.random.default_rng(0), 6, False)
    means = values.reshape(6, 60, -1).mean(axis=1)
    told = stats.ttest_1samp(means, 0).confidence_interval(0.95)
    np.testing.assert_allclose(_half_width(values, unit)[0], (told.high - told.low) / 2)


def test_of_fewer_than_five_units_nothing_is_said_and_of_what_never_varies_no_width() -> None:
    values, unit = draw(np.random.default_rng(0), 4, False)
    wide, n = _half_width(values, unit)
    assert n == 4 and np.isnan(wide).all()
    assert (_half_width(np.ones((10, 2)), np.arange(10))[0] == 0).all()
    np.testing.assert_array_equal(_by_a_factor(np.zeros(2), np.zeros(2)), np.zeros((2, 2)))


def test_niches_without_an_interval_are_named(caplog: pytest.LogCaptureFixture) -> None:
    values, unit = draw(np.random.default_rng(0), 6, False)
    graph: Any = {"section": SimpleNamespace(num_nodes=6), "cell": SimpleNamespace(section_index=torch.tensor(unit))}
    niche = pd.Series(pd.Categorical(np.where(unit < 4, "few", "all")))
    niche[np.arange(len(unit)) % 2 == 0] = "all"
    genes = [f"G{i}" for i in range(30)]
    table = _by_niche(graph, "cell", genes, _averaged(graph, "cell", [], "rna"), values, values, niche)
    told = table.groupby("niche", observed=True)["lower"].agg(lambda one: one.notna().all())
    assert told.to_dict() == {"all": True, "few": False}
    assert [one.message for one in caplog.records] == ["no interval of niche few: fewer than 5 sections hold it"]
