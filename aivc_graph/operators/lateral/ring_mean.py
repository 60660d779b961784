"""Neighbours at the same level: a kernel over rings of neighbours, learned from how well they predict a node."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aivc_graph.operators.product import SparseOperator


class RingMeanLateral(nn.Module):
    r"""Mix a node's own state with a kernel-weighted mean of its neighbours.

    Neighbours sorted by distance form rings; with :math:`m_r` the mean state of ring r, weighted by how well each
    member is known (:math:`k_u`: one with counts of its own, less with features alone, zero if not measured),

    .. math:: c_v = \sum_r w_r\, m_r(v), \qquad
              s_v = \frac{s\,\bar k_v}{s\,\bar k_v + (1 - s)\,k_v}, \qquad
              z_v = u_v + s_v \odot (c_v - u_v) + g\,h([u_v, c_v])

    and :math:`\bar k_v` the mean of k over the neighbours. A node without a state of its own takes :math:`c_v`. With
    s = g = 0 a node keeps its own state; with one ring of k neighbours, w = 1 and s = k/(k+1) it is the mean over k
    neighbours and the node. Invariant to the order of nodes and to moving and rotating the section.

    Parameters
    ----------
    latent
        Size of the state.
    rings
        Number of neighbours up to the end of each ring, such as (6, 18).

    Shapes
    ------
    state
        (node, latent), with `known` (node,) from 0 to 1
    """

    def __init__(self, latent: int, rings: tuple[int, ...]) -> None:
        super().__init__()
        self.rings = rings
        self.ring_weight = nn.Parameter(torch.full((len(rings), 1), 1.0 / len(rings)))
        self.share = nn.Parameter(torch.zeros(latent))
        self.hidden = nn.Sequential(nn.Linear(2 * latent, 2 * latent), nn.SiLU(), nn.Linear(2 * latent, latent))
        self.gate = nn.Parameter(torch.zeros(()))

    def context(self, state: Tensor, known: Tensor, rings: list[SparseOperator]) -> tuple[Tensor, Tensor]:
        """Return the kernel mean of neighbours (node, latent), zero if none is known, and how known they are (node)."""
        means, context_known = ring_means(state, known, rings)
        kernel = (w * m for w, m in zip(self.ring_weight, means, strict=True))
        return sum(kernel, torch.zeros_like(state)), context_known

    def forward(self, state: Tensor, known: Tensor, rings: list[SparseOperator]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the mixed state and the context, both (node, latent), and how known the node is now (node,)."""
        context, context_known = self.context(state, known, rings)
        own = torch.where(known[:, None] > 0, state, context)
        others, itself = self.share * context_known[:, None], (1 - self.share) * known[:, None]
        mixed = own + others / (others + itself).clamp_min(1e-6) * (context - own)
        mixed = mixed + self.gate * self.hidden(torch.cat([own, context], dim=1))
        return mixed, context, torch.where(known > 0, known, context_known)


def ring_means(state: Tensor, known: Tensor, rings: list[SparseOperator]) -> tuple[list[Tensor], Tensor]:
    """Return, a ring, the mean of its members weighted by `known` (node, latent); and the mean of `known` (node,).

    A ring in which nobody is known repeats the ring within.
    """
    padded = torch.cat([state * known[:, None], known[:, None]], dim=1)
    means: list[Tensor] = []
    weight, number = torch.zeros_like(known), torch.zeros_like(known)
    for ring in rings:
        total = ring @ padded
        mean = total[:, :-1] / total[:, -1:].clamp_min(1e-6)
        empty = total[:, -1:] < 1e-6
        means.append(torch.where(empty, means[-1] if means else torch.zeros_like(mean), mean))
        weight, number = weight + total[:, -1], number + ring.forward_csr.crow_indices().diff()
    return means, weight / number.clamp_min(1)


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
