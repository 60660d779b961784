"""Rank sums on sparse cells are those of scipy, ties and all; discoveries are those of Benjamini and Hochberg."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import false_discovery_control, mannwhitneyu

from aivc_graph.evaluation.responses.cells import Cells
from aivc_graph.evaluation.responses.differential import RankSums, differential_of, discoveries, told_by_profile

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("sparsity", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("whole", [True, False])
def test_rank_sums_are_those_of_scipy(sparsity: float, whole: bool) -> None:
    control, group = RNG.poisson(sparsity, (37, 25)).astype(float), RNG.poisson(sparsity * 1.4, (23, 25)).astype(float)
    if not whole:  # cells of unequal depth: fewer ties
        control, group = control / RNG.integers(1, 4, (37, 1)), group / RNG.integers(1, 4, (23, 1))
    control[:, 3] = group[:, 3] = 0.0
    group[:, 4] = 0.0
    control[:, 5] = 0.0
    z, p = RankSums(sparse.csr_matrix(control)).test(sparse.csr_matrix(group))
    for g in range(25):
        if g == 3:
            assert (z[g], p[g]) == (0.0, 1.0)
            continue
        expected = mannwhitneyu(group[:, g], control[:, g], method="asymptotic")
        assert p[g] == pytest.approx(expected.pvalue, rel=1e-9)
        assert z[g] == 0.0 if p[g] == 1.0 else np.sign(z[g]) == np.sign(expected.statistic - 37 * 23 / 2)


def test_discoveries_are_those_of_scipy() -> None:
    p = np.r_[RNG.random(80), RNG.random(20) * 1e-3]
    np.testing.assert_array_equal(discoveries(p), false_discovery_control(p) < 0.05)
    assert not discoveries(np.ones(5)).any() and discoveries(np.zeros(0)).shape == (0,)


def test_planted_genes_are_called_and_hardly_any_other() -> None:
    rate = np.full((3, 200), 2.0)
    rate[1, :4] *= 3
    x = np.concatenate([RNG.poisson(rate[k], (150, 200)) for k in range(3)])
    cells = Cells(sparse.csr_matrix(x.astype(float)), np.repeat([0, 1, 2], 150), True)
    found = differential_of(cells, np.array([1, 2]), np.array([0, 0]))
    assert found.significant[0, :4].all() and found.significant[0, 4:].mean() < 0.05
    assert not found.significant[1].any()
    share = x[150:300, 0].sum() / x[150:300].sum() / (x[:150, 0].sum() / x[:150].sum())
    assert found.lfc[0, 0] == pytest.approx(np.log2(share), abs=0.1)


def test_a_profile_calls_what_stands_out_at_the_number_of_cells() -> None:
    control, variance = np.full((2, 30), 5.0), np.full((2, 30), 0.01)
    said = control.copy()
    said[:, 0] += 1.0
    tested = np.ones((2, 30), bool)
    found = told_by_profile(said, control, variance, np.array([100.0, 100.0]), np.array([100.0, 1.0]), tested)
    assert found.significant.sum(axis=1).tolist() == [1, 0] and found.significant[0, 0]
    assert found.lfc[0, 0] == pytest.approx(1 / np.log(2), abs=0.02)
