"""10x's count matrix in HDF5, one compressed column a barcode, written whole or block by block."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.simulate.counts import Counts

CHUNK: Final = 1 << 16


class MatrixFile:
    """A ``*_feature_bc_matrix.h5`` that grows by blocks of barcodes; equal blocks give equal bytes.

    What is in memory is one block. Use as a context: what closes it writes the shape.

    Parameters
    ----------
    path
        File to create.
    symbols
        Genes, which are their own ids here.
    software
        What the file says wrote it.
    """

    def __init__(self, path: Path, symbols: tuple[str, ...], software: str) -> None:
        import h5py

        self._file = h5py.File(path, "w", libver=("v108", "v110"))
        self._file.attrs.update({"filetype": "matrix", "version": 2, "software_version": software})
        genes = np.array(symbols, dtype="S")
        fields: dict[str, NDArray[Any]] = {
            "id": genes,
            "name": genes,
            "feature_type": np.full(len(genes), b"Gene Expression"),
            "genome": np.full(len(genes), b"GRCh38"),
            "_all_tag_keys": np.array([b"genome"]),
        }
        for name, values in fields.items():
            self._file.create_dataset(f"matrix/features/{name}", data=values, track_times=False)
        self._genes, self._barcodes = len(genes), 0
        for name, kind in (("data", np.int32), ("indices", np.int64), ("indptr", np.int64)):
            self._grow(name, np.zeros(0, kind))
        self._grow("indptr", np.zeros(1, np.int64))

    def append(self, barcodes: NDArray[np.str_], counts: Counts) -> None:
        """Add counts ``(barcode, gene)``; barcodes are of one length throughout."""
        csr = sparse.csr_matrix(counts)
        csr.sort_indices()
        before = int(self._file["matrix/indptr"][-1])
        self._grow("data", csr.data.astype(np.int32))
        self._grow("indices", csr.indices.astype(np.int64))
        self._grow("indptr", before + csr.indptr[1:].astype(np.int64))
        self._grow("barcodes", barcodes.astype("S"))
        self._barcodes += len(barcodes)

    def __enter__(self) -> MatrixFile:
        return self

    def __exit__(self, *failure: object) -> None:
        shape = np.array([self._genes, self._barcodes], np.int32)
        self._file.create_dataset("matrix/shape", data=shape, track_times=False)
        self._file.close()

    def _grow(self, name: str, values: NDArray[Any]) -> None:
        key = f"matrix/{name}"
        if key not in self._file:
            packed: dict[str, Any] = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
            packed |= {"chunks": (CHUNK,), "maxshape": (None,), "track_times": False}
            self._file.create_dataset(key, data=values, **packed)
            return
        stored = self._file[key]
        stored.resize(len(stored) + len(values), axis=0)
        stored[len(stored) - len(values) :] = values
