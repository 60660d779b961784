"""Remember the features of tiles by their content."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)


class TileCache:
    """Features of tiles in one Parquet file a kind of features; rows are found by the tile's own bytes.

    Parameters
    ----------
    folder
        Where the files lie; made if need be. `None` remembers nothing.
    key
        Bytes that stand for everything but the tile: settings, stains, version.
    feature_names
        Names of the features, in order.
    """

    def __init__(self, folder: Path | None, key: bytes, feature_names: tuple[str, ...]) -> None:
        digest = hashlib.blake2b(key + "\n".join(feature_names).encode(), digest_size=16).hexdigest()
        self._path = None if folder is None else folder / f"histology-{digest}.parquet"
        self._names = list(feature_names)
        self._rows: dict[str, NDArray[np.float32]] = self._read()
        self._fresh = False

    @staticmethod
    def name(tile: NDArray[np.uint8]) -> str:
        """Return the content hash of a tile."""
        return hashlib.blake2b(tile.tobytes(), digest_size=16).hexdigest()

    def get(self, name: str) -> NDArray[np.float32] | None:
        """Return the features of the tile called `name`, or `None`."""
        return self._rows.get(name)

    def put(self, name: str, features: NDArray[np.float32]) -> None:
        """Remember the features of the tile called `name`."""
        self._rows[name] = features
        self._fresh = True

    def save(self) -> None:
        """Write what is new, beside the final name and then in its place; where that fails, say so and go on."""
        if self._path is None or not self._fresh:
            return
        import pyarrow as pa
        from pyarrow import parquet

        values = np.array(list(self._rows.values()), np.float32)
        columns: dict[str, Any] = {"tile": list(self._rows), **dict(zip(self._names, values.T, strict=True))}
        part = self._path.with_suffix(f".{os.getpid()}.part")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            parquet.write_table(pa.table(columns), part, write_page_checksum=True)
            part.replace(self._path)
        except OSError as error:
            log.warning("%s: cannot be written, tiles are not remembered (%s)", self._path, error.strerror or error)
        finally:
            with contextlib.suppress(OSError):
                part.unlink()

    def _read(self) -> dict[str, NDArray[np.float32]]:
        if self._path is None or not self._path.exists():
            return {}
        import pyarrow as pa
        from pyarrow import parquet

        try:
            table = parquet.read_table(self._path, page_checksum_verification=True)
            values = np.column_stack([table[name].to_numpy() for name in self._names]).astype(np.float32)
            return dict(zip(table["tile"].to_pylist(), values, strict=True))
        except (pa.ArrowException, OSError, KeyError) as error:
            log.warning("%s: damaged cache set aside, features are computed anew (%s)", self._path, error)
            return {}
