"""Files and folders that change as one: written beside their name, locked, synced, and swapped in when complete.

Whoever reads a name sees the old content or the new, also after a kill at any instant. What a killed writer left lies
under names that the next writer of the same name takes away; as it holds the lock, they are no live writer's.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aivc_graph.errors import StoreError

INTACT = "what was there before is intact; free space or choose another place"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_WAIT_S = 2.0
# A folder that cannot be moved, or whose other content cannot be linked: what is new goes in piece by piece.
_FIXED = (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EBUSY, errno.EMLINK, errno.ENOTSUP)


@contextmanager
def staged(path: Path, *, drop: Collection[str] | None = None) -> Iterator[Path]:
    """Yield a name beside `path` to write a file or folder to; it becomes `path` when the block ends well.

    Until then, and whatever happens, `path` holds its old content.

    Parameters
    ----------
    drop
        Of a folder: names in the old one that the new one does not take over. By default it takes over nothing.

    Raises
    ------
    StoreError
        If another process writes there, a folder would be replaced by a file, or the file system refuses, as when the
        disk is full; the message says that the old version is intact.
    """
    path = Path(os.path.realpath(path))
    beside = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path):
            if path.is_symlink():
                raise OSError(errno.ELOOP, "a link that leads in circles", str(path))
            _put_back(path)
            _remove(beside)
            try:
                yield beside
                if path.is_dir() and not beside.is_dir():
                    mend = "name another file, or move the folder"
                    raise StoreError(str(path), "a folder", "a file, or nothing yet", mend)
                swap(beside, path, drop)
            finally:
                _remove(beside)
    except OSError as error:
        if not about(error, path):
            raise
        raise StoreError(str(path), f"{error.strerror or error} while writing", mend=INTACT) from error


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file as one; who calls holds the lock of what the file belongs to."""
    beside = _beside(path)
    try:
        with beside.open("wb") as opened:
            opened.write(content.encode() if isinstance(content, str) else content)
            opened.flush()
            os.fsync(opened.fileno())
        beside.replace(path)
    except OSError:
        with suppress(OSError):
            _remove(beside)
        raise


def swap(new: Path, path: Path, drop: Collection[str] | None = None) -> None:
    """Give the complete file or folder `new` the name `path`, which the caller has locked; `drop` as for `staged`."""
    _sync(new)
    if not path.is_dir():
        new.replace(path)
    elif drop is None:
        _exchange(new, path)
    else:
        own = set(os.listdir(new))
        try:
            if path in (Path.cwd(), *Path.cwd().parents):
                raise OSError(errno.EBUSY, "the working folder", str(path))
            if path in new.parents:
                new = new.rename(_beside(path))
            _take_over(path, new, drop)
            _exchange(new, path)
        except OSError as error:
            if error.errno not in _FIXED:
                raise
            for name in set(os.listdir(new)) - own:
                _remove(new / name)
            _move_into(new, path, drop)
    with suppress(OSError):  # it has happened, whether or not the disk says so
        _sync_one(path.parent)


def recover(path: Path) -> None:
    """Put back the old content if a writer was killed between the two renames of a swap; wait if one lives."""
    path = Path(os.path.realpath(path))
    until = time.monotonic() + _WAIT_S
    while _old(path).exists() and not os.path.lexists(path) and time.monotonic() < until:
        try:
            with locked(path):
                _put_back(path)
        except (StoreError, OSError):
            time.sleep(0.01)


def leftover(path: Path) -> Path | None:
    """Return the folder that a killed writer of `path`, which the caller has locked, left beside it."""
    _put_back(path)
    return _beside(path) if _beside(path).is_dir() else None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file of `path`; the kernel lets go of it when its owner dies, so a stale file locks nobody out."""
    path = Path(os.path.realpath(path))
    lock = _lock(path)
    handle = _seize(path, lock)
    try:
        owner = _owner(os.read(handle, 4096))
        if owner.get("host", socket.gethostname()) != socket.gethostname():
            raise _held(path, lock, owner)
        try:
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "time": now}).encode(), 0)
            yield
        finally:
            if _still(handle, lock):
                lock.unlink()
    finally:
        os.close(handle)


def _seize(path: Path, lock: Path) -> int:
    """Return a handle that holds the lock on the file that now bears the lock's name."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _still(handle, lock):
                return handle
        except BlockingIOError:
            owner = _owner(os.read(handle, 4096))
            os.close(handle)
            raise _held(path, lock, owner) from None
        # Its last owner took the file away between our opening and locking it.
        os.close(handle)


def _still(handle: int, lock: Path) -> bool:
    """Say whether the open file still bears its name: an owner, or the folder around it, may have gone."""
    try:
        return os.path.samestat(os.fstat(handle), lock.stat())
    except FileNotFoundError:
        return False


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


def about(error: OSError, path: Path) -> bool:
    """Say whether an error tells of what is written to `path`, not of an input that cannot be read."""
    if not isinstance(error.filename, str | bytes):
        return True
    place = Path(os.path.realpath(os.fsdecode(error.filename)))
    own = {path, _beside(path), _old(path), _lock(path)}
    return place in path.parents or not own.isdisjoint((place, *place.parents))


def _beside(path: Path) -> Path:
    return path.with_name(f".tmp-{path.name}")


def _lock(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _old(path: Path) -> Path:
    return path.with_name(f".old-{path.name}")


def _put_back(path: Path) -> None:
    """Undo half a swap, or finish a whole one; the caller has locked `path`."""
    if _old(path).exists():
        _remove(_old(path)) if os.path.lexists(path) else _old(path).rename(path)


def _exchange(new: Path, path: Path) -> None:
    """Swap two folders in one step where the system can, else in two; then take the old one away."""
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    names = os.fsencode(new), os.fsencode(path)
    if call is None or call(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) != 0:
        path.rename(_old(path))
        new.rename(path)
    _remove(_old(path))
    _remove(new)


def _take_over(old: Path, new: Path, drop: Collection[str]) -> None:
    """Give a new folder what else lies in the old one, by hard links; writers at work in it are left alone."""
    with os.scandir(old) as scan:
        there = list(scan)
    for entry in there:
        if entry.name in drop or entry.name.startswith((".tmp-", ".old-")) or entry.name.endswith(".lock"):
            continue
        if os.path.lexists(new / entry.name):
            continue
        if not entry.is_dir(follow_symlinks=False):
            os.link(entry.path, new / entry.name, follow_symlinks=False)
            continue
        if os.lstat(entry.path).st_dev != os.lstat(new).st_dev:
            raise OSError(errno.EXDEV, "another file system", entry.path)
        (new / entry.name).mkdir()
        _take_over(Path(entry.path), new / entry.name, ())


def _move_into(new: Path, path: Path, drop: Collection[str]) -> None:
    """Put what lies in `new` into `path` one by one, for a folder that can only be changed in place."""
    for name in drop:
        if not os.path.lexists(new / name):
            _remove(path / name)
    for entry in sorted(new.iterdir(), key=lambda entry: entry.stat().st_mtime_ns):  # what vouches for the rest last
        if entry.is_dir() and (path / entry.name).is_dir():
            _exchange(entry, path / entry.name)
        else:
            entry.replace(path / entry.name)
    _remove(new)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        path.unlink()


def _sync(path: Path) -> None:
    for place, _, files in os.walk(path):
        for name in files:
            if not Path(place, name).is_symlink():
                _sync_one(Path(place, name))
    _sync_one(path)


def _sync_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
