"""The second engine: OpenSlide, for scanners' files that tifffile cannot decode (DICOM, MRXS, JPEG 2000 in YCbCr)."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from aivc_graph.errors import ReadError
from aivc_graph.io.pixel_size import PLAUSIBLE_MPP, square_side
from aivc_graph.io.slide_level import AbstractSlideLevel, Pixels
from aivc_graph.io.tile_faults import TileFault, note_tile_fault

BLOCK_PX = 1024


class OpenSlideLevel(AbstractSlideLevel):
    """A level of a slide that OpenSlide opens, as an array ``(c, y, x)`` uint8 on white.

    Parameters
    ----------
    path
        The file.
    level
        0 is full resolution.

    Raises
    ------
    ImportError
        If openslide-python is not installed.
    ReadError
        If OpenSlide cannot open the file, or has no such level.
    """

    tile = (BLOCK_PX, BLOCK_PX)

    def __init__(self, path: Path, level: int) -> None:
        self.path, self._level = path, level
        self._lock = threading.Lock()
        self._slide = self._open()
        sizes = self._slide.level_dimensions
        if not 0 <= level < len(sizes):
            raise ReadError(f"{path} · level", f"{level}", f"0–{len(sizes) - 1}", "choose one of these levels")
        width, height = sizes[level]
        self.shape = (3, height, width)
        self.downsample = float(self._slide.level_downsamples[level])
        self.mpp = self._stated_mpp()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self._level)

    def region(self, c: slice, y: slice, x: slice) -> Pixels:
        rgba = self._read(x.start, y.start, x.stop - x.start, y.stop - y.start)
        alpha = rgba[..., 3:].astype(np.uint16)
        rgb = (rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
        return np.moveaxis(rgb.astype(np.uint8), -1, 0)[c]

    def probe(self) -> Exception | None:
        """Read a small square in the middle; return what OpenSlide found wrong."""
        y, x = self.shape[1] // 2, self.shape[2] // 2
        try:
            self[:, y : y + 16, x : x + 16]
        except ReadError as error:
            return error
        return None

    def _stated_mpp(self) -> float | None:
        stated = self._slide.properties.get("openslide.mpp-x")
        # In a plain TIFF this is the resolution tag, where most programs write a screen's 72 dots an inch.
        plain = self._slide.properties.get("openslide.vendor") == "generic-tiff"
        if stated is None or (plain and not PLAUSIBLE_MPP[0] <= float(stated) <= PLAUSIBLE_MPP[1]):
            return None
        return square_side(self.path, float(stated), float(self._slide.properties.get("openslide.mpp-y", stated)))

    def _open(self) -> Any:
        from openslide import OpenSlide, OpenSlideError

        try:
            return OpenSlide(str(self.path))
        except OpenSlideError as error:
            raise ReadError(
                str(self.path), f"a file that OpenSlide cannot open ({error})", mend="copy it again"
            ) from error

    def _read(self, x: int, y: int, width: int, height: int) -> Pixels:
        from openslide import OpenSlideError

        origin = (round(x * self.downsample), round(y * self.downsample))
        try:
            return np.asarray(self._slide.read_region(origin, self._level, (width, height)))
        except OpenSlideError as error:
            # A slide that failed once refuses everything after: open it anew for the next region.
            with self._lock:
                self._slide = self._open()
            across, down = (-(-n // BLOCK_PX) for n in self.shape[:0:-1])
            block = y // BLOCK_PX * across + x // BLOCK_PX
            raise note_tile_fault(TileFault(self.path, self._level, block, str(error)), across * down) from error
