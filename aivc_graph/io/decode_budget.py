"""How much a file may become when it is unpacked: checked on what it states, and counted while it is read.

A sound file grows by tens when it is unpacked, a bomb by thousands; and no file is read that memory cannot hold.
"""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path
from typing import Any

from aivc_graph.errors import ReadError

DECODE_BUDGET_BYTES = 2**30
# What a small file may become whatever its own size, and how many times its size a larger one.
FREE_BYTES = 2**28
MOST_TIMES = 250
MOST_LINE_BYTES = 2**24
_BLOCK = 2**14
GZIP_MAGIC = b"\x1f\x8b"


def check_budget(where: Path | str, height: int, width: int, channels: int, bytes_per_sample: int = 1) -> None:
    """Refuse a picture, tile or strip that one decoder call would unpack to more than 1 GiB.

    Raises
    ------
    ReadError
        No pixel at all, or pixels × channels above the budget.
    """
    if min(height, width, channels) < 1:
        raise ReadError(str(where), f"{width:,} × {height:,} px × {channels} channels", "at least one pixel")
    size = height * width * channels * bytes_per_sample
    if size > DECODE_BUDGET_BYTES:
        raise ReadError(
            f"{where} · header",
            f"{width:,} × {height:,} px × {channels} channels to decode in one go ({size / 2**30:,.1f} GiB)",
            f"at most {DECODE_BUDGET_BYTES / 2**30:g} GiB",
            "if the size is true, store it as a tiled pyramidal TIFF",
        )


def check_piece(where: Path | str, size: int) -> None:
    """Refuse a chunk of an array that unpacks to more than 1 GiB: it cannot be read in part."""
    if size > DECODE_BUDGET_BYTES:
        found = f"one chunk of {size / 2**30:,.1f} GiB"
        raise ReadError(str(where), found, f"at most {DECODE_BUDGET_BYTES / 2**30:g} GiB", "write it in smaller chunks")


def check_unpacked(where: Path | str, size: int, stored: int) -> None:
    """Refuse what unpacks to `size` bytes from `stored` ones where no sound file does, or memory does not hold it.

    Raises
    ------
    ReadError
        More than 256 MiB and 250 times what is stored, or more than the memory that is left.
    """
    if size > max(FREE_BYTES, MOST_TIMES * stored):
        found = f"{_shown(stored)} that unpack to {_shown(size)}"
        mend = "the file is damaged or made to harm; if its size is true, write it with less compression"
        raise ReadError(str(where), found, f"at most {MOST_TIMES} times its size", mend)
    if size > (left := _memory_left()):
        found, mend = f"{_shown(size)} when unpacked", "read it on a larger machine, or a part of it"
        raise ReadError(str(where), found, f"at most {_shown(left)}, the memory that is left", mend)


def open_text(path: Path) -> io.BufferedReader:
    """Open a text, gzipped or not, whose bytes and lines are counted while they are read.

    Raises
    ------
    ReadError
        While it is read: a line of more than 16 MiB, or more in all than `check_unpacked` lets through.
    """
    return io.BufferedReader(_Counted(path), _BLOCK)


def read_bytes(path: Path) -> bytes:
    """Return what a file holds, unpacked if gzip packed it, whatever its name; errors as for `check_unpacked`."""
    with io.BufferedReader(_Counted(path, lines=False), _BLOCK) as opened:
        return opened.read()


class _Counted(io.RawIOBase):
    def __init__(self, path: Path, *, lines: bool = True) -> None:
        self._path, self._lines = path, lines
        self._raw = path.open("rb")
        packed = self._raw.read(2) == GZIP_MAGIC
        self._raw.seek(0)
        self._source: Any = gzip.GzipFile(fileobj=self._raw) if packed else self._raw
        self._stored = os.fstat(self._raw.fileno()).st_size
        self._seen, self._judged, self._line = 0, FREE_BYTES, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        # What stands before the damage of a file that was cut off is read, so that its kind can be told.
        block: bytes = self._source.read1(len(buffer))
        buffer[: len(block)] = block
        self._seen += len(block)
        if self._seen > self._judged:
            self._judged += FREE_BYTES
            check_unpacked(self._path, self._seen, self._stored)
        end = block.rfind(b"\n")
        self._line = len(block) - 1 - end if end >= 0 else self._line + len(block)
        if self._lines and self._line > MOST_LINE_BYTES:
            found, expected = f"a line of more than {_shown(MOST_LINE_BYTES)}", "a table of shorter lines"
            raise ReadError(str(self._path), found, expected, "is it a table? Look at its first bytes")
        return len(block)

    def close(self) -> None:
        self._source.close()
        self._raw.close()
        super().close()


def _memory_left() -> int:
    """Return the bytes of memory that this machine, or this process by its limit, still has; much where unknown."""
    import resource

    try:
        meminfo = Path("/proc/meminfo").read_text()
        left = 1024 * int(meminfo.split("MemAvailable:")[1].split()[0])
    except (OSError, IndexError, ValueError):
        left = 2**62
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return left if limit == resource.RLIM_INFINITY else min(left, limit)


def _shown(size: int) -> str:
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{size:,} bytes"
