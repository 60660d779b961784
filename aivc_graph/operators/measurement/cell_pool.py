"""Counts of a spot as the sum over the cells beneath it, for molecules that both measured."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CellPoolMeasurement(nn.Module):
    r"""Expression of a parent from its state and from the pooled counts of its children.

    In :math:`v = \log(1 + c\,\rho)` with :math:`\rho` shares of the shared molecules and c the parent's usual depth,

    .. math:: v_{pg} = o_g + a\,v^{\mathrm{state}}_{pg} + b\,v^{\mathrm{pool}}_{pg}, \qquad
              \rho^{\mathrm{pool}}_p \propto \sum_c w_{pc}\,y_c

    With a = 1 and b = 0, the start, it is what the state says; with a = 0 and b = 1 it is pooling. Invariant to the
    order of children; the molecules that only the parent measured keep the state's shares.

    Shapes
    ------
    decoded
        (parent, molecule) shares of all the parent's molecules
    pooled
        (parent, shared) summed counts of children
    columns
        (shared,) columns of `decoded` that are shared

    References
    ----------
    Kleshchevnikov et al. 2022, doi:10.1038/s41587-021-01139-4 (spots as sums of cells).
    """

    def __init__(self, n_shared: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(n_shared))
        self.state_share = nn.Parameter(torch.ones(()))
        self.pool_share = nn.Parameter(torch.zeros(()))

    def views(self, decoded: Tensor, pooled: Tensor, columns: Tensor, depth: float) -> tuple[Tensor, Tensor]:
        """Return what state and pool say of the shared molecules, both as log1p of scaled shares (parent, shared)."""
        return log_shares(decoded[:, columns], depth), log_shares(pooled, depth)

    def forward(self, decoded: Tensor, pooled: Tensor, columns: Tensor, depth: float) -> Tensor:
        """Return shares of all molecules (parent, molecule); each row keeps its sum."""
        state, pool = self.views(decoded, pooled, columns, depth)
        mixed = torch.expm1((self.offset + self.state_share * state + self.pool_share * pool).clamp(0.0, 20.0)) + 1e-8
        total = decoded[:, columns].sum(dim=1, keepdim=True)
        out = decoded.clone()
        out[:, columns] = mixed / mixed.sum(dim=1, keepdim=True) * total
        return out


def log_shares(values: Tensor, depth: float) -> Tensor:
    """Return ``log1p(depth · values / Σ values)``, row by row."""
    return torch.log1p(depth * values / values.sum(dim=1, keepdim=True).clamp_min(1e-12))
