"""Pictures inside the page: bytes as a data URI, the same bytes for the same drawing."""

from __future__ import annotations

import base64
import io
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOOK: dict[str, Any] = {"dpi": 130, "bbox_inches": "tight", "pad_inches": 0.03}
JPEG_QUALITY = 85


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI, with the text that stands for it and its size in pixels."""

    uri: str
    alt: str
    width: int
    height: int


def drawing(figure: Any, alt: str) -> Picture:
    """Return a matplotlib figure as a PNG on white, so that its black lettering is read in a dark page too."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white", metadata={"Software": None}, **LOOK)
    width, height = struct.unpack(">II", buffer.getvalue()[16:24])
    return Picture(_uri("png", buffer.getvalue()), alt, width, height)


def tissue_drawing(figure: Any, alt: str) -> Picture:
    """Return a map of tissue as a JPEG: thousands of discs over a slide are a fourth of their size as a PNG."""
    from matplotlib.image import imread

    buffer = io.BytesIO()
    figure.savefig(buffer, format="jpeg", facecolor="white", pil_kwargs={"quality": JPEG_QUALITY}, **LOOK)
    buffer.seek(0)
    height, width = imread(buffer, format="jpeg").shape[:2]
    return Picture(_uri("jpeg", buffer.getvalue()), alt, width, height)


def photograph(image: NDArray[np.uint8], alt: str, *, longest: int = 900) -> Picture:
    """Return an image (y, x, 3), thinned to at most `longest` pixels a side, as a JPEG."""
    from matplotlib.image import imsave

    step = -(-max(image.shape[:2]) // longest)
    small = np.ascontiguousarray(image[::step, ::step])
    buffer = io.BytesIO()
    imsave(buffer, small, format="jpeg", pil_kwargs={"quality": JPEG_QUALITY})
    return Picture(_uri("jpeg", buffer.getvalue()), alt, small.shape[1], small.shape[0])


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
