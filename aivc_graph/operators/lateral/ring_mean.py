"""Neighbours at the same level: a kernel over rings of neighbours, learned from how well they predict a node."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aivc_graph.operators.product import SparseOperator


class RingMeanLateral(nn.Module):
    r"""Mix a node's own state with a kernel-weighted mean of its neighbours.

    Neighbours sorted by distance form rings; with :math:`m_r` the mean state of the *measured* neighbours in ring r,

    .. math:: c_v = \sum_r w_r\, m_r(v), \qquad z_v = u_v + s \odot (c_v - u_v) + g\,h([u_v, c_v])

    A node without a state of its own takes :math:`c_v`. With s = g = 0 a node keeps its own state; with one ring of k
    neighbours, w = 1 and s = k/(k+1) it is the mean over k neighbours and the node. Invariant to the order of nodes and
    to moving and rotating the section.

    Parameters
    ----------
    latent
        Size of the state.
    rings
        Number of neighbours up to the end of each ring, such as (6, 18).

    Shapes
    ------
    state
        (node, latent), with `measured` (node,) 1 where a node has a state of its own
    """

    def __init__(self, latent: int, rings: tuple[int, ...]) -> None:
        super().__init__()
        self.rings = rings
        self.ring_weight = nn.Parameter(torch.full((len(rings), 1), 1.0 / len(rings)))
        self.share = nn.Parameter(torch.zeros(latent))
        self.hidden = nn.Sequential(nn.Linear(2 * latent, 2 * latent), nn.SiLU(), nn.Linear(2 * latent, latent))
        self.gate = nn.Parameter(torch.zeros(()))

    def context(self, state: Tensor, measured: Tensor, rings: list[SparseOperator]) -> Tensor:
        """Return the kernel mean of measured neighbours (node, latent); zero where there is none."""
        return sum(
            (w * m for w, m in zip(self.ring_weight, ring_means(state, measured, rings), strict=True)),
            torch.zeros_like(state),
        )

    def forward(self, state: Tensor, measured: Tensor, rings: list[SparseOperator]) -> tuple[Tensor, Tensor]:
        """Return the mixed state and the context, both (node, latent)."""
        context = self.context(state, measured, rings)
        own = torch.where(measured[:, None] > 0, state, context)
        mixed = own + self.share * (context - own)
        return mixed + self.gate * self.hidden(torch.cat([own, context], dim=1)), context


def ring_means(state: Tensor, measured: Tensor, rings: list[SparseOperator]) -> list[Tensor]:
    """Return, a ring, the mean state of its measured members (node, latent); an empty ring repeats the ring within."""
    padded = torch.cat([state * measured[:, None], measured[:, None]], dim=1)
    means: list[Tensor] = []
    for ring in rings:
        total = ring @ padded
        mean = total[:, :-1] / total[:, -1:].clamp_min(1e-6)
        empty = total[:, -1:] < 1e-6
        means.append(torch.where(empty, means[-1] if means else torch.zeros_like(mean), mean))
    return means


def split_rings(adj_t: Tensor, distance_um: Tensor, rings: tuple[int, ...]) -> list[Tensor]:
    """Split a CSR adjacency (target, source) by rank of distance into one CSR per ring, values one.

    Parameters
    ----------
    distance_um
        Edge lengths [µm] in CSR order.
    rings
        Last rank of each ring; neighbours beyond the last ring are left out.
    """
    crow, column = adj_t.crow_indices().long(), adj_t.col_indices()
    row = torch.repeat_interleave(torch.arange(adj_t.shape[0], device=adj_t.device), crow.diff())
    order = torch.argsort(distance_um, stable=True)
    order = order[torch.argsort(row[order], stable=True)]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - crow[row]
    parts, start = [], 0
    for stop in rings:
        inside = (rank >= start) & (rank < stop)
        pointer = torch.zeros(adj_t.shape[0] + 1, dtype=column.dtype, device=adj_t.device)
        pointer[1:] = torch.cumsum(torch.bincount(row[inside], minlength=adj_t.shape[0]), 0)
        ones = torch.ones(int(inside.sum()), device=adj_t.device)
        parts.append(torch.sparse_csr_tensor(pointer, column[inside], ones, size=adj_t.shape, check_invariants=False))
        start = stop
    return parts
