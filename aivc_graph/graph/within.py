"""Which finer node lies in which coarser one, and by how much of itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import chndtr

Floats = NDArray[np.floating[Any]]
# Of places with an error: how far it is looked for a parent, the least share that is kept, and over how many radii.
FARTHEST_SIGMAS, LEAST_SHARE, RADII = 3.0, 1e-3, 8


def overlap_with_discs(
    pos_um: Floats,
    size_um: Floats,
    parent_um: Floats,
    parent_size_um: Floats,
    reach_um: float = 0.0,
    sigma_um: float = 0.0,
) -> sparse.csr_matrix:
    r"""Return (parent, child): the share of each child's width that lies inside a round parent such as a capture spot.

    The overlap of two discs is taken along the line between their centres, so a child on a border counts in part and a
    child between the spots not at all. With a reach the share falls from one to zero over that much more. Where places
    are known with a standard error `sigma_um` along each axis, it is the mean over where the child may lie: the share
    is the mean over radii r of whether its centre lies within r, and

    .. math:: P(|d + \varepsilon| < r) = F_{\chi^2_2(d^2/\sigma^2)}(r^2 / \sigma^2)

    the noncentral chi-squared distribution. Shares below one in a thousand are left out.
    """
    from scipy.spatial import cKDTree

    farthest = float(parent_size_um.max() + size_um.max()) / 2 + reach_um + FARTHEST_SIGMAS * sigma_um
    pairs = cKDTree(parent_um).sparse_distance_matrix(cKDTree(pos_um), farthest, output_type="coo_matrix")
    parent, child, distance = pairs.row, pairs.col, pairs.data
    width = np.maximum(size_um[child], 1e-6)
    edge = (parent_size_um[parent] + width) / 2 + reach_um
    if sigma_um:
        share = _mean_share(distance, edge, width + reach_um, sigma_um)
    else:
        share = np.clip((edge - distance) / (width + reach_um), 0.0, 1.0)
    keep = share > (LEAST_SHARE if sigma_um else 0)
    shape = (len(parent_um), len(pos_um))
    return sparse.csr_matrix((share[keep].astype(np.float32), (parent[keep], child[keep])), shape=shape)


def _mean_share(distance: Floats, edge: Floats, ramp: Floats, sigma_um: float) -> Floats:
    """Return the mean share of children at `distance`, where it falls from one to zero over a `ramp` up to `edge`."""
    nodes, weights = np.polynomial.legendre.leggauss(RADII)
    share = np.zeros(len(distance))
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        radius = np.maximum(edge - node * ramp, 0.0)
        share += weight * chndtr((radius / sigma_um) ** 2, 2, (distance / sigma_um) ** 2)
    return share


def overlap_with_grid(
    pos_um: Floats, size_um: Floats, edge_um: float, group: NDArray[np.integer[Any]]
) -> tuple[sparse.csr_matrix, NDArray[np.int64], NDArray[np.int64]]:
    """Lay a square grid of `edge_um` over the children of each group (section and split) and share them out.

    Returns
    -------
    overlap
        CSR (window, child): share of the child's area, as a square of its width, in each window; columns sum to one.
    windows
        ``(window, 3)``: group, column and row of each window that some child's centre lies in.
    home
        ``(child,)``: the window of each child's centre.
    """
    cell = np.floor(pos_um / edge_um).astype(np.int64)
    keys = np.column_stack([group.astype(np.int64), cell])
    windows, home = np.unique(keys, axis=0, return_inverse=True)
    home = home.reshape(-1)
    rows, columns, shares = [], [], []
    half = np.clip(size_um, 2e-3, edge_um)[:, None] / 2
    for step_x in (-1, 0, 1):
        for step_y in (-1, 0, 1):
            target = cell + np.array([step_x, step_y])
            low, high = target * edge_um, (target + 1) * edge_um
            sides = np.clip(np.minimum(pos_um + half, high) - np.maximum(pos_um - half, low), 0, None) / (2 * half)
            share = sides.prod(axis=1)
            window = _find_rows(windows, np.column_stack([group, target]))
            keep = (share > 1e-6) & (window >= 0)
            rows.append(window[keep])
            columns.append(np.flatnonzero(keep))
            shares.append(share[keep])
    shape = (len(windows), len(pos_um))
    overlap = sparse.csr_matrix((np.concatenate(shares), (np.concatenate(rows), np.concatenate(columns))), shape=shape)
    whole = np.asarray(overlap.sum(axis=0)).ravel()
    overlap = overlap @ sparse.diags(1.0 / np.maximum(whole, 1e-9))
    return overlap.astype(np.float32).tocsr(), windows, home


def _find_rows(table: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    span = np.maximum(table.max(axis=0), rows.max(axis=0)) - np.minimum(table.min(axis=0), rows.min(axis=0)) + 1
    low = np.minimum(table.min(axis=0), rows.min(axis=0))
    weights = np.array([span[1] * span[2], span[2], 1])
    codes, wanted = (table - low) @ weights, (rows - low) @ weights
    place = np.searchsorted(codes, wanted)
    place[place == len(codes)] = 0
    return np.where(codes[place] == wanted, place, -1)
