"""Write one modality as AnnData lays it out on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse


def write_h5ad(
    path: Path, counts: NDArray[np.int32], obs: pd.DataFrame, var: pd.DataFrame, xy_um: NDArray[np.float64]
) -> None:
    """Write counts ``(row, feature)``, ``obs``, ``var`` and positions in ``obsm/spatial``; same input, same bytes.

    Numbers and text only, no categories: text columns stay text.

    References
    ----------
    Virshup et al. 2024, doi:10.21105/joss.04371 (anndata; its format on disk).
    """
    import h5py

    csr = sparse.csr_matrix(counts.astype(np.float32))
    csr.sort_indices()
    with h5py.File(path, "w", libver=("v108", "v110")) as file:
        _encode(file, "anndata", "0.1.0")
        matrix = _encode(file.create_group("X"), "csr_matrix", "0.1.0")
        matrix.attrs["shape"] = np.array(csr.shape)
        for name in ("data", "indices", "indptr"):
            values = getattr(csr, name)
            matrix.create_dataset(name, data=values, compression="gzip", shuffle=True, track_times=False)
        _table(file, "obs", obs)
        _table(file, "var", var)
        for name in ("layers", "obsm", "obsp", "varm", "varp", "uns"):
            _encode(file.create_group(name), "dict", "0.1.0")
        _column(file["obsm"], "spatial", xy_um)


def _table(file: Any, name: str, table: pd.DataFrame) -> None:
    group = _encode(file.create_group(name), "dataframe", "0.2.0")
    group.attrs["_index"] = "_index"
    group.attrs["column-order"] = np.array(list(table.columns), dtype=object)
    _column(group, "_index", table.index.to_numpy())
    for column in table:
        _column(group, str(column), table[column].to_numpy())


def _column(group: Any, name: str, values: NDArray[Any]) -> None:
    import h5py

    if values.dtype.kind in "OUT":
        stored = group.create_dataset(name, data=values.astype(object), dtype=h5py.string_dtype(), track_times=False)
        _encode(stored, "string-array", "0.2.0")
    else:
        _encode(group.create_dataset(name, data=values, track_times=False), "array", "0.2.0")


def _encode(item: Any, kind: str, version: str) -> Any:
    item.attrs.update({"encoding-type": kind, "encoding-version": version})
    return item
