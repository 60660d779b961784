"""Sparse products, their transposes and their gradients."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aivc_graph.operators.product import SparseOperator, row_mean, transpose


def _matrix(seed: int, rows: int, columns: int) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.rand(rows, columns) * (torch.rand(rows, columns) > 0.6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(1, 12), st.integers(1, 12))
def test_product_transpose_and_gradient_equal_dense(seed: int, rows: int, columns: int) -> None:
    dense = _matrix(seed, rows, columns)
    operator = SparseOperator.of(dense.to_sparse_csr())
    x = torch.randn(columns, 4, requires_grad=True)
    assert torch.allclose(operator @ x, dense @ x, atol=1e-6)
    assert torch.allclose(transpose(operator.forward_csr).to_dense(), dense.T)
    cotangent = torch.randn(rows, 4)
    (gradient,) = torch.autograd.grad(operator @ x, x, cotangent)
    assert torch.allclose(gradient, dense.T @ cotangent, atol=1e-6)
    assert torch.allclose(operator.t @ torch.ones(rows, 1), dense.T @ torch.ones(rows, 1), atol=1e-6)


def test_row_mean_sums_to_one_and_leaves_empty_rows_empty() -> None:
    dense = _matrix(3, 6, 5)
    dense[2] = 0
    sums = row_mean(dense.to_sparse_csr()).to_dense().sum(1)
    assert torch.allclose(sums, (dense.sum(1) > 0).float())
