"""Mixtures of states: their density, independence of the start, the frame and the unit; few states are answered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import multivariate_normal
from sklearn.metrics import adjusted_rand_score

from aivc_graph.query.mixture import coupling_of, fit_mixtures, smoothed

Floats = NDArray[np.floating[Any]]


def clouds(seed: int) -> tuple[Floats, NDArray[np.int_]]:
    """Return 1500 states in four dimensions around five means, and whose they are."""
    generator = np.random.default_rng(seed)
    means = 5.0 * np.vstack([np.eye(4), -np.ones(4) / 2])
    label = generator.choice(5, 1500, p=[0.35, 0.25, 0.2, 0.15, 0.05])
    return means[label] + generator.normal(size=(1500, 4)), label


def parts(x: Floats, k: int, seed: int = 0) -> NDArray[np.int_]:
    return fit_mixtures(x, seed)[k].log_density(x).argmax(axis=1)


def test_the_density_is_that_of_a_gaussian_mixture() -> None:
    x, _ = clouds(0)
    mixture = fit_mixtures(x, 0)[3]
    for i in range(3):
        expected = multivariate_normal(mixture.means[i], mixture.covariance).logpdf(x)
        np.testing.assert_allclose(mixture.log_density(x)[:, i], np.log(mixture.weight[i]) + expected, rtol=1e-8)
    assert mixture.weight.sum() == pytest.approx(1.0) and (np.diff(mixture.weight) <= 0).all()
    np.testing.assert_allclose(mixture.posterior(x).sum(axis=1), 1.0)


@pytest.mark.parametrize("seed", range(3))
def test_the_parts_that_are_there_are_found(seed: int) -> None:
    x, label = clouds(seed)
    assert adjusted_rand_score(label, parts(x, 5, seed)) > 0.97


def test_the_seed_and_the_order_do_not_matter() -> None:
    x, _ = clouds(4)
    order = np.random.default_rng(1).permutation(len(x))
    answers = [parts(x, 4, seed) for seed in range(3)]
    answers.append(parts(x[order], 4)[np.argsort(order)])
    assert all(adjusted_rand_score(answers[0], answer) > 0.99 for answer in answers)


def test_moving_turning_and_the_unit_do_not_matter() -> None:
    x, _ = clouds(5)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    assert adjusted_rand_score(parts(x, 5), parts(1000.0 * x @ turn + 5.0, 5)) > 0.99


def test_few_states_have_few_parts_without_warnings() -> None:  # warnings are errors here
    np.testing.assert_allclose(fit_mixtures(np.array([[1.0, 2.0]]), 0)[1].means, [[1.0, 2.0]])
    states = np.repeat(np.eye(2), 20, axis=0)
    found = fit_mixtures(states, 0)
    part = found[2].log_density(states).argmax(axis=1)
    assert max(found) == 2 and len(set(part[:20])) == len(set(part[20:])) == 1 and part[0] != part[20]


def test_a_field_mends_a_lone_doubt_and_leaves_tissue_without_order_alone() -> None:
    n = 60
    ring = sparse.csr_matrix(sparse.eye_array(n, k=1) + sparse.eye_array(n, k=-1))
    density = np.where(np.arange(n)[:, None] < n // 2, [0.0, -4.0], [-4.0, 0.0])
    density[10] = [-0.4, 0.0]
    coupling = coupling_of(density, ring)
    assert coupling > 0 and smoothed(density, ring, coupling)[10].argmax() == 0
    assert smoothed(density, ring, 0.0)[10].argmax() == 1
    rng = np.random.default_rng(0)
    noise = np.log(rng.dirichlet([1.0, 1.0], n))
    apart = sparse.csr_matrix(sparse.random_array((n, n), density=0.1, rng=rng))
    assert coupling_of(noise, sparse.csr_matrix((n, n))) == 0.0 and coupling_of(noise, apart) <= 1.0
