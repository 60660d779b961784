"""What goes wrong on a slide: tissue that lies double, and parts out of focus."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Field = NDArray[np.float32]

FOLD_UM: Final = (20.0, 45.0)


def fold(stains: Field, mpp: float, rng: np.random.Generator) -> Field:
    """Return stains ``(y, x, 2)`` with one fold: along a bent line the tissue is doubled by what lies beside it.

    Parameters
    ----------
    mpp
        Pixel size [µm].
    """
    height, width = stains.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    turn, half = rng.uniform(0, np.pi), rng.uniform(*FOLD_UM) / 2 / mpp
    cx, cy = rng.uniform(0.25, 0.75, 2) * (width, height)
    normal = np.cos(turn), np.sin(turn)
    along = (y - cy) * normal[0] - (x - cx) * normal[1]
    off = (x - cx) * normal[0] + (y - cy) * normal[1] + 0.03 * width * np.sin(along / (0.1 * width) + rng.uniform(0, 6))
    inside = (np.abs(off) < half) & (np.abs(along) < rng.uniform(0.2, 0.45) * width)
    rows, columns = (np.rint(p[inside] - 2 * off[inside] * n) for p, n in ((y, normal[1]), (x, normal[0])))
    above = stains[rows.clip(0, height - 1).astype(int), columns.clip(0, width - 1).astype(int)]
    folded = stains.copy()
    folded[inside] += above
    return folded


def defocus(density: Field, sigma_px: float, place: Field) -> Field:
    """Return optical density ``(y, x, 3)`` mixed with its blurred self where `place` ``(y, x)`` is high.

    Parameters
    ----------
    sigma_px
        Standard deviation of the blur [pixels].
    place
        Smooth noise of unit variance.
    """
    blurred = ndimage.gaussian_filter(density, (sigma_px, sigma_px, 0))
    share = (1 / (1 + np.exp(-6 * (place - 0.5))))[..., None].astype(np.float32)
    return density + share * (blurred - density)
