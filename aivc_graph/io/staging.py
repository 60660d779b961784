"""Write beside the final name, rename when complete: what was there before survives whatever goes wrong."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aivc_graph.errors import StoreError

OTHER = "free space, or choose another place"


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yield a name beside `path` to write a file or folder to; it becomes `path` when the block ends well.

    Raises
    ------
    StoreError
        If a folder would be replaced by a file, or the file system refuses, as when the disk is full; the message says
        that the old version is intact.
    """
    beside = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(beside)
        yield beside
        if path.is_dir() and not beside.is_dir():
            raise StoreError(str(path), "a folder", "a file, or nothing yet", "name another file, or move the folder")
        if path.is_dir():
            old = path.with_name(f".old-{os.getpid()}-{path.name}")
            path.rename(old)
            beside.rename(path)
            _remove(old)
        else:
            beside.replace(path)
    except OSError as error:
        found = f"{error.strerror or error} while writing"
        raise StoreError(
            str(path), found, mend="what was there before is intact; free space or choose another place"
        ) from error
    finally:
        _remove(beside)


def check_place(path: Path, *, folder: bool = False) -> None:
    """Raise a `StoreError` now if `path` could not be written later: before hours of work, not after.

    What lies there already is not touched; folders above it that are missing are not made yet.

    Parameters
    ----------
    folder
        A folder is to be written there, or files into it.
    """
    above = next(place for place in (path.absolute(), *path.absolute().parents) if os.path.lexists(place))
    if above == path.absolute() and not folder:
        above = above.parent
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".aivc-", dir=above))
        if not folder and path.is_dir() and not (path / "zarr.json").exists():
            raise StoreError(str(path), "a folder", "a file, or nothing yet", "name another file, or move the folder")
    except OSError as error:
        raise StoreError(str(path), f"{error.strerror or error}: nothing can be written there", mend=OTHER) from error


def file_name(name: str) -> str:
    """Return `name` without what a file system would take for a path: ``A/1`` becomes ``A_1``."""
    return "".join(c if c.isalnum() or c in "-_. ()+" else "_" for c in name).strip(". ") or "_"


def file_names(names: Iterable[str]) -> list[str]:
    """Return a file name for each of `names`, no two the same, also where the file system ignores case."""
    taken: set[str] = set()
    found = []
    for stem in map(file_name, names):
        tries = itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2)))
        name = next(name for name in tries if name.casefold() not in taken)
        taken.add(name.casefold())
        found.append(name)
    return found


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        path.unlink()
