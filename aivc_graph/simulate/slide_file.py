"""Pictures as files: the slide as a pyramid, and its small versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

TILE_PX: Final = 256
SLIDE_ID: Final = "urn:uuid:00000000-0000-4000-8000-000000000000"  # a fixed one, so that equal seeds give equal bytes


def write_slide(image: NDArray[np.uint8], mpp: float, path: Path) -> None:
    """Write a tiled OME-TIFF pyramid of `image` ``(y, x, 3)`` at `mpp` µm a pixel, each level half the one before."""
    import tifffile

    levels = [image]
    while min(levels[-1].shape[:2]) > TILE_PX:
        levels.append(shrink(levels[-1], 2))
    metadata = {"axes": "YXS", "UUID": SLIDE_ID, "Creator": "aivc-graph"}
    size = {"PhysicalSizeX": mpp, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": mpp, "PhysicalSizeYUnit": "µm"}
    layout: dict[str, Any] = {"tile": (TILE_PX, TILE_PX), "photometric": "rgb", "compression": "deflate"}
    layout |= {"predictor": True, "software": False}
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(levels[0], subifds=len(levels) - 1, metadata={**metadata, **size}, **layout)
        for level in levels[1:]:
            tiff.write(level, subfiletype=1, metadata=None, **layout)


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Write one picture ``(y, x, 3)``."""
    from imagecodecs import png_encode

    path.write_bytes(png_encode(image, level=6))


def shrink(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Average squares of `factor` pixels; what does not fill a square at the far border is cut."""
    height, width = (n // factor for n in image.shape[:2])
    squares = image[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
    return np.rint(squares.mean(axis=(1, 3))).astype(np.uint8)
