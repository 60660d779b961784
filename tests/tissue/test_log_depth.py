"""Logarithms say at what depth they were taken."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from aivc_graph.tissue.log_depth import log_depth


def _logs(depth: float, seed: int = 0) -> np.ndarray:
    counts = np.random.default_rng(seed).poisson(2.0, (40, 30)) + 1
    return np.log1p(depth * counts / counts.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_a_stated_depth_differs_by_a_tenth(kind: type) -> None:
    own = log_depth(kind(_logs(10_000)))
    assert own is not None and own.stated and own.total == pytest.approx(10_000)
    for depth, agrees in ((10_500, True), (11_500, False), (3_000, False)):
        other = log_depth(kind(_logs(depth, 1)))
        assert other is not None and other.agrees(own) == own.agrees(other) == agrees


def test_without_a_stated_depth_half_as_much_is_near() -> None:
    part = log_depth(_logs(10_000)[:, :20])
    whole = log_depth(_logs(10_000))
    assert part is not None and whole is not None and not part.stated and part.agrees(whole) == (part.total > 6_667)
    assert log_depth(_logs(10_000) / np.log(2)).agrees(whole) is False
    assert log_depth(np.zeros((3, 2))) is None
