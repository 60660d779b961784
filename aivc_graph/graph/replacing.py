"""Replace a folder as one act: written beside its name, locked, synced, and swapped in when complete."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aivc_graph.errors import StoreError

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `path` when the block ends well.

    Until then, and whatever happens, `path` holds its old content. What an earlier, killed writer left is removed.

    Raises
    ------
    StoreError
        If something else than a graph store stands there, another process writes here, or the file system refuses, as
        when the disk is full.
    """
    path = Path(os.path.abspath(path))
    refuse_other(path)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path):
            recover(path)
            for left in (*path.parent.glob(f".{path.name}.tmp-*"), *path.parent.glob(f".{path.name}.old-*")):
                shutil.rmtree(left)
            try:
                temporary.mkdir()
                yield temporary
                _sync(temporary)
                _swap(temporary, path)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        found = f"{error.strerror or error} while writing"
        raise StoreError(
            str(path), found, mend="what was there before is intact; free space or choose another place"
        ) from error


def refuse_other(path: Path) -> None:
    """Raise a `StoreError` if `path` holds anything but a graph store: a user's file or folder is never replaced."""
    store = path.is_dir() and (path / "levels").is_dir() and (path / "zarr.json").is_file()
    if store or not os.path.lexists(path) or (path.is_dir() and not path.is_symlink() and not any(path.iterdir())):
        return
    found = "a folder with other files" if path.is_dir() else "a file"
    raise StoreError(str(path), found, "nothing, or a graph store to replace", "name another place, or move it away")


def recover(path: Path) -> None:
    """Put back the old content if a writer was killed between the two renames of a swap."""
    if not path.exists():
        for old in path.parent.glob(f".{path.name}.old-*"):
            old.rename(path)
            return


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file of `path`; the kernel lets go of it when its owner dies, so a stale file locks nobody out."""
    lock = path.with_name(f".{path.name}.lock")
    handle = _seize(path, lock)
    try:
        owner = _owner(os.read(handle, 4096))
        if owner.get("host", socket.gethostname()) != socket.gethostname():
            raise _held(path, lock, owner)
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "time": now}).encode(), 0)
        try:
            yield
        finally:
            lock.unlink()
    finally:
        os.close(handle)


def _seize(path: Path, lock: Path) -> int:
    """Return a handle that holds the lock on the file that now bears the lock's name."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if lock.exists() and os.path.samestat(os.fstat(handle), lock.stat()):
                return handle
        except BlockingIOError:
            owner = _owner(os.read(handle, 4096))
            os.close(handle)
            raise _held(path, lock, owner) from None
        # Its last owner took the file away between our opening and locking it.
        os.close(handle)


def _held(path: Path, lock: Path, owner: dict[str, str]) -> StoreError:
    who = f"process {owner.get('pid', '?')} on {owner.get('host', '?')} since {owner.get('time', '?')}"
    return StoreError(
        str(path), f"being written by {who}", mend=f"wait for it; if it is dead for certain, delete {lock.name}"
    )


def _owner(content: bytes) -> dict[str, str]:
    try:
        owner = json.loads(content or b"{}")
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _swap(new: Path, path: Path) -> None:
    """Give `new` the name `path`; what had it is removed afterwards."""
    if not path.exists():
        new.rename(path)
    elif not _exchange(new, path):
        old = path.with_name(f".{path.name}.old-{os.getpid()}")
        path.rename(old)
        new.rename(path)
        shutil.rmtree(old)
    _sync_one(path.parent)


def _exchange(new: Path, path: Path) -> bool:
    """Swap two names in one step where the system can; afterwards `new` holds the old content."""
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    return call is not None and call(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(path), _RENAME_EXCHANGE) == 0


def _sync(folder: Path) -> None:
    for place, _, files in os.walk(folder):
        for name in files:
            _sync_one(Path(place, name))
        _sync_one(Path(place))


def _sync_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
