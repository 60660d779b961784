"""From children to their parent: a linear map of a set summary, and a correction that starts shut."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aivc_graph.operators.product import SparseOperator


class SetSummaryLift(nn.Module):
    r"""State of a parent from the overlap-weighted mean and spread of its children.

    .. math:: \ell_p = M\,\mu_p + g\,h([\mu_p, \sigma_p]), \qquad z_p = u_p + s_p \odot (\ell_p - u_p)

    with :math:`\mu_p, \sigma_p` the overlap-weighted mean and spread of the children's states. M starts as the identity
    and g at zero; s starts at one for a parent that was not measured itself and at zero for one that was: mean pooling
    for the first, nothing for the second. Invariant to the order of children.

    Shapes
    ------
    in
        child (child, latent); parent (parent, latent) with `measured` (parent,); overlap (parent, child), rows summing
        to one
    out
        (parent, latent)
    """

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.map = nn.Parameter(torch.eye(latent))
        self.share = nn.Parameter(torch.zeros(latent))
        self.bare_share = nn.Parameter(torch.ones(latent))
        self.hidden = nn.Sequential(nn.Linear(2 * latent, 2 * latent), nn.SiLU(), nn.Linear(2 * latent, latent))
        self.gate = nn.Parameter(torch.zeros(()))

    def pool(self, child: Tensor, overlap: SparseOperator) -> Tensor:
        """Return what the children say of every parent; zero for one without children."""
        mean = overlap @ child
        spread = (overlap @ child.square() - mean.square()).clamp_min(0).add(1e-6).sqrt()
        return mean @ self.map + self.gate * self.hidden(torch.cat([mean, spread], dim=1))

    def forward(
        self, child: Tensor, parent: Tensor, measured: Tensor, overlap: SparseOperator, covered: Tensor
    ) -> Tensor:
        """Return the new state of every parent; one without children (`covered` 0) keeps its own."""
        lifted = self.pool(child, overlap)
        share = torch.where(measured[:, None] > 0, self.share, self.bare_share)
        return parent + covered[:, None] * share * (lifted - parent)
