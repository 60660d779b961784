"""Refuse a Zarr store that could run code or reach outside its folder, before any of it is read."""

from __future__ import annotations

import json
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

_METADATA = ("zarr.json", ".zarray", ".zmetadata", "zmetadata")
_MAX_METADATA_BYTES = 2**28


def check_zarr_folder(path: Path) -> None:
    """Raise a `ReadError` that lists every link, key with ``..`` and pickled array in the store at `path`.

    Strings and bytes of variable length are stored under their own codecs and pass; anything that unpickles when read
    is refused. Judged by content: by the metadata files themselves, and by the consolidated metadata of the root.
    """
    faults = Faults(ReadError)
    for folder, folders, files in os.walk(path, followlinks=False):
        for name in (*folders, *files):
            entry = Path(folder, name)
            if entry.is_symlink():
                faults.add(
                    str(entry), "a link", "files and folders of the store itself", "copy the store with its content"
                )
            elif not (entry.is_dir() or stat.S_ISREG(entry.stat().st_mode)):
                faults.add(str(entry), "neither a file nor a folder", "files and folders")
            elif name in _METADATA:
                _check_metadata(str(entry), entry.stat().st_size, entry.read_bytes, faults)
    faults.raise_if_any()


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
    faults = Faults(ReadError)
    with ZipFile(path) as archive:
        for member in archive.infolist():
            if PurePosixPath(member.filename).name in _METADATA:
                where = f"{path} · {member.filename}"
                _check_metadata(where, member.file_size, partial(archive.read, member), faults)
    faults.raise_if_any()


def _check_metadata(where: str, size: int, read: Callable[[], bytes], faults: Faults) -> None:
    if size > _MAX_METADATA_BYTES:
        faults.add(where, f"{size:,} bytes of metadata", f"at most {_MAX_METADATA_BYTES:,}")
        return
    try:
        metadata = json.loads(read())
    except (ValueError, RecursionError, BadZipFile, zlib.error) as error:
        faults.add(where, f"text that is not JSON ({error})", "Zarr metadata", "copy the store again")
        return
    for key in _consolidated_keys(metadata):
        if _leaves(key):
            faults.add(f"{where} · key {key!r}", "a key that leaves the store", "keys without '..'")
    for array in _arrays(metadata):
        codecs = json.dumps([array.get(part) for part in ("filters", "compressor", "codecs")]).lower()
        if "pickle" in codecs:
            faults.add(where, "an array stored as pickle, which runs code when read", "numbers or text")
        elif array.get("dtype") in ("|O", "object") and not array.get("filters"):
            faults.add(where, "an array of Python objects without a text codec", "numbers or text")


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
