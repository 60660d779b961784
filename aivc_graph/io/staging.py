"""Where something is to be written: tried before the work, and under names that every file system takes."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from aivc_graph.errors import StoreError

OTHER = "free space, or choose another place"


def check_place(path: Path, *, folder: bool = False) -> None:
    """Raise a `StoreError` now if `path` could not be written later: before hours of work, not after.

    What lies there already is not touched; folders above it that are missing are not made yet.

    Parameters
    ----------
    folder
        A folder is to be written there, or files into it.
    """
    place = Path(os.path.realpath(path))  # a link may lead to what is yet to be made
    above = next(one for one in (place, *place.parents) if os.path.lexists(one))
    if above == place and not folder:
        above = above.parent
    try:
        tempfile.TemporaryFile(dir=above).close()
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
