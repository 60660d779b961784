"""What an HDF5 file must not hold: pickles, opaque or reference types, and links that lead out of it."""

from __future__ import annotations

import faulthandler
import math
import os
import re
import resource
import signal
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from aivc_graph.errors import ReadError
from aivc_graph.io.decode_budget import check_piece, check_unpacked

MAX_DEPTH = 32
PROBE_S, PROBE_BYTES_PER_S = 5.0, 2e7
WAITS = 5  # times as long by the clock, should it wait for something
_PICKLE = re.compile(rb"^\x80[\x02-\x05]")


def check_hdf5(path: Path) -> None:
    """Refuse a file whose content could run code or read other files.

    Raises
    ------
    ReadError
        Not HDF5 or truncated; a link out of the file; a data set of an opaque, reference or object type that is not
        text, or of bytes that begin and end like a pickle; groups nested beyond reason; a chunk of more than 1 GiB, or
        values far beyond what the file's size can hold.
    """
    import h5py

    if path.is_file() and not h5py.is_hdf5(path):
        raise ReadError(str(path), "not an HDF5 file", mend="give one, or copy it again if it was cut off at its start")
    if path.is_file() and not _survives(path):
        found = f"content that the HDF5 library breaks on, or does not read within {_probe_s(path):.0f} s"
        raise ReadError(str(path), found, mend="copy it again from its source")
    try:
        with h5py.File(path) as file:
            check_unpacked(path, _walk(path, file, 0), path.stat().st_size)
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError) as error:  # as h5py meets damage
        raise ReadError(str(path), f"a damaged HDF5 file ({error})", mend="copy it again from its source") from error


def _survives(path: Path) -> bool:
    """Say whether a child of this process can look at all that `path` holds, and read its text, in time.

    On some damage the library never comes back, or dies, and takes with it whoever asked.
    """
    import h5py

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: the child touches nothing of theirs
        pid = os.fork()
    if pid == 0:
        try:
            faulthandler.disable()  # how it dies is nobody's matter
            # Of the processor, not of the clock: on a busy machine a sound file takes long as well.
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(_probe_s(path)), resource.RLIM_INFINITY))
            with h5py.File(path) as file:
                _look(file)
        finally:
            os._exit(0)
    until, (done, status) = time.monotonic() + WAITS * _probe_s(path), (0, 0)
    while not done and time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        time.sleep(0 if done else 0.001)
    if not done:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return bool(done) and not os.WIFSIGNALED(status)


def _probe_s(path: Path) -> float:
    return PROBE_S + path.stat().st_size / PROBE_BYTES_PER_S


def _look(group: Any, depth: int = 0) -> None:
    """Read the text and count the chunks of all below `group`, past what raises: what lies behind it may hang."""
    import h5py

    with suppress(Exception):
        for name in group:
            with suppress(Exception):
                item = group[name]
                with suppress(Exception):
                    dict(item.attrs)
                if isinstance(item, h5py.Group):
                    if depth < MAX_DEPTH:
                        _look(item, depth + 1)
                elif h5py.check_string_dtype(item.dtype) is not None:
                    item[()]
                elif item.chunks is not None:
                    item.id.get_num_chunks()


def _walk(path: Path, group: Any, depth: int) -> int:
    """Check all that is below `group`, and return its size in memory in bytes."""
    import h5py

    if depth > MAX_DEPTH:
        raise ReadError(f"{path} · {group.name:.60}", f"groups nested more than {MAX_DEPTH} deep", "a plain tree")

    size = 0
    for name in group:
        where = f"{path} · {group.name.rstrip('/')}/{name}"
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise ReadError(
                where, "a link to another file", "data inside this file", "write the file anew without links"
            )
        if isinstance(link, h5py.SoftLink):  # another name for what is visited anyway
            continue
        item = group[name]
        if isinstance(item, h5py.Group):
            size += _walk(path, item, depth + 1)
        elif isinstance(item, h5py.Dataset):
            _check_dataset(where, item)
            size += 0 if item.shape is None else int(item.nbytes)
    return size


def _check_dataset(where: str, item: Any) -> None:
    import h5py

    if item.shape is None:
        return
    kind = item.dtype
    if item.external or item.is_virtual:
        raise ReadError(where, "data kept in another file", "data inside this file", "write the file anew in one piece")
    if item.chunks is not None:
        check_piece(where, math.prod(item.chunks) * kind.itemsize)
    text = h5py.check_string_dtype(kind) is not None
    if kind.fields is None and (kind.kind == "V" or (kind.kind == "O" and not text)):
        raise ReadError(
            where,
            f"values of type {kind}",
            "numbers or text",
            "objects and pickles are never read: write plain columns",
        )
    if not (text or kind.kind in "Su" or kind.str == "|i1") or item.size == 0:
        return
    if _is_pickle(item):
        raise ReadError(where, "a pickle", "numbers or text", "objects and pickles are never read: write plain columns")


def _is_pickle(item: Any) -> bool:
    """A pickle starts with its protocol and ends with a full stop, as one string or as a row of bytes."""
    if item.dtype.kind in "SO":
        value = item[()] if item.shape == () else item[(0,) * item.ndim]
        data = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
        return bool(_PICKLE.match(data))
    if item.ndim != 1 or item.dtype.itemsize != 1 or item.size < 3:
        return False
    return bool(_PICKLE.match(bytes(item[:2]))) and bytes(item[-1:]) == b"."


def hdf5_names(path: Path) -> set[str]:
    """Return the names at the top of an HDF5 file; none where `path` is no HDF5 file that can be opened."""
    import h5py

    if not path.is_file() or not h5py.is_hdf5(path):
        return set()
    try:
        with h5py.File(path) as file:
            return set(file)
    except (OSError, KeyError, RuntimeError):
        return set()
