"""The contract of an engine that reads one resolution of a slide, region by region."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


class AbstractSlideLevel(ABC):
    """One resolution of a slide as an array-like ``(c, y, x)`` uint8 that dask can slice.

    ``shape`` is ``(c, y, x)``; ``tile`` the rows and columns that are best read together.
    """

    dtype = np.dtype(np.uint8)
    ndim = 3
    path: Path
    shape: tuple[int, int, int]
    tile: tuple[int, int]

    @abstractmethod
    def region(self, c: slice, y: slice, x: slice) -> Pixels:
        """Return the pixels between bounds that lie inside the picture, step 1."""

    @abstractmethod
    def probe(self) -> Exception | None:
        """Decode a little; return what was wrong if nothing of it can be decoded."""

    def __getitem__(self, key: Any) -> Pixels:
        """Read the smallest box around `key` (any NumPy index of up to three axes), then pick from it."""
        keys = key if isinstance(key, tuple) else (key,)
        keys += (slice(None),) * (3 - len(keys))
        boxes, picks = zip(*(_box(k, n) for k, n in zip(keys, self.shape, strict=True)), strict=True)
        if any(box.stop <= box.start for box in boxes):
            return np.empty(tuple(max(box.stop - box.start, 0) for box in boxes), np.uint8)[picks]
        region = self.region(*boxes)
        picked = region[picks]
        return picked if picked.size == region.size else picked.copy()  # a view would keep the whole box in memory


def _box(key: Any, length: int) -> tuple[slice, Any]:
    """Return the bounds of `key` on an axis, and the index that picks it out of them."""
    if isinstance(key, slice):
        start, stop, step = key.indices(length)
        low, high = (start, stop) if step > 0 else (stop + 1, start + 1)
        return slice(low, high), slice(None, None, step)
    if isinstance(key, (int, np.integer)):
        at = int(key) % length
        return slice(at, at + 1), 0
    index = np.arange(length)[key]
    low = int(index.min()) if index.size else 0
    return slice(low, int(index.max()) + 1 if index.size else low), index - low
