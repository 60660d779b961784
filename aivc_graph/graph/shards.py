"""The files of a Zarr folder: what they may hold, their checksums, and reading them in pieces."""

from __future__ import annotations

import json
import os
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from aivc_graph.errors import Faults, StoreError

_ROOT = "zarr.json"
_DTYPES = {
    "bool",
    "string",
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
    "float32",
    "float64",
}
_CODECS = {"bytes", "blosc", "zstd", "gzip", "crc32c", "transpose", "vlen-utf8", "sharding_indexed"}


def checksums(folder: Path) -> dict[str, int]:
    """Return the CRC-32 of every file below `folder`, by its key; the root's own metadata is left out."""
    return {key: zlib.crc32((folder / key).read_bytes()) for key in sorted(_keys(folder)) if key != _ROOT}


def refuse_foreign(folder: Path) -> None:
    """Refuse links, Zarr v2 arrays and any data type or codec that plain numbers and text do not need.

    Raises
    ------
    StoreError
        All faults at once, each naming its file.
    """
    faults = Faults(StoreError)
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if Path(place, name).is_symlink():
                faults.add(str(Path(place, name)), "a link", "plain files", "copy the store with its links resolved")
        if ".zarray" in files:
            faults.add(str(Path(place, ".zarray")), "a Zarr v2 array", "Zarr v3")
        if _ROOT in files and not Path(place, _ROOT).is_symlink():
            _refuse_contents(Path(place, _ROOT), faults)
    faults.raise_if_any()


def _refuse_contents(path: Path, faults: Faults) -> None:
    try:
        described = json.loads(path.read_bytes())
        if described["node_type"] != "array":
            return
        dtype, codecs = described["data_type"], [codec["name"] for codec in described["codecs"]]
    except (ValueError, KeyError, TypeError):
        faults.add(str(path), "unreadable metadata", "the JSON of a Zarr v3 group or array", "restore the store")
        return
    if dtype not in _DTYPES:
        faults.add(str(path), f"data type {dtype!r}", "numbers or text; objects could carry code")
    for codec in codecs:
        if codec not in _CODECS:
            faults.add(str(path), f"codec {codec!r}", f"one of {', '.join(sorted(_CODECS))}")


def _keys(folder: Path) -> Iterator[str]:
    for place, _, files in os.walk(folder):
        yield from (Path(place, name).relative_to(folder).as_posix() for name in files)


class CheckedStore(LocalStore):
    """A folder of Zarr files that compares each one with its checksum while it is read.

    Parameters
    ----------
    folder
        Root of the Zarr hierarchy.
    sums
        Key → CRC-32, as `checksums` returns it.

    Raises
    ------
    StoreError
        While reading: names the file that is damaged, missing or not part of the store.
    """

    def __init__(self, folder: Path, sums: dict[str, int]) -> None:
        super().__init__(folder, read_only=True)
        self._sums = sums

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the content of `key` once its checksum was found right."""
        content = await super().get(key, prototype, byte_range)
        if key == _ROOT or (content is None and key not in self._sums):
            return content
        where, mend = (
            str(Path(self.root) / key),
            "the store was damaged, or replaced since it was opened: open or build it again",
        )
        if content is None:
            raise StoreError(where, "no such shard", mend=mend)
        if key not in self._sums:
            raise StoreError(where, "a file that is not part of the store", mend="remove it")
        if byte_range is None and zlib.crc32(content.as_numpy_array().data) != self._sums[key]:
            raise StoreError(where, "a shard that does not match its checksum", mend=mend)
        return content


class ShardCache:
    """Decoded chunks of arrays, the least recently used dropped first.

    Parameters
    ----------
    max_bytes
        Most memory the chunks may take.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = 0
        self._chunks: OrderedDict[tuple[str, int], NDArray[Any]] = OrderedDict()

    def runs(self, array: zarr.Array[Any], starts: NDArray[np.int64], stops: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of all runs ``[start, stop)`` along the first axis, one after another."""
        out = np.empty((int((stops - starts).sum()), *array.shape[1:]), array.dtype)
        step, filled = array.chunks[0], 0
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            while start < stop:
                number = start // step
                end = min(stop, (number + 1) * step)
                first = number * step
                out[filled : filled + end - start] = self._chunk(array, number)[start - first : end - first]
                filled, start = filled + end - start, end
        return out

    def _chunk(self, array: zarr.Array[Any], number: int) -> NDArray[Any]:
        key = (array.path, number)
        if key in self._chunks:
            self._chunks.move_to_end(key)
            return self._chunks[key]
        step = array.chunks[0]
        chunk = np.asarray(array[number * step : (number + 1) * step])
        self._chunks[key] = chunk
        self._held += chunk.nbytes
        while self._held > self._max_bytes and len(self._chunks) > 1:
            self._held -= self._chunks.popitem(last=False)[1].nbytes
        return chunk
