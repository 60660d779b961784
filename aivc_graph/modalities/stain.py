"""Separate hematoxylin from eosin in one slide's own stain colours, so that scanners can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

# Optical-density vectors of hematoxylin and eosin, used where a slide cannot give its own.
REFERENCE = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105]])
MIN_TISSUE_OD = 0.12
BLACK = 25
MIN_PIXELS = 500


@dataclass(frozen=True)
class StainFrame:
    """The colours of one slide.

    Parameters
    ----------
    white
        Colour of the empty glass, ``(3,)``, 0–255.
    vectors
        Unit optical densities of hematoxylin and eosin, ``(2, 3)``.
    scale
        99th percentile of each stain over the tissue, ``(2,)``; amounts are given relative to it.
    nuclear
        Relative hematoxylin that best parts nuclei from the rest over the whole slide.
    """

    white: Array
    vectors: Array
    scale: Array
    nuclear: float

    def key(self) -> bytes:
        """Return bytes that are equal for equal frames."""
        parts = (self.white, self.vectors, self.scale, np.array([self.nuclear]))
        return b"".join(np.ascontiguousarray(part, dtype=np.float64).tobytes() for part in parts)

    def tissue(self, tile: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Say which pixels of a tile ``(..., 3)`` are tissue: neither glass nor painted black."""
        return tissue_pixels(tile, self.white)

    def stains(self, tile: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return relative amounts ``(2, ...)`` of hematoxylin and eosin in a tile ``(..., 3)``."""
        unmix = np.linalg.pinv(self.vectors) / self.scale
        tables = _optical_density(np.repeat(np.arange(256)[:, None], 3, axis=1), self.white)
        shares = (tables[:, :, None] * unmix).astype(np.float32)  # (level, channel, stain): one table a channel
        return np.maximum(np.stack([sum(shares[:, c, s][tile[..., c]] for c in range(3)) for s in range(2)]), 0.0)


def tissue_pixels(pixels: NDArray[np.uint8], white: Array) -> NDArray[np.bool_]:
    """Say which pixels ``(..., 3)`` absorb light without being black."""
    floor = 10.0 ** (-MIN_TISSUE_OD) * white
    darkest, brightest = channel_range(pixels)
    return (darkest < floor.min()) & (brightest > BLACK)


def channel_range(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the least and the largest of the three channels of each pixel ``(..., 3)``."""
    r, g, b = (pixels[..., c] for c in range(3))  # ten times faster than a reduction over an axis of three
    return np.minimum(np.minimum(r, g), b), np.maximum(np.maximum(r, g), b)


def fit_stains(pixels: NDArray[np.uint8]) -> StainFrame:
    """Find a slide's glass colour and stain vectors from a sample of its pixels.

    The two stains are the extreme directions in the plane that holds most of the optical density of tissue; a slide
    with too little tissue, or with one stain only, is given the reference vectors.

    Parameters
    ----------
    pixels
        ``(pixel, 3)``, 0–255, from all over the slide.

    References
    ----------
    Macenko et al. 2009, doi:10.1109/ISBI.2009.5193250; reference vectors: Ruifrok & Johnston 2001 (PMID 11531144).
    """
    from skimage.filters import threshold_otsu

    white = _glass(pixels)
    tissue = pixels[tissue_pixels(pixels, white)]
    density = _optical_density(tissue, white)
    vectors = _macenko(density) if len(tissue) >= MIN_PIXELS else REFERENCE
    if len(tissue) == 0:
        return StainFrame(white, vectors, np.ones(2), 0.5)
    amounts = np.maximum(density @ np.linalg.pinv(vectors), 0.0)
    scale = np.maximum(np.percentile(amounts, 99, axis=0), 1e-3)
    hematoxylin = np.minimum(amounts[:, 0] / scale[0], 1.5)
    nuclear = float(threshold_otsu(hematoxylin)) if np.ptp(hematoxylin) > 0 else 0.5
    return StainFrame(white, vectors, scale, nuclear)


def _glass(pixels: NDArray[np.uint8]) -> Array:
    """Colour of the brightest hundredth, but no darker than light grey: a slide cut to tissue has no glass.

    Pure white is left out: it pads borders, and glass is never quite as bright.
    """
    pixels = pixels[channel_range(pixels)[0] < 255]
    if len(pixels) == 0:
        return np.full(3, 255.0)
    darkest, _ = channel_range(pixels)
    bright = pixels[darkest >= np.percentile(darkest, 99)]
    return np.clip(np.median(bright, axis=0), 200.0, 255.0)


def _optical_density(pixels: NDArray[Any], white: Array) -> Array:
    return -np.log10(np.clip((pixels + 1.0) / (white + 1.0), 1e-3, 1.0))


def _macenko(density: Array) -> Array:
    """Hematoxylin and eosin vectors ``(2, 3)``; the reference where the two found are nearly one."""
    _, basis = np.linalg.eigh(np.cov(density.T))
    plane = basis[:, [2, 1]] * np.sign(basis[:, [2, 1]].sum(axis=0) + 1e-12)
    angle = np.arctan2(*(density @ plane).T[::-1])
    extremes = [plane @ (np.cos(a), np.sin(a)) for a in np.percentile(angle, [1, 99])]
    vectors = np.array(sorted((np.abs(v) / np.linalg.norm(v) for v in extremes), key=lambda v: v[0], reverse=True))
    apart = np.degrees(np.arccos(np.clip(vectors[0] @ vectors[1], -1, 1)))
    return vectors if apart > 8.0 else REFERENCE
