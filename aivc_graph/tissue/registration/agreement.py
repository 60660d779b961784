"""How well a placed layer agrees with a map, and by how much its parts still want to move."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aivc_graph.tissue.frame import Matrix
from aivc_graph.tissue.registration.maps import FieldMap

MIN_BLOCK_POINTS = 12


def agreement(points_um: Matrix, values: Matrix, fixed: FieldMap) -> float:
    """Return the mean correlation over channels at points, times the root of the share of them that the map knows.

    The root keeps a map from sliding off the tissue: it weighs a correlation by the points behind it. Below one half
    known it is −1.
    """
    other, known = fixed.at(points_um)
    share = float(known.mean())
    if share < 0.5:
        return -1.0
    return float(np.mean(_pearson(values[known], other[known]))) * float(np.sqrt(share))


def block_shifts(
    points_um: Matrix, values: Matrix, fixed: FieldMap, reach_um: float, step_um: float, n_blocks: int
) -> Matrix:
    """Return the shift ``(block, 2)`` [µm] that each block of tissue would still like best, within `reach_um`.

    Blocks are a grid of `n_blocks` × `n_blocks` over the points; those with too few points or no signal are left out.
    """
    reach = int(np.ceil(reach_um / step_um))
    axis = np.arange(-reach, reach + 1)
    block = _blocks(points_um, n_blocks)
    homes = [np.flatnonzero(block == b) for b in range(n_blocks**2)]
    homes = [home for home in homes if len(home) >= MIN_BLOCK_POINTS and values[home].std(axis=0).max() > 1e-6]
    surface = np.full((len(homes), len(axis), len(axis)), -np.inf)
    for j, dy in enumerate(axis):
        for i, dx in enumerate(axis):
            other, known = fixed.at(points_um + np.array([dx, dy]) * step_um)
            for b, home in enumerate(homes):
                rows = home[known[home]]
                if len(rows) > 0.5 * len(home):
                    surface[b, j, i] = np.mean(_pearson(values[rows], other[rows]))
    return np.array([_peak(one, axis) for one in surface if np.isfinite(one[reach, reach])]).reshape(-1, 2) * step_um


def _pearson(a: Matrix, b: Matrix) -> Matrix:
    """Correlation of each channel; zero for a channel that is constant."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    norm = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.where(norm > 1e-12, (a * b).sum(axis=0) / np.maximum(norm, 1e-12), 0.0)


def _blocks(points: Matrix, n: int) -> NDArray[np.int64]:
    low, size = points.min(axis=0), np.maximum(np.ptp(points, axis=0), 1e-9)
    step = np.minimum((n * (points - low) / size).astype(np.int64), n - 1)
    return step[:, 0] * n + step[:, 1]


def _peak(surface: Matrix, axis: NDArray[np.int64]) -> tuple[float, float]:
    """Place of the maximum, in steps, refined by a parabola along x and along y."""
    j, i = np.unravel_index(int(np.argmax(surface)), surface.shape)
    return axis[i] + _vertex(surface[j, :], int(i)), axis[j] + _vertex(surface[:, i], int(j))


def _vertex(line: Matrix, i: int) -> float:
    if not 0 < i < len(line) - 1 or not np.isfinite(line[i - 1 : i + 2]).all():
        return 0.0
    left, middle, right = line[i - 1 : i + 2]
    bend = left - 2 * middle + right
    return float(0.5 * (left - right) / bend) if bend < -1e-12 else 0.0
