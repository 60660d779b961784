"""Expression of a node that was not sequenced: from its state, and straight from what else was seen there."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DirectReadout(nn.Module):
    r"""Mix what the state says of expression with a direct look: pooled cells beneath, or ridge on the tile.

    In :math:`v = \log(1 + c\,\rho)` with :math:`\rho` shares of the molecules concerned and c the level's usual depth,

    .. math:: v_{pg} = o_g + a\,v^{\mathrm{state}}_{pg} + b\,v^{\mathrm{direct}}_{pg}

    With a = 1, b = o = 0, the start, it is what the state says; with a = 0 and b = 1 it is the baseline: pooling cells,
    or ridge from image to expression. Molecules the direct look does not reach keep the state's shares.

    Shapes
    ------
    decoded
        (node, molecule) shares by the state; rows sum to one
    direct
        (node, reached) the direct look, as log1p of scaled shares
    columns
        (reached,) columns of `decoded` it reaches

    References
    ----------
    Kleshchevnikov et al. 2022, doi:10.1038/s41587-021-01139-4 (spots as sums of cells).
    """

    def __init__(self, n_reached: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(n_reached))
        self.state_share = nn.Parameter(torch.ones(()))
        self.direct_share = nn.Parameter(torch.zeros(()))

    def forward(self, decoded: Tensor, direct: Tensor, columns: Tensor, depth: float) -> Tensor:
        """Return shares of all molecules (node, molecule).

        Rows sum to one only about: bringing each to one would spread the error of its few largest over all others.
        """
        state = log_shares(decoded[:, columns], depth)
        mixed = self.offset + self.state_share * state + self.direct_share * direct
        out = decoded.clone()
        out[:, columns] = torch.expm1(mixed.clamp(1e-6, 20.0)) / depth
        return out


def log_shares(values: Tensor, depth: float) -> Tensor:
    """Return ``log1p(depth · values / Σ values)``, row by row."""
    return torch.log1p(depth * values / values.sum(dim=1, keepdim=True).clamp_min(1e-12))
