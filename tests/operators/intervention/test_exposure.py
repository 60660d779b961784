"""What of an intervention reaches a node: by hops, at most so many, and sharper where a little is enough."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aivc_graph.operators.intervention.exposure import exposure, sharpened
from aivc_graph.operators.product import SparseOperator, row_mean

N = 30


@pytest.fixture(scope="module")
def line() -> SparseOperator:
    """Return the mean over both neighbours on a line of nodes."""
    dense = torch.zeros(N, N)
    for i in range(N - 1):
        dense[i, i + 1] = dense[i + 1, i] = 1.0
    return SparseOperator.of(row_mean(dense.to_sparse_csr()))


def test_with_nothing_handed_on_it_is_the_mean_of_neighbours(line: SparseOperator) -> None:
    strength = torch.rand(N, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(exposure(strength, line, 0.0, 5), (line @ strength[:, None]).ravel())


@pytest.mark.parametrize("handed_on", [0.0, 0.5, 0.95])
def test_it_is_one_among_the_treated_and_nothing_beyond_its_hops(line: SparseOperator, handed_on: float) -> None:
    torch.testing.assert_close(exposure(torch.ones(N), line, handed_on, 6), torch.ones(N))
    spot = torch.zeros(N)
    spot[15] = 1.0
    found = exposure(spot, line, handed_on, 4)
    assert not found[:11].any() and not found[20:].any()
    assert float(found.sum()) == pytest.approx(1.0, abs=1e-5)  # handed on, not made
    torch.testing.assert_close(found, found.flip(0).roll(1), atol=1e-6, rtol=0)


def test_the_more_is_handed_on_the_farther_it_reaches(line: SparseOperator) -> None:
    spot = torch.zeros(N)
    spot[15] = 1.0
    away = (torch.arange(N) - 15).abs().float()
    reach = [float(exposure(spot, line, a, 10) @ away) for a in (0.0, 0.5, 0.9)]
    assert reach[0] == pytest.approx(1.0) and reach == sorted(reach) and reach[2] > 1.3 * reach[0]


def test_sharpness_keeps_nothing_and_all_where_they_are() -> None:
    near = np.linspace(0, 1, 11)
    np.testing.assert_allclose(sharpened(near, 0.0), near)
    for sharpness in (3.0, 30.0):
        found = sharpened(near, sharpness)
        assert found[0] == 0.0 and found[-1] == pytest.approx(1.0)
        assert (np.diff(found) > 0).all() and (found[1:-1] > near[1:-1]).all()
    assert sharpened(0.1, 30.0) > sharpened(0.1, 3.0) > 0.1
