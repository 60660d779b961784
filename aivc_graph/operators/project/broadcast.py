"""From a parent to its children: broadcasting, and a correction from the child's own state that starts shut."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aivc_graph.operators.product import SparseOperator


class BroadcastProject(nn.Module):
    r"""Mix a child's state with what its parents say.

    .. math:: z_c \leftarrow z_c + s \odot (\bar z_{p(c)} - z_c) + g\,h([z_c, \bar z_{p(c)}])

    with :math:`\bar z_{p(c)}` the overlap-weighted mean over the parents of c. With s = 1 and g = 0 it is broadcasting;
    with s = g = 0, the start, nothing is said. A child without a state of its own takes the broadcast.

    Shapes
    ------
    in
        child (child, latent), parent (parent, latent), overlap (child, parent) with rows summing to one or zero
    out
        (child, latent)
    """

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.zeros(latent))
        self.hidden = nn.Sequential(nn.Linear(2 * latent, 2 * latent), nn.SiLU(), nn.Linear(2 * latent, latent))
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(
        self, child: Tensor, has_state: Tensor, parent: Tensor, overlap: SparseOperator, covered: Tensor
    ) -> Tensor:
        """Return the new state of every child; one without a parent (``covered`` 0) keeps its own."""
        broadcast = overlap @ parent
        own = torch.where((has_state > 0)[:, None], child, broadcast)
        change = self.share * (broadcast - own) + self.gate * self.hidden(torch.cat([own, broadcast], dim=1))
        return own + covered[:, None] * change
