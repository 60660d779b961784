"""A small picture of a slide in the section's own micron frame, for drawing answers over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.tissue.frame import Matrix, affine_of, apply_affine

REGION_BYTES = 2**27


@dataclass(frozen=True)
class Thumbnail:
    """`image` (y, x, 3) uint8; pixel (0, 0) has its corner at `origin_um` (x, y); square pixels of `um_per_pixel`."""

    image: NDArray[np.uint8]
    um_per_pixel: float
    origin_um: tuple[float, float]


def thumbnail(section: Any, name: str = names.SLIDE, max_pixels: int = 1200) -> Thumbnail | None:
    """Return the slide resampled along the micron axes, or `None` if there is no placed slide.

    The slide is read at the stride that gives at most about `max_pixels` along its longer side, region by region, so
    that a slide of any size takes little memory; a rotated or mirrored slide is turned upright here, so that answers in
    microns can be drawn straight over it.
    """
    if name not in section.images or (affine := affine_of(section, name)) is None:
        return None
    image = section.images[name]
    pixels = _three_channels(image)
    height, width = pixels.shape[1:]
    stride = max(1, int(np.ceil(max(height, width) / max_pixels)))
    small = _thinned(pixels, stride)
    corners = apply_affine([[0, 0], [width, 0], [0, height], [width, height]], affine)
    low, high = corners.min(axis=0), corners.max(axis=0)
    step = stride * float(np.sqrt(abs(np.linalg.det(affine[:2, :2]))))
    return Thumbnail(_resample(small, affine, stride, low, high, step), step, (float(low[0]), float(low[1])))


def _three_channels(image: Any) -> Any:
    data = image.data
    return data[:3] if data.shape[0] >= 3 else data[[0, 0, 0]]


def _thinned(pixels: Any, stride: int) -> NDArray[Any]:
    """Return every `stride`-th pixel of a dask array (c, y, x) as (y, x, c), decoding a few blocks at a time."""
    _, height, width = pixels.shape
    out = np.empty((-(-height // stride), -(-width // stride), 3), pixels.dtype)
    across = max(REGION_BYTES // (3 * pixels.dtype.itemsize * max(pixels.chunks[1])), 1)
    for top, bottom in _runs(pixels.chunks[1], 1):
        for left, right in _runs(pixels.chunks[2], across):
            y, x = -(-top // stride), -(-left // stride)  # the first thinned pixel that lies in this region
            region = pixels[:, y * stride : bottom : stride, x * stride : right : stride].compute()
            out[y : y + region.shape[1], x : x + region.shape[2]] = region.transpose(1, 2, 0)
    return out


def _runs(sizes: tuple[int, ...], length: int) -> list[tuple[int, int]]:
    """Join blocks of `sizes` into runs (start, stop) of at most `length` pixels, one block at least."""
    runs: list[tuple[int, int]] = []
    start = stop = 0
    for size in sizes:
        if stop > start and stop + size - start > length:
            runs.append((start, stop))
            start = stop
        stop += size
    return [*runs, (start, stop)]


def _resample(
    small: NDArray[Any], affine: Matrix, stride: int, low: Matrix, high: Matrix, step: float
) -> NDArray[np.uint8]:
    from scipy.ndimage import map_coordinates

    if small.dtype != np.uint8:
        small = np.clip(255.0 * small / max(float(small.max()), 1e-9), 0, 255).astype(np.uint8)
    columns, rows = np.ceil((high - low) / step - 1e-6).astype(int)
    x, y = np.meshgrid(low[0] + (np.arange(columns) + 0.5) * step, low[1] + (np.arange(rows) + 0.5) * step)
    to_pixels = np.linalg.inv(affine).astype(np.float64)
    source = apply_affine(np.column_stack([x.ravel(), y.ravel()]), to_pixels) / stride - 0.5
    places = [source[:, 1].reshape(y.shape), source[:, 0].reshape(x.shape)]
    layers = [map_coordinates(small[..., c], places, order=1, mode="constant", cval=255) for c in range(3)]
    return np.stack(layers, axis=-1)
