"""Expression of a node that was not sequenced: from its state, and straight from what else was seen there."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from aivc_graph.operators.counts import log_shares
from aivc_graph.operators.prediction.prediction import AbstractPrediction, replaced
from aivc_graph.operators.state import Expected, Inputs, State


class AbstractDirect(AbstractPrediction):
    r"""Mix what the state says of expression with a direct look: pooled cells beneath, or ridge on the tile.

    In :math:`v = \log(1 + c\,\rho)` with :math:`\rho` shares of the molecules concerned and c the level's usual depth,

    .. math:: v_{pg} = o_g + a\,v^{\mathrm{state}}_{pg} + b\,v^{\mathrm{direct}}_{pg}

    With a = 1, b = o = 0, the start, it is what the state says; with a = 0 and b = 1 it is the baseline: pooling cells,
    or ridge from image to expression. Molecules the direct look does not reach keep the state's shares.

    References
    ----------
    Kleshchevnikov et al. 2022, doi:10.1038/s41587-021-01139-4 (spots as sums of cells).
    """

    offset: Tensor
    state_share: Tensor
    direct_share: Tensor

    def start(self, n_reached: int, depth: float) -> None:
        """Begin with what the state says; `depth` [counts] is that of the level."""
        self.depth = depth
        self.hold("offset", torch.zeros(n_reached))
        self.hold("state_share", torch.ones(()))
        self.hold("direct_share", torch.zeros(()))

    @abstractmethod
    def look(self, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
        """Return the look (node, reached) as log1p of scaled shares, its columns (reached,), who has one (node,)."""

    def speaks(self, state: State, inputs: Inputs, *, fitted: bool = True) -> Tensor:
        """Return the nodes that were not counted but have a direct look."""
        return (state.counted[self.target[0]] == 0) & (self.look(inputs)[2] > 0)

    def tell(self, told: Expected, state: State, inputs: Inputs, here: Tensor) -> Expected:
        """Return what is expected, mixed with the direct look where there is one."""
        direct, columns, _ = self.look(inputs)
        return replaced(told, here, self(told.shares, direct, columns), self.depth)

    def forward(self, decoded: Tensor, direct: Tensor, columns: Tensor) -> Tensor:
        """Return shares of all molecules (node, molecule).

        Rows sum to one only about: bringing each to one would spread the error of its few largest over all others.
        """
        state = log_shares(decoded[:, columns], self.depth)
        mixed = self.offset + self.state_share * state + self.direct_share * direct
        out = decoded.clone()
        out[:, columns] = torch.expm1(mixed.clamp(1e-6, 20.0)) / self.depth
        return out
