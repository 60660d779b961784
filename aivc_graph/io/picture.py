"""JPEG and PNG: a picture that only decodes as a whole, so its header is judged first."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from aivc_graph.errors import ReadError
from aivc_graph.io.decode_budget import check_budget
from aivc_graph.io.slide_level import AbstractSlideLevel, Pixels

JPEG_MAGIC = b"\xff\xd8\xff"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_END = b"\xff\xd9"

_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 1, 6: 3}
_HEADER_BYTES = 2**20


class PictureLevel(AbstractSlideLevel):
    """A JPEG or PNG as an array ``(c, y, x)`` uint8, decoded on first use and then kept; alpha is dropped.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    ReadError
        A damaged header, a picture above the decoding budget; on first use, a truncated or corrupt picture.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            head = file.read(_HEADER_BYTES)
        self._is_png = head.startswith(PNG_MAGIC)
        size = png_size(head) if self._is_png else jpeg_size(head)
        if size is None:
            raise ReadError(
                f"{path} · header", "no picture size", "a JPEG or PNG header", "the file is damaged: copy it again"
            )
        check_budget(path, *size)
        height, width, channels = size
        self.shape = (channels, height, width)
        self.tile = (height, width)
        self._pixels: Pixels | None = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path,)

    def region(self, c: slice, y: slice, x: slice) -> Pixels:
        with self._lock:
            if self._pixels is None:
                self._pixels = self._decode()
        return self._pixels[c, y, x]

    def probe(self) -> Exception | None:
        """Decode nothing: a picture is only ever decoded whole, on first use."""
        return None

    def _decode(self) -> Pixels:
        from imagecodecs import jpeg_decode, png_decode

        data = self.path.read_bytes()
        # libjpeg fills what is missing with grey and says nothing.
        if not self._is_png and JPEG_END not in data[-(2**16) :]:
            raise ReadError(
                str(self.path),
                "a JPEG without its end marker",
                "a whole picture",
                "the file is truncated: copy it again",
            )
        try:
            pixels = np.asarray(png_decode(data) if self._is_png else jpeg_decode(data))
        except Exception as error:  # each codec raises a kind of its own
            raise ReadError(
                str(self.path), f"a picture that cannot be decoded ({error})", mend="copy it again from its source"
            ) from error
        if pixels.dtype == np.uint16:
            pixels = (pixels >> 8).astype(np.uint8)
        stack = np.atleast_3d(pixels)[:, :, : self.shape[0]]
        if stack.shape != (*self.shape[1:], self.shape[0]):
            raise ReadError(
                str(self.path),
                f"pixels of shape {stack.shape}",
                f"{(*self.shape[1:], self.shape[0])} as its header says",
            )
        return np.moveaxis(stack, -1, 0)


def png_size(head: bytes) -> tuple[int, int, int] | None:
    """Return height, width and colour channels from the first bytes of a PNG, or `None`."""
    if len(head) < 26 or head[12:16] != b"IHDR":
        return None
    width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    return height, width, _PNG_CHANNELS.get(head[25], 3)


def jpeg_size(head: bytes) -> tuple[int, int, int] | None:
    """Return height, width and channels from the frame header (SOF) of a JPEG stream, or `None`."""
    at = 2
    while at + 9 < len(head) and head[at] == 0xFF:
        marker = head[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = int.from_bytes(head[at + 5 : at + 7], "big"), int.from_bytes(head[at + 7 : at + 9], "big")
            return height, width, head[at + 9]
        at += 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    return None
