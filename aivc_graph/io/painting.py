"""Paint over parts of a picture that must not be looked at, such as a thumbnail that gives the labels away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aivc_graph.errors import ReadError


def paint_boxes(pixels: Any, boxes: Sequence[tuple[int, int, int, int]], where: str) -> Any:
    """Return `pixels` ``(c, y, x)`` with every box ``(x0, y0, x1, y1)`` filled by the picture's background, lazily.

    The background is the median colour of the picture's outermost pixels that lie in no box.

    Raises
    ------
    ReadError
        A box that is empty or does not lie in the picture, or boxes that cover its whole rim.
    """
    if not boxes:
        return pixels
    import dask.array as da

    height, width = pixels.shape[1:]
    hidden = np.zeros((height, width), bool)
    for x0, y0, x1, y1 in boxes:
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise ReadError(where, f"[{x0}, {y0}, {x1}, {y1}]", f"[x0, y0, x1, y1] within {width} × {height} px")
        hidden[y0:y1, x0:x1] = True
    rims = [
        (slice(0, 1), slice(None)),
        (slice(-1, None), slice(None)),
        (slice(None), slice(0, 1)),
        (slice(None), slice(-1, None)),
    ]
    shown = np.concatenate([np.asarray(pixels[:, y, x])[:, ~hidden[y, x]] for y, x in rims], axis=1)
    if shown.shape[1] == 0:
        raise ReadError(where, "boxes over the whole rim of the picture", "some background left to see")
    background = np.median(shown, axis=1).astype(pixels.dtype)
    return da.where(da.from_array(hidden, chunks=pixels.chunks[1:])[None], background[:, None, None], pixels)
