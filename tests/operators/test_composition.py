"""Composition of a patch from its counts: exactly least squares while shut, and sound with each correction open."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.optimize import nnls

from aivc_graph.graph.tissue_graph import to_torch_csr
from aivc_graph.operators.composition.composition import CompositionProject
from aivc_graph.operators.product import SparseOperator
from tests.operators.parts import composition

TYPES, GENES, PATCHES = 4, 25, 30
SHARES = ("efficiency_share", "variance_share", "calibration_share", "neighbour_share")


@pytest.fixture
def case() -> tuple[CompositionProject, torch.Tensor, np.ndarray, SparseOperator]:
    rng = np.random.default_rng(0)
    profiles = rng.gamma(0.5, 4.0, (TYPES, GENES))
    efficiency = rng.normal(0, 0.6, GENES)
    true = rng.dirichlet(np.full(TYPES, 0.5), PATCHES)
    counts = rng.poisson(20 * (true @ profiles) * np.exp(efficiency)).astype(np.float32)
    operator = composition(TYPES, GENES)
    with torch.no_grad():
        operator.profiles.copy_(torch.from_numpy(profiles))
        operator.log_efficiency.copy_(torch.from_numpy(efficiency))
        operator.log_theta.fill_(5.0)
        operator.calibration.copy_(0.05 * torch.from_numpy(rng.normal(size=(GENES, TYPES))))
    near = SparseOperator.of(to_torch_csr(sparse.random(PATCHES, PATCHES, 0.2, random_state=1, format="csr")))
    return operator, torch.from_numpy(counts), true, near


def open_shares(operator: CompositionProject, **shares: float) -> CompositionProject:
    for name, value in shares.items():
        getattr(operator, name).data.fill_(value)
    return operator


def test_shut_it_is_exactly_non_negative_least_squares(case: tuple) -> None:
    operator, counts, _, near = case
    plain = np.array([nnls(operator.profiles.detach().double().numpy().T, y)[0] for y in counts.double().numpy()])
    expected = plain / plain.sum(axis=1, keepdims=True)
    np.testing.assert_array_equal(operator(counts, near).numpy(), expected.astype(np.float32))
    for share in ("efficiency_share", "variance_share"):
        opened = open_shares(operator, **{share: 1.0})(counts).numpy()
        assert np.abs(opened - expected).max() > 1e-3, share
        open_shares(operator, **{share: 0.0})


def test_known_efficiency_brings_it_nearer_to_the_truth(case: tuple) -> None:
    operator, counts, true, _ = case
    shut = np.abs(operator(counts).numpy() - true).mean()
    assert np.abs(open_shares(operator, efficiency_share=1.0)(counts).numpy() - true).mean() < 0.5 * shut


def test_every_correction_stays_on_the_simplex_and_knows_no_order(case: tuple) -> None:
    operator, counts, _, near = case
    counts[3] = 0.0
    open_shares(operator, **dict.fromkeys(SHARES, 0.5))
    shares = operator(counts, near)
    assert (shares >= 0).all() and (shares[3] == 0).all()
    total = shares.sum(dim=1)
    torch.testing.assert_close(total[counts.sum(dim=1) > 0], torch.ones(PATCHES - 1))
    order = torch.randperm(GENES, generator=torch.Generator().manual_seed(0))
    for name in ("log_efficiency", "log_theta", "centre", "calibration"):
        getattr(operator, name).data = getattr(operator, name).data[order]
    operator.profiles.data = operator.profiles.data[:, order]
    torch.testing.assert_close(operator(counts[:, order], near), shares, atol=1e-5, rtol=1e-5)


def test_neighbours_pull_towards_their_mean(case: tuple) -> None:
    operator, counts, _, _ = case
    pair = SparseOperator.of(to_torch_csr(sparse.csr_matrix(np.ones((2, 2)) - np.eye(2))))
    alone = operator(counts[:2])
    mixed = open_shares(operator, neighbour_share=1.0)(counts[:2], pair)
    torch.testing.assert_close(mixed, alone.flip(0))
