"""Find nuclei in the hematoxylin of a tile."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SMOOTH_UM = 0.8
SURROUNDINGS_UM = 7.0
SEED_UM = 1.5
MIN_AREA_UM2 = 12.0
CONTRAST = 0.05
FAINTEST, DARKEST = 0.6, 1.8  # of the slide-wide threshold: never a nucleus below, always one above


def segment_nuclei(hematoxylin: NDArray[np.floating[Any]], mpp: float, nuclear: float) -> NDArray[np.int32]:
    """Label nuclei: smooth, compare with the surroundings and with the slide, split touching ones by watershed.

    Parameters
    ----------
    hematoxylin
        Relative amount ``(y, x)``.
    mpp
        Pixel size [µm]; nuclei are lost above about 2 µm.
    nuclear
        Slide-wide threshold, see `StainFrame`.

    Returns
    -------
    Labels ``(y, x)``: 0 outside nuclei, 1 … n inside.
    """
    from scipy import ndimage
    from skimage.segmentation import watershed

    smooth = ndimage.gaussian_filter(hematoxylin, SMOOTH_UM / mpp)
    around = _surroundings(hematoxylin, SURROUNDINGS_UM / mpp)
    mask = ((smooth > around + CONTRAST) & (smooth > FAINTEST * nuclear)) | (smooth > DARKEST * nuclear)
    mask = ndimage.binary_fill_holes(ndimage.binary_opening(mask, iterations=max(1, round(0.75 / mpp))))
    if not mask.any():
        return np.zeros(mask.shape, np.int32)
    depth_um = mpp * ndimage.distance_transform_edt(mask).astype(np.float32)
    height = ndimage.gaussian_filter(depth_um + 4.0 * smooth, SEED_UM / mpp, truncate=3.0)
    reach = 2 * max(1, round(2 * SEED_UM / mpp)) + 1
    seeds, _ = ndimage.label((ndimage.maximum_filter(height, reach) == height) & mask)
    labels = watershed(-height, seeds, mask=mask)
    return _drop_small(labels, MIN_AREA_UM2 / mpp**2)


def _surroundings(channel: NDArray[np.floating[Any]], sigma: float) -> NDArray[np.floating[Any]]:
    """Mean of the surroundings: two box filters with the spread of a Gaussian, at a cost that does not grow with it."""
    from scipy import ndimage

    width = 2 * round(np.sqrt(6 * sigma**2 + 1) / 2) + 1
    return ndimage.uniform_filter(ndimage.uniform_filter(channel, width), width)


def _drop_small(labels: NDArray[np.int32], min_pixels: float) -> NDArray[np.int32]:
    keep = np.bincount(labels.ravel()) >= min_pixels
    keep[0] = False
    return np.where(keep, np.cumsum(keep), 0).astype(np.int32)[labels]
