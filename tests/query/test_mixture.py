"""The mixture of niches: its density, its independence of the start, how many niches it finds, and none in noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import multivariate_normal
from sklearn.metrics import adjusted_rand_score

from aivc_graph.query.mixture import fit_mixture

Floats = NDArray[np.floating[Any]]


def clouds(seed: int, scale: tuple[float, ...] = (0.2, 0.6, 1.0, 2.5, 1.0)) -> tuple[Floats, NDArray[np.int_]]:
    """Return 1500 states in four dimensions around five means, each with a spread of its own, and whose they are."""
    generator = np.random.default_rng(seed)
    means = 6.0 * np.vstack([np.eye(4), -np.ones(4) / 2])
    label = generator.choice(5, 1500, p=[0.35, 0.25, 0.2, 0.15, 0.05])
    spread = np.sqrt(np.array(scale))[label, None]
    return means[label] + spread * generator.normal(size=(1500, 4)), label


def test_the_density_is_that_of_a_gaussian_mixture() -> None:
    x, _ = clouds(0)
    mixture = fit_mixture(x, 3, 1.0, seed=0)
    for i in range(3):
        expected = multivariate_normal(mixture.means[i], mixture.scale[i] * mixture.covariance).logpdf(x)
        np.testing.assert_allclose(mixture.log_density(x)[:, i], np.log(mixture.weight[i]) + expected, rtol=1e-8)
    assert mixture.weight.sum() == pytest.approx(1.0)
    assert (mixture.weight * np.log(mixture.scale)).sum() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_niches_of_unequal_spread_are_found_and_not_split(seed: int) -> None:
    x, label = clouds(seed)
    mixture = fit_mixture(x, None, 1.0, seed=seed)
    assert len(mixture.weight) == 5
    assert adjusted_rand_score(label, mixture.log_density(x).argmax(axis=1)) > 0.97
    assert mixture.scale.max() / mixture.scale.min() == pytest.approx(2.5 / 0.2, rel=0.35)


def test_the_seed_does_not_matter() -> None:
    x, _ = clouds(4)
    answers = [fit_mixture(x, 4, 1.0, seed).log_density(x).argmax(axis=1) for seed in range(3)]
    assert all(adjusted_rand_score(answers[0], answer) > 0.99 for answer in answers)


def test_moving_turning_and_the_unit_do_not_matter() -> None:
    x, _ = clouds(5)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    a = fit_mixture(x, None, 1.0, 0).log_density(x).argmax(axis=1)
    moved = 1000.0 * x @ turn + 5.0
    b = fit_mixture(moved, None, 1.0, 0).log_density(moved).argmax(axis=1)
    assert adjusted_rand_score(a, b) > 0.99


def test_more_resolution_never_gives_fewer_niches() -> None:
    x = np.random.default_rng(0).normal(size=(600, 3)) ** 3  # no number of niches is right
    found = [len(fit_mixture(x, None, resolution, 0, 10.0).weight) for resolution in (0.1, 1.0, 10.0)]
    assert found == sorted(found) and found[0] < found[-1]


@pytest.mark.parametrize("seed", range(4))
def test_neighbourhoods_in_noise_are_one_niche(seed: int) -> None:
    generator = np.random.default_rng(seed)
    kinds = 2.0 * generator.normal(size=(6, 8))  # six kinds of cell, thrown at random
    cells = kinds[generator.integers(0, 6, 1000)] + generator.normal(size=(1000, 8))
    pos = generator.random((1000, 2))
    context = cells[cKDTree(pos).query(pos, k=19)[1][:, 1:]].mean(axis=1)
    assert len(fit_mixture(context, None, 1.0, seed, shared=18.0).weight) == 1
    assert len(fit_mixture(context, None, 1.0, seed, shared=1.0).weight) > 1  # what counting every node would make up
