"""How far the truth of a composition may be wrong where it is that of cells of a neighbouring section.

Such a truth is the mean over more than a hundred cells, by distance, since nobody knows which of them lie where the
spot lay; the spot held some seven. What it held is as likely any circle of its size laid on the other section about its
place, as far from it as registration errs: how the truth differs from these, with the cells of that section alone and
nothing of the spots, is the truth's own error. What is left out of it: cells parted or typed wrongly.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

Floats = np.ndarray
DRAWS = 40


def circles(pos_um: Floats, kind: Floats, at_um: Floats, radius_um: float, sigma_um: float, n_types: int) -> Floats:
    """Return the shares of types (place, type, draw) in circles about places that are moved by N(0, σ²) on each axis.

    Not numbers where a circle holds no cell of a type (`kind` below zero: of none).
    """
    random, known = np.random.default_rng(0), kind >= 0
    tree, kinds = cKDTree(pos_um[known]), kind[known]
    found = np.full((len(at_um), n_types, DRAWS), np.nan)
    for draw in range(DRAWS):
        moved = at_um + random.normal(0, sigma_um, at_um.shape)
        for place, inside in enumerate(tree.query_ball_point(moved, radius_um)):
            if inside:
                found[place, :, draw] = np.bincount(kinds[inside], minlength=n_types) / len(inside)
    return found


def doubted(lower: Floats, told: Floats, upper: Floats, true: Floats, held: Floats) -> dict[str, float]:
    """Return the error of the truth, and the coverage of intervals that hold it (spot, type) beside their own.

    `held` (spot, type, draw) is what the spot may have held; errors add in squares. ``coverage_90_of_these``: of
    intervals as wide as ours about what it may have held, were it told exactly.
    """
    off = true[:, :, None] - held
    below, above = np.minimum(np.nanquantile(off, 0.05, axis=2), 0), np.maximum(np.nanquantile(off, 0.95, axis=2), 0)
    wide = told - np.hypot(told - lower, below), told + np.hypot(upper - told, above)
    ends = held - (told - lower)[:, :, None], held + (upper - told)[:, :, None]
    exact = (ends[0] <= true[:, :, None] + 1e-6) & (true[:, :, None] <= ends[1] + 1e-6)
    return {
        "rmse_of_truth": round(float(np.sqrt(np.nanmean(off**2))), 3),
        "coverage_90": round(float(((wide[0] <= true + 1e-6) & (true <= wide[1] + 1e-6)).mean()), 3),
        "coverage_90_of_these": round(float(exact[np.isfinite(off)].mean()), 3),
    }
