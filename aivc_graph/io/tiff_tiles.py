"""One resolution of a TIFF as an array that decodes only the tiles a region touches."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from aivc_graph.errors import ReadError
from aivc_graph.io.decode_budget import check_budget
from aivc_graph.io.picture import JPEG_END, jpeg_size
from aivc_graph.io.pixel_size import significant_bits
from aivc_graph.io.slide_level import AbstractSlideLevel, Pixels
from aivc_graph.io.tile_faults import TileFault, note_tile_fault
from aivc_graph.tissue.doubt import doubt

GLASS = 255
CHANNEL_AXES = "CSQI"
_JPEG = (6, 7, 33007, 34892)
_GREY, _RGB, _YCBCR = 1, 2, 6


class TiffLevel(AbstractSlideLevel):
    """A level of a tiled or stripped TIFF (OME, SVS, plain) as an array ``(c, y, x)`` uint8.

    Samples of more than 8 bits keep their 8 most significant ones (of the bits OME says are used, else of all); int8 is
    read bit for bit as uint8; alpha is dropped. A tile the file leaves out on purpose (no bytes) is glass, 255, in
    colour and 0 elsewhere. A tile that cannot be decoded raises; no pixel is ever made up for it.

    Parameters
    ----------
    path
        The file.
    level
        0 is full resolution.
    image
        Which of the images in the file.

    Raises
    ------
    ReadError
        Not a picture of one plane, samples that are not whole numbers, a tile above the decoding budget, a tile table
        that does not fit the picture's size, more than 5 % of the tiles beyond the end of the file.
    """

    def __init__(self, path: Path, level: int, image: int = 0) -> None:
        from tifffile import TiffFile

        self.path, self._level, self._image = path, level, image
        with TiffFile(path) as tiff:
            levels = tiff.series[image].levels
            if not 0 <= level < len(levels):
                raise ReadError(f"{path} · level", f"{level}", f"0–{len(levels) - 1}", "choose one of these levels")
            series = levels[level]
            pages = self._own_pages(series.pages)
            self._page = pages[0].keyframe
            self._check_plane(series.axes, series.shape, len(pages))
            self._numbers = [page.index for page in pages]
            self._offsets = np.array([page.dataoffsets for page in pages], dtype=np.int64)
            self._sizes = np.array([page.databytecounts for page in pages], dtype=np.int64)
            self._bits = significant_bits(tiff, image) or self._page.bitspersample
            self._decode = self._page.decode  # made while the file is open, for it looks into it
            self._decode_options = self._jpeg_options()
            file_size = tiff.filehandle.size
        self._check_tiles(file_size)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self._level, self._image)

    @property
    def n_tiles(self) -> int:
        """Tiles (or strips) of this level, all channels together."""
        return int(self._offsets.size)

    def region(self, c: slice, y: slice, x: slice) -> Pixels:
        out = np.empty((c.stop - c.start, y.stop - y.start, x.stop - x.start), np.uint8)
        with self.path.open("rb") as file:
            for page, tile in self._touched(c, y, x):
                self._paste(out, (c.start, y.start, x.start), page, tile, file)
        return out

    def probe(self) -> Exception | None:
        """Decode up to three tiles spread over the level; return the last error if none of them can be decoded."""
        error: Exception | None = None
        with self.path.open("rb") as file:
            for tile in sorted({0, self._offsets.shape[1] // 2, self._offsets.shape[1] - 1}):
                try:
                    self._tile(0, tile, file)
                    return None
                except Exception as found:  # each codec raises a kind of its own
                    error = found
        return error

    def _own_pages(self, pages: Any) -> list[Any]:
        """Return the planes that lie in this very file; an OME-TIFF may name others that lie in its neighbours."""
        here = [p for p in pages if p is not None and Path(p.parent.filehandle.path).samefile(self.path)]
        if not here:
            raise ReadError(str(self.path), "no plane of its own", "at least one", "open the file that holds them")
        if len(here) < len(pages):
            found = f"{len(pages) - len(here)} of {len(pages)} planes in other files, which are not read"
            doubt(str(self.path), found, "all planes in one file", "join them, or read the file that is wanted")
        return here

    def _check_plane(self, axes: str, shape: tuple[int, ...], n_pages: int) -> None:
        page, where = self._page, f"{self.path} · page {self._page.index}"
        size = dict(zip(axes, shape, strict=True))
        others = {axis for axis, n in size.items() if axis not in "YX" and axis not in CHANNEL_AXES and n > 1}
        if others or not {"X", "Y"} <= size.keys() or not axes.replace("S", "").endswith("YX"):
            raise ReadError(
                where,
                f"axes {axes} of {shape}",
                "one plane (channel, y, x)",
                "project or choose one z and time point first",
            )
        colour = {_GREY, _RGB} | ({_YCBCR} if page.compression in _JPEG else set())
        if page.photometric not in colour:
            raise ReadError(where, f"colours stored as {page.photometric!s}", "grey, RGB, or JPEG's YCbCr")
        if page.dtype is None or page.dtype.kind not in "bui":
            raise ReadError(where, f"samples of {page.dtype}", "whole numbers", "convert the image to 8 or 16 bits")
        if page.dtype != np.uint8:
            doubt(str(self.path), f"samples of {page.dtype}, brought to 8 bits", "8 bits", "fainter steps are lost")
        self._stored = page.samplesperpixel
        self._kept = self._colours(page)
        self.shape = (n_pages * self._kept, size["Y"], size["X"])
        down, across = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
        check_budget(where, down, across, self._stored, page.dtype.itemsize)
        self._full_tile = (down, across)
        self.tile = (min(down, size["Y"]), min(across, size["X"]))
        self._grid = (-(-size["Y"] // down), -(-size["X"] // across))
        self._planes = self._stored if page.planarconfig == 2 else 1

    def _colours(self, page: Any) -> int:
        """Samples a pixel without alpha; the interleaved channels of an OME-TIFF are all kept."""
        if page.photometric == _RGB and self._stored == 4:
            return 3
        alpha = page.photometric == _GREY and self._stored == 2 and not page.parent.is_ome
        return 1 if alpha else self._stored

    def _check_tiles(self, file_size: int) -> None:
        expected = self._planes * self._grid[0] * self._grid[1]
        if self._offsets.shape[1:] != (expected,) or self._sizes.shape != self._offsets.shape:
            found = f"a table of {self._offsets.shape[-1]:,} tiles"
            raise ReadError(
                f"{self.path} · page {self._page.index}",
                found,
                f"{expected:,} for its size",
                "the file is damaged: copy it again",
            )
        beyond = np.argwhere(self._offsets + self._sizes > file_size)
        for page, tile in beyond:
            error = note_tile_fault(
                self._fault(page, tile, "truncated: it lies beyond the end of the file"), self.n_tiles
            )
            if len(beyond) > 0.05 * self.n_tiles:
                raise ReadError(
                    f"{self.path} · page {self._numbers[page]}, tile {tile}",
                    f"{len(beyond):,} of {self.n_tiles:,} tiles beyond the end of the file, which is truncated",
                    "a whole file",
                    "copy it again from its source",
                ) from error
        absent = int((self._sizes == 0).sum())
        if absent:
            found = f"{absent:,} of {self.n_tiles:,} tiles left out of the file, read as empty"
            doubt(str(self.path), found, "all of them", "was the scan meant to leave them out?")

    def _jpeg_options(self) -> dict[str, Any]:
        if self._page.compression not in _JPEG:
            return {}
        return {"jpegtables": self._page.jpegtables, "jpegheader": self._page.jpegheader}

    def _touched(self, c: slice, y: slice, x: slice) -> Iterator[tuple[int, int]]:
        """Yield (page, tile) for every tile that meets the region."""
        rows = range(y.start // self.tile[0], -(-y.stop // self.tile[0]))
        columns = range(x.start // self.tile[1], -(-x.stop // self.tile[1]))
        for page, plane, row, column in product(range(len(self._numbers)), range(self._planes), rows, columns):
            first = page * self._kept + plane
            last = first + (1 if self._planes > 1 else self._kept)
            if plane < self._kept and first < c.stop and last > c.start:
                yield page, (plane * self._grid[0] + row) * self._grid[1] + column

    def _paste(self, out: Pixels, origin: tuple[int, int, int], page: int, tile: int, file: BinaryIO) -> None:
        """Put the part of a tile that `out`, whose first voxel is `origin`, shows in its place."""
        plane, row, column = np.unravel_index(tile, (self._planes, *self._grid))
        start = (page * self._kept + int(plane), int(row) * self.tile[0], int(column) * self.tile[1])
        try:
            pixels = self._tile(page, tile, file)
        except Exception as error:  # each codec raises a kind of its own
            raise note_tile_fault(self._fault(page, tile, str(error)), self.n_tiles) from error
        low = [max(s, o) for s, o in zip(start, origin, strict=True)]
        high = [min(s + n, o + m) for s, n, o, m in zip(start, pixels.shape, origin, out.shape, strict=True)]
        source = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
        target = tuple(slice(a - o, b - o) for a, b, o in zip(low, high, origin, strict=True))
        out[target] = pixels[source]

    def _tile(self, page: int, tile: int, file: BinaryIO) -> Pixels:
        """Return the tile ``(c, y, x)`` as uint8."""
        size = int(self._sizes[page, tile])
        if size == 0:
            kept = 1 if self._planes > 1 else self._kept
            return np.full((kept, *self.tile), GLASS if self._page.photometric != _GREY else 0, np.uint8)
        file.seek(int(self._offsets[page, tile]))
        data = file.read(size)
        if len(data) < size:
            raise ValueError("truncated: it lies beyond the end of the file")
        if self._page.compression in _JPEG:
            self._check_jpeg(data)
        segment = self._decode(data, tile, **self._decode_options)[0]
        if segment is None:
            raise ValueError("it decodes to nothing")
        return self._as_uint8(np.moveaxis(segment[0], -1, 0)[: self._kept])

    def _check_jpeg(self, data: bytes) -> None:
        # libjpeg fills what is missing with grey, and unpacks whatever size the tile's own header states.
        if JPEG_END not in data[-64:]:
            raise ValueError("a JPEG without its end marker")
        height, width, _ = jpeg_size(data) or (0, 0, 0)
        down, across = self._full_tile
        if height > down or width > across:
            raise ValueError(f"its header states {width:,} × {height:,} px, its place is {across} × {down}")

    def _as_uint8(self, samples: NDArray[Any]) -> Pixels:
        if samples.dtype == np.int8:
            return samples.view(np.uint8)
        if samples.dtype == np.bool_:
            return samples.astype(np.uint8) * np.uint8(255)
        if samples.dtype == np.uint8:
            return samples
        return np.clip(samples >> max(self._bits - 8, 0), 0, 255).astype(np.uint8)

    def _fault(self, page: int, tile: int, reason: str) -> TileFault:
        return TileFault(self.path, self._numbers[page], int(tile), reason)
