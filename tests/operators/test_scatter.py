"""How far rates lie from what is told of them: found from counts, of molecules alike and unlike, more of few places."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aivc_graph.operators.prediction.scatter import scatter_of

MOLECULES, COUNTS = 40, 150


def drawn(scatter: np.ndarray, nodes: int = 2_000, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what is told of nodes, and counts of rates that lie about it by gamma variances `scatter` (molecule,)."""
    rng = np.random.default_rng(seed)
    told = rng.dirichlet(np.full(MOLECULES, 3.0), nodes)
    rates = told * (rng.gamma(1 / scatter, scatter, told.shape) if scatter.all() else 1.0)
    counts = np.stack([rng.multinomial(COUNTS, one / one.sum()) for one in rates])
    return torch.from_numpy(COUNTS * told), torch.from_numpy(counts.astype(float))


def places(nodes: int, k: int) -> np.ndarray:
    return np.arange(nodes) % k


@pytest.mark.parametrize("true", [0.05, 0.3])
def test_the_scatter_of_rates_is_found(true: float) -> None:
    found = scatter_of(*drawn(np.full(MOLECULES, true)), places(2_000, 200))
    assert float(found.mean()) == pytest.approx(true, rel=0.2)
    assert float(found.std()) < 0.25 * true  # none differs from the others


def test_counting_alone_is_no_scatter() -> None:
    found = scatter_of(*drawn(np.zeros(MOLECULES)), places(2_000, 200))
    assert float(found.max()) < 0.01


def test_molecules_that_differ_are_told_apart() -> None:
    true = np.where(np.arange(MOLECULES) < 10, 0.6, 0.1)
    found = scatter_of(*drawn(true), places(2_000, 200)).numpy()
    assert np.median(found[:10]) > 3 * np.median(found[10:])


def test_few_places_leave_more_open_and_one_says_nothing() -> None:
    told, counts = drawn(np.full(MOLECULES, 0.3), nodes=400)
    by_number = [float(scatter_of(told, counts, places(400, k)).mean()) for k in (2, 4, 40)]
    assert by_number[0] > by_number[1] > by_number[2] > 0.2
    assert scatter_of(told, counts, places(400, 1)).isinf().all()
