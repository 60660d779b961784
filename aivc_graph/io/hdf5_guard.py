"""What an HDF5 file must not hold: pickles, opaque or reference types, and links that lead out of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from aivc_graph.errors import ReadError

MAX_DEPTH = 32
_PICKLE = re.compile(rb"^\x80[\x02-\x05]")


def check_hdf5(path: Path) -> None:
    """Refuse a file whose content could run code or read other files.

    Raises
    ------
    ReadError
        Not HDF5 or truncated; a link out of the file; a data set of an opaque, reference or object type that is not
        text, or of bytes that begin and end like a pickle; groups nested beyond reason.
    """
    import h5py

    if path.is_file() and not h5py.is_hdf5(path):
        raise ReadError(str(path), "not an HDF5 file", mend="give one, or copy it again if it was cut off at its start")
    try:
        with h5py.File(path) as file:
            _walk(path, file, 0)
    except (OSError, KeyError, RuntimeError, ValueError, OverflowError) as error:
        raise ReadError(str(path), f"a damaged HDF5 file ({error})", mend="copy it again from its source") from error


def _walk(path: Path, group: Any, depth: int) -> None:
    import h5py

    if depth > MAX_DEPTH:
        raise ReadError(f"{path} · {group.name:.60}", f"groups nested more than {MAX_DEPTH} deep", "a plain tree")

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
            _walk(path, item, depth + 1)
        elif isinstance(item, h5py.Dataset):
            _check_dataset(where, item)


def _check_dataset(where: str, item: Any) -> None:
    import h5py

    if item.shape is None:
        return
    kind = item.dtype
    if item.external or item.is_virtual:
        raise ReadError(where, "data kept in another file", "data inside this file", "write the file anew in one piece")
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
