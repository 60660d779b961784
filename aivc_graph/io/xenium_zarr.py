"""Cells and counts of a Xenium run from the packed Zarr stores of its Explorer, where the tables are missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.errors import ReadError
from aivc_graph.io.intake import GENES, SCALED
from aivc_graph.io.matrices import count_table
from aivc_graph.io.zarr_safety import check_zarr_zip

_COLUMNS = {"cell_centroid_x": "x_centroid", "cell_centroid_y": "y_centroid"}
# Others name controls and codewords.
_KINDS = {"gene": GENES, "protein": SCALED}
ZARR_ENDING = ".zip"
_MOST_BYTES = 2**34
_HEX, _LETTERS = "0123456789abcdef", "abcdefghijklmnop"


def cells_of_zarr(path: Path) -> pd.DataFrame:
    """Return the cells of ``cells.zarr.zip``: ``cell_id``, ``x_centroid``, ``y_centroid`` [µm], ``cell_area`` and more.

    Raises
    ------
    ReadError
        An unsafe or damaged store, or one of another layout.
    """
    with _store(path) as store:
        columns = [str(name) for name in store["cell_summary"].attrs["column_names"]]
        summary = _array(store, "cell_summary", path).astype(np.float64)
        cells = pd.DataFrame(summary, columns=columns).rename(columns=_COLUMNS)
        return cells.assign(cell_id=cell_names(_array(store, "cell_id", path)))


def counts_of_zarr(path: Path) -> Any:
    """Return ``cell_feature_matrix.zarr.zip`` as AnnData ``(cell, feature)``, as `read_10x_h5` returns the HDF5.

    Raises
    ------
    ReadError
        An unsafe or damaged store, or one of another layout.
    """
    with _store(path) as store:
        group = store["cell_features"]
        parts = {name: _array(group, name, path) for name in ("data", "indices", "indptr")}
        names = cell_names(_array(group, "cell_id", path))
        facts = {name: list(map(str, group.attrs[f"feature_{name}"])) for name in ("keys", "ids", "types")}
        shape = (len(facts["keys"]), len(names))
        counts = sparse.csr_matrix((parts["data"].astype(np.float32), parts["indices"], parts["indptr"]), shape=shape)
        types = [_KINDS.get(kind, kind) for kind in facts["types"]]
        var = pd.DataFrame({"gene_ids": facts["ids"], "feature_types": types}, index=pd.Index(facts["keys"]))
        return count_table(counts.T.tocsr(), names, var)


def cell_names(ids: NDArray[Any]) -> NDArray[np.object_]:
    """Return names such as ``aaaadnje-1`` of ids ``(cell, 2)``: a number, hexadecimal by letters a to p, and a suffix.

    Examples
    --------
    >>> cell_names(np.array([[1437536272, 1]])).tolist()
    ['ffkpbaba-1']
    """
    letters = str.maketrans(_HEX, _LETTERS)
    return np.array(
        [f"{number:08x}".translate(letters) + f"-{suffix}" for number, suffix in ids.tolist()], dtype=object
    )


@contextmanager
def _store(path: Path) -> Iterator[Any]:
    """Yield an opened store; whatever goes wrong with it is a `ReadError`."""
    import zarr
    from zarr.storage import ZipStore

    check_zarr_zip(path)
    try:
        with ZipStore(path, mode="r") as store:
            yield zarr.open_group(store, mode="r")
    except ReadError:
        raise
    except Exception as error:  # whatever the damage leads to, deep inside zarr or a codec
        found = f"a store that cannot be read ({type(error).__name__}: {error})"
        mend = "take cells.parquet and cell_feature_matrix.h5 of the same run instead"
        raise ReadError(str(path), found, "the layout of Xenium Onboard Analysis", mend) from error


def _array(group: Any, name: str, path: Path) -> NDArray[Any]:
    array = group[name]
    if array.nbytes > _MOST_BYTES:
        raise ReadError(f"{path} · {name}", f"{array.nbytes:,} bytes", f"at most {_MOST_BYTES:,}", "is it whole?")
    return np.asarray(array[:])
