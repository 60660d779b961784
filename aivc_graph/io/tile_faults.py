"""Which tiles of which slide could not be decoded: named, counted, and too many of them refused."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from aivc_graph.errors import ReadError
from aivc_graph.tissue.doubt import tell

MAX_FAULTY = 0.05

_faults: dict[Path, dict[tuple[int, int], TileFault]] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class TileFault:
    """One tile that cannot be decoded: its file, page (from 0), number in the page (from 0) and the codec's reason."""

    path: Path
    page: int
    tile: int
    reason: str

    def __str__(self) -> str:
        return f"page {self.page}, tile {self.tile}: {self.reason}"


def tile_faults(path: Path) -> list[TileFault]:
    """Return the tiles of `path` met so far that cannot be decoded, in order of page and tile.

    Examples
    --------
    >>> tile_faults(Path("never-opened.svs"))
    []
    """
    with _lock:
        found = _faults.get(path.resolve(), {})
        return [found[key] for key in sorted(found)]


def forget_tile_faults(path: Path) -> None:
    """Start the count of `path` anew, as when it is opened again."""
    with _lock:
        _faults.pop(path.resolve(), None)


def note_tile_fault(fault: TileFault, n_tiles: int) -> ReadError:
    """Put `fault` in quarantine and return the error to raise in place of its pixels.

    Parameters
    ----------
    n_tiles
        Tiles of the whole resolution level; above 5 % of them the error says to stop.
    """
    with _lock:
        found = _faults.setdefault(fault.path.resolve(), {})
        new = (fault.page, fault.tile) not in found
        found[fault.page, fault.tile] = fault
        count = len(found)
    if new:
        tell(f"{fault.path} · {fault}; tiles in quarantine: {count} of {n_tiles}")
    where = f"{fault.path} · page {fault.page}, tile {fault.tile}"
    if count > MAX_FAULTY * n_tiles:
        share = f"{count:,} of {n_tiles:,} tiles that cannot be decoded ({fault.reason})"
        return ReadError(
            where, share, f"at most {MAX_FAULTY:.0%}", "the slide is damaged: copy it again from its source"
        )
    return ReadError(
        where, f"cannot be decoded ({fault.reason})", mend="leave this part of the slide out, or copy the file again"
    )
