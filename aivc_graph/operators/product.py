"""Sparse–dense products with a cached transpose: what all message passing here is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aivc_graph.graph.tissue_graph import to_scipy_csr, to_torch_csr


@dataclass(frozen=True)
class SparseOperator:
    """A fixed CSR matrix (target, source) and its transpose, so that backward is a product too.

    Parameters
    ----------
    forward_csr, backward_csr
        The matrix and its transpose, both sparse CSR float tensors.
    """

    forward_csr: Tensor
    backward_csr: Tensor

    @classmethod
    def of(cls, csr: Tensor) -> SparseOperator:
        """Return the operator of a CSR tensor (target, source)."""
        return cls(csr, transpose(csr))

    def __matmul__(self, x: Tensor) -> Tensor:
        """Return the product (target, feature) of this matrix with `x` (source, feature)."""
        if torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return self @ x
        return _Product.apply(self.forward_csr, self.backward_csr, x.float())

    def to(self, device: torch.device | str) -> SparseOperator:
        """Return the operator on another device."""
        return SparseOperator(self.forward_csr.to(device), self.backward_csr.to(device))

    @property
    def reached(self) -> Tensor:
        """Who receives any message (target,): 1 or 0."""
        return (self.forward_csr.crow_indices().diff() > 0).float()

    @property
    def t(self) -> SparseOperator:
        """The transposed operator, for messages the other way."""
        return SparseOperator(self.backward_csr, self.forward_csr)


def transpose(csr: Tensor) -> Tensor:
    """Return the transpose of a CSR tensor, again in CSR with sorted columns."""
    n_rows, n_columns = csr.shape
    if csr.device.type == "cpu":
        return to_torch_csr(to_scipy_csr(csr).T)
    crow, column = csr.crow_indices(), csr.col_indices()
    row = torch.repeat_interleave(torch.arange(n_rows, dtype=column.dtype, device=csr.device), crow.diff())
    order = torch.argsort(column, stable=True)
    pointer = torch.zeros(n_columns + 1, dtype=crow.dtype, device=csr.device)
    pointer[1:] = torch.cumsum(torch.bincount(column, minlength=n_columns), 0)
    shape = (n_columns, n_rows)
    return torch.sparse_csr_tensor(pointer, row[order], csr.values()[order], size=shape, check_invariants=False)


def row_mean(csr: Tensor) -> Tensor:
    """Return `csr` with each row divided by its sum; empty rows stay empty."""
    crow = csr.crow_indices()
    total = torch.segment_reduce(csr.values(), "sum", offsets=crow.long(), initial=0.0)
    scale = torch.where(total > 0, 1.0 / total.clamp_min(1e-12), torch.zeros_like(total))
    values = csr.values() * torch.repeat_interleave(scale, crow.diff())
    return torch.sparse_csr_tensor(crow, csr.col_indices(), values, size=csr.shape, check_invariants=False)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, forward_csr: Tensor, backward_csr: Tensor, x: Tensor) -> Tensor:
        ctx.backward_csr = backward_csr
        return torch.sparse.mm(forward_csr, x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, Tensor]:
        return None, None, torch.sparse.mm(ctx.backward_csr, grads[0].contiguous())
