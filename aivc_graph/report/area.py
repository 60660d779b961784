"""How much of the tissue each niche covers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Floats = NDArray[np.floating[Any]]

POINTS = 60_000
THIRD = 4  # with itself, the third nearest


def area_shares(pos_um: Floats, niche: NDArray[np.int64], section: NDArray[Any], k: int) -> Floats:
    """Return the share of the tissue's area that is nearest to a node of each of `k` niches, (niche,).

    Cells lie dense in one niche and sparse in another, so a share of cells is none of area. Points of a square grid
    belong to the niche of the nearest node, if they are no further from it than its own third neighbour; beyond lies
    glass.

    Parameters
    ----------
    pos_um
        Centres (node, 2) [µm]; a node without one has no area.
    niche
        Number of the niche from 0, or −1, (node,).
    section
        Section a node, (node,).
    """
    area = np.zeros(k)
    for one in np.unique(section):
        rows = (section == one) & np.isfinite(pos_um).all(axis=1)
        pos, labels = np.asarray(pos_um, dtype=np.float64)[rows], niche[rows]
        if len(pos) < 2:
            continue
        tree = cKDTree(pos)
        reach = tree.query(pos, k=min(THIRD, len(pos)))[0][:, -1]
        low, high = pos.min(axis=0) - reach.max(), pos.max(axis=0) + reach.max()
        step = max(float(np.sqrt(np.prod(high - low) / POINTS)), 1e-6)
        grid = np.stack(np.meshgrid(*(np.arange(a, b, step) for a, b in zip(low, high, strict=True))), axis=-1)
        distance, nearest = tree.query(grid.reshape(-1, 2))
        found = labels[nearest[distance <= reach[nearest]]]
        area += np.bincount(found[found >= 0], minlength=k) * step**2
    return area / max(area.sum(), 1e-12)
