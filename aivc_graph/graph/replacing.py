"""Replace a graph store as one act, and nothing that is none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aivc_graph.atomic import staged
from aivc_graph.errors import StoreError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of the store `path` when the block ends well.

    Raises
    ------
    StoreError
        If something else than a graph store stands there, and as for `staged`.
    """
    refuse_other(path)
    with staged(path) as folder:
        folder.mkdir()
        yield folder


def refuse_other(path: Path) -> None:
    """Raise a `StoreError` if `path` holds anything but a graph store: a user's file or folder is never replaced."""
    store = path.is_dir() and (path / "levels").is_dir() and (path / "zarr.json").is_file()
    if store or not os.path.lexists(path) or (path.is_dir() and not path.is_symlink() and not any(path.iterdir())):
        return
    found = "a folder with other files" if path.is_dir() else "a file"
    raise StoreError(str(path), found, "nothing, or a graph store to replace", "name another place, or move it away")
