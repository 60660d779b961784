"""How much of the tissue each niche covers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

POINTS = 60_000
BORDER_QUANTILE = 0.95


def area_shares(pos_um: NDArray[np.floating], niche: NDArray[np.int64], section: NDArray, k: int) -> NDArray:
    """Return the share of the tissue's area that is nearest to a node of each of `k` niches, (niche,).

    Cells lie dense in one niche and sparse in another, so a share of cells is none of area. Points of a square grid
    that are as near to a node as nodes are to each other belong to the niche of the nearest.

    Parameters
    ----------
    pos_um
        Centres (node, 2) [µm].
    niche
        Number of the niche from 0, or −1, (node,).
    section
        Section a node, (node,).
    """
    area = np.zeros(k)
    for one in np.unique(section):
        rows = section == one
        pos, labels = np.asarray(pos_um, dtype=np.float64)[rows], niche[rows]
        if len(pos) < 2:
            continue
        tree = cKDTree(pos)
        reach = max(float(np.quantile(tree.query(pos, k=2)[0][:, 1], BORDER_QUANTILE)), 1e-6)
        low, high = pos.min(axis=0) - reach, pos.max(axis=0) + reach
        step = max(float(np.sqrt(np.prod(high - low) / POINTS)), reach / 4)
        grid = np.stack(np.meshgrid(*(np.arange(a, b, step) for a, b in zip(low, high, strict=True))), axis=-1)
        distance, nearest = tree.query(grid.reshape(-1, 2))
        found = labels[nearest[distance <= reach]]
        area += np.bincount(found[found >= 0], minlength=k) * step**2
    return area / max(area.sum(), 1e-12)
