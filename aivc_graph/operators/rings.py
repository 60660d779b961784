"""Neighbours sorted into rings by distance."""

from __future__ import annotations

import torch
from torch import Tensor


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
    degree = crow.diff()
    row = torch.repeat_interleave(torch.arange(adj_t.shape[0], device=adj_t.device), degree)
    # The bits of a number above zero are ordered as it is: one sort of integers, by row and then by distance.
    order = torch.argsort(row << 32 | distance_um.float().abs().view(torch.int32), stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - crow[row]
    parts, start = [], 0
    for stop in rings:
        inside = (rank >= start) & (rank < stop)
        pointer = torch.zeros(adj_t.shape[0] + 1, dtype=column.dtype, device=adj_t.device)
        pointer[1:] = torch.cumsum(degree.clamp_max(stop) - degree.clamp_max(start), 0)
        ones = torch.ones(int(inside.sum()), device=adj_t.device)
        parts.append(torch.sparse_csr_tensor(pointer, column[inside], ones, size=adj_t.shape, check_invariants=False))
        start = stop
    return parts
