"""Expression of a node that was not sequenced, straight from the counts of its neighbours."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aivc_graph.operators.product import SparseOperator


class NeighbourReadout(nn.Module):
    r"""Mix what is said of a node otherwise with the mean of its visible neighbours, molecule by molecule.

    The state knows neighbours by a few components alone; what one molecule does beside these only its own counts tell.
    In :math:`v = \log(1 + c\,y/\ell)`, with weight :math:`w_r` for each visible neighbour u in ring r,

    .. math::

        \bar v_{pg} = \frac{\sum_r w_r \sum_{u \in r(p)} v_{ug}}{\sum_r w_r n_r(p)}, \qquad
        v_{pg} = o_g + f_g\,(a\,v^{\mathrm{said}}_{pg} + b\,\bar v_{pg})

    With a = f = 1, b = o = 0, the start, it is what was said already. With a = 0, b = 1 it is the mean of neighbours:
    those of the first ring for w = (1, 0, …), all of them for w = (1, 1, …). Invariant to the order of nodes and to
    moving and rotating the section. Counts are negative binomial around it as in `NegativeBinomialMeasurement`, with a
    dispersion of their own: less is known of such a node than of one that was counted.

    Parameters
    ----------
    n_molecules
        Size of the panel.
    n_rings
        Number of rings of neighbours.

    Shapes
    ------
    said, mean
        (node, molecule), log1p of scaled counts

    References
    ----------
    Fan & Gijbels 1996, Local Polynomial Modelling and Its Applications (the kernel mean is the local constant fit).
    """

    def __init__(self, n_molecules: int, n_rings: int) -> None:
        super().__init__()
        self.ring_weight = nn.Parameter(torch.ones(n_rings))
        self.said_share = nn.Parameter(torch.ones(()))
        self.neighbour_share = nn.Parameter(torch.zeros(()))
        self.factor = nn.Parameter(torch.ones(n_molecules))
        self.offset = nn.Parameter(torch.zeros(n_molecules))
        self.log_rate = nn.Parameter(torch.zeros(n_molecules))
        self.log_dispersion = nn.Parameter(torch.zeros(n_molecules))

    def mean(self, sums: list[Tensor], numbers: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the mean of visible neighbours (node, molecule), and who has any (node,), from `ring_sums`."""
        total = sum((w * s for w, s in zip(self.ring_weight, sums, strict=True)), torch.zeros_like(sums[0]))
        weight = sum((w * n for w, n in zip(self.ring_weight, numbers, strict=True)), torch.zeros_like(numbers[0]))
        return total / weight.clamp_min(1e-6)[:, None], weight > 1e-6

    def forward(self, said: Tensor, mean: Tensor) -> Tensor:
        """Return expected log1p of scaled counts (node, molecule)."""
        return self.offset + self.factor * (self.said_share * said + self.neighbour_share * mean)

    def shares(self, expected: Tensor, depth: float) -> Tensor:
        """Return the shares of molecules (node, molecule) that go with an expected logarithm; rows sum to about one.

        A mean of logarithms says less than the logarithm of the mean: `log_rate` makes up for it on average.
        """
        return self.log_rate.exp() * torch.expm1(expected.clamp(1e-6, 20.0)) / depth


def ring_sums(
    scaled: SparseOperator, visible: Tensor, rings: list[SparseOperator]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return, a ring, the sum over its visible members (node, molecule), and their number (node,).

    Parameters
    ----------
    scaled
        log1p of scaled counts (node, molecule).
    visible
        Whose counts may be looked at (node,), 1 or 0; a node without a single count says nothing.
    rings
        Neighbours of each ring (node, node).
    """
    visible = visible * (scaled.forward_csr.crow_indices().diff() > 0)
    values = scaled.forward_csr.to_dense() * visible[:, None]
    return [ring @ values for ring in rings], [(ring @ visible[:, None]).ravel() for ring in rings]
