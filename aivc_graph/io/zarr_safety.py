"""Refuse a Zarr store that could run code or reach outside its folder, before any of it is read."""

from __future__ import annotations

import json
import math
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import BadZipFile, ZipFile

from aivc_graph.errors import Faults, ReadError
from aivc_graph.io.decode_budget import check_piece, check_unpacked

_METADATA = ("zarr.json", ".zarray", ".zmetadata", "zmetadata")
_MAX_METADATA_BYTES = 2**28
# What SpatialData leaves on the disk until somebody looks.
_LAZY = ("images", "labels", "points")


def check_zarr_folder(path: Path) -> None:
    """Raise a `ReadError` that lists every link, key with ``..`` and pickled or outsized array in the store at `path`.

    Strings and bytes of variable length are stored under their own codecs and pass; anything that unpickles when read
    is refused. Judged by content: by the metadata files themselves, and by the consolidated metadata of the root.
    """
    faults = Faults(ReadError)
    stored, unpacked = 0, 0
    for folder, folders, files in os.walk(path, followlinks=False):
        lazy = any(part in _LAZY for part in Path(folder).relative_to(path).parts)
        for name in (*folders, *files):
            entry = Path(folder, name)
            if entry.is_symlink():
                faults.add(
                    str(entry), "a link", "files and folders of the store itself", "copy the store with its content"
                )
            elif not (entry.is_dir() or stat.S_ISREG(entry.stat().st_mode)):
                faults.add(str(entry), "neither a file nor a folder", "files and folders")
                continue
            stored += entry.stat().st_size if entry.is_file() else 0
            if name in _METADATA:
                size = _check_metadata(str(entry), entry.stat().st_size, entry.read_bytes, faults)
                unpacked += 0 if lazy else size
    faults.raise_if_any()
    check_unpacked(path, unpacked, stored)


def check_zip_members(path: Path) -> None:
    """Raise a `ReadError` that lists every member of a ZIP which, once unpacked, would lie outside its folder."""
    faults = Faults(ReadError)
    try:
        with ZipFile(path) as archive:
            members = archive.infolist()
    except (BadZipFile, OSError) as error:
        raise ReadError(str(path), f"a damaged ZIP ({error})", mend="copy it again from its source") from error
    for member in members:
        if _leaves(member.filename):
            faults.add(f"{path} · {member.filename!r}", "a member outside the archive's own folder", "plain names")
        if stat.S_ISLNK(member.external_attr >> 16):
            faults.add(f"{path} · {member.filename!r}", "a link", "files")
    faults.raise_if_any()


def check_zarr_zip(path: Path) -> None:
    """Raise a `ReadError` as `check_zarr_folder` does, of a store that lies in a ZIP."""
    check_zip_members(path)
    faults, unpacked = Faults(ReadError), 0
    with ZipFile(path) as archive:
        for member in archive.infolist():
            if PurePosixPath(member.filename).name in _METADATA:
                where = f"{path} · {member.filename}"
                unpacked += _check_metadata(where, member.file_size, partial(archive.read, member), faults)
    faults.raise_if_any()
    check_unpacked(path, unpacked, path.stat().st_size)


def _check_metadata(where: str, size: int, read: Callable[[], bytes], faults: Faults) -> int:
    """Check one file of metadata, and return the size in memory of the array that it is of, 0 if it is of none."""
    if size > _MAX_METADATA_BYTES:
        faults.add(where, f"{size:,} bytes of metadata", f"at most {_MAX_METADATA_BYTES:,}")
        return 0
    try:
        metadata = json.loads(read())
    except (ValueError, RecursionError, BadZipFile, zlib.error) as error:
        faults.add(where, f"text that is not JSON ({error})", "Zarr metadata", "copy the store again")
        return 0
    for key in _consolidated_keys(metadata):
        if _leaves(key):
            faults.add(f"{where} · key {key!r}", "a key that leaves the store", "keys without '..'")
    for array in _arrays(metadata):
        codecs = json.dumps([array.get(part) for part in ("filters", "compressor", "codecs")]).lower()
        if "pickle" in codecs:
            faults.add(where, "an array stored as pickle, which runs code when read", "numbers or text")
        elif array.get("dtype") in ("|O", "object") and not array.get("filters"):
            faults.add(where, "an array of Python objects without a text codec", "numbers or text")
    if not isinstance(metadata, dict) or not where.endswith(("zarr.json", ".zarray")):
        return 0
    grid = metadata.get("chunk_grid")
    piece = grid.get("configuration", {}).get("chunk_shape") if isinstance(grid, dict) else metadata.get("chunks")
    try:
        check_piece(where, _bytes_of(piece, metadata))
        return _bytes_of(metadata.get("shape"), metadata)
    except ReadError as error:
        faults.messages.append(str(error))
    except (TypeError, ValueError, AttributeError):
        faults.add(where, "a shape or data type that cannot be read", "Zarr metadata", "copy the store again")
    return 0


def _bytes_of(shape: Any, metadata: dict[str, Any]) -> int:
    """Return the size in memory of an array or chunk of `shape`; text and the like count as pointers."""
    if shape is None:
        return 0
    kind = metadata.get("data_type", metadata.get("dtype"))
    found = re.search(r"(\d+)$", kind) if isinstance(kind, str) else None
    width = 8 if found is None else int(found[1]) // (8 if "data_type" in metadata else 1)
    return max(width, 1) * math.prod(int(n) for n in shape)


def _consolidated_keys(metadata: Any) -> list[str]:
    if not isinstance(metadata, dict):
        return []
    consolidated = metadata.get("consolidated_metadata") or metadata
    inner = consolidated.get("metadata") if isinstance(consolidated, dict) else None
    return list(inner) if isinstance(inner, dict) else []


def _arrays(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every piece of metadata, at any depth, that describes an array."""
    pending = [node]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            if "codecs" in item or "compressor" in item:
                yield item
            pending.extend(item.values())


def _leaves(key: str) -> bool:
    parts = PurePosixPath(key.replace("\\", "/"))
    return parts.is_absolute() or ".." in parts.parts or re.match(r"[A-Za-z]:(/|$)", str(parts)) is not None
