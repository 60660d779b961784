"""Pictures inside the page: bytes as a data URI, the same bytes for the same drawing."""

from __future__ import annotations

import base64
import io
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

DPI = 110
JPEG_QUALITY = 82


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
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white", bbox_inches="tight", metadata={"Software": None})
    width, height = struct.unpack(">II", buffer.getvalue()[16:24])
    return Picture(_uri("png", buffer.getvalue()), alt, width, height)


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
