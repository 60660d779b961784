"""Read an AnnData that holds nothing but data, and write one as one act of the file system."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from aivc_graph.atomic import file_digest
from aivc_graph.errors import ReadError
from aivc_graph.io.anndata_rows import open_anndata
from aivc_graph.io.hdf5_guard import check_hdf5
from aivc_graph.io.matrices import check_sparse
from aivc_graph.io.zarr_safety import check_zarr_folder


def write_anndata(table: Any, path: Path, *, compression: str | None = None) -> None:
    """Write `table` to the ``.h5ad`` file `path`, composed in memory first.

    HDF5 that meets a full disk half way can neither go on nor close its file; bytes fail once, with a plain `OSError`.
    """
    import h5py
    from anndata.io import write_elem

    composed = io.BytesIO()
    with h5py.File(composed, "w") as file:
        table.strings_to_categoricals()
        write_elem(file, "/", table, dataset_kwargs={"compression": compression})
    path.write_bytes(composed.getbuffer())


def file_hashes(*paths: Path) -> dict[str, str]:
    """Return the SHA-256 of each file by its name; the folders above where two are called alike."""
    several = len({path.name for path in paths}) < len(paths)
    return {str(path) if several else path.name: file_digest(path) for path in paths}


def is_anndata_folder(path: Path) -> bool:
    """Say whether a folder is an AnnData in Zarr: its root says so."""
    for name in (".zattrs", "zarr.json"):
        try:
            found = json.loads((path / name).read_bytes())
        except (OSError, ValueError):
            continue
        attributes = found.get("attributes", found) if isinstance(found, dict) else {}
        return isinstance(attributes, dict) and attributes.get("encoding-type") == "anndata"
    return False


def read_anndata(path: Path) -> Any:
    """Return the AnnData in the ``.h5ad`` file or Zarr folder `path`; a sparse matrix stays sparse.

    Raises
    ------
    ReadError
        There is no such file, it is no whole HDF5 file of an AnnData, it holds what could run code, or indices of a
        sparse matrix point outside it.
    """
    if is_anndata_folder(path):
        from anndata import read_zarr

        check_zarr_folder(path)
        table = open_anndata(path, read_zarr)
        check_matrices(table, str(path))
        return table
    if path.is_dir():
        raise ReadError(str(path), "a folder", "an .h5ad file", "name the file inside it")
    if not path.is_file():
        raise ReadError(str(path), "no such file", "an .h5ad file", "check the path")
    check_hdf5(path)
    table = open_anndata(path)
    check_matrices(table, str(path))
    return table


def check_matrices(data: Any, where: str) -> None:
    """Raise a `ReadError` if indices of a sparse matrix of an AnnData point outside it: reading on would crash."""
    matrices = {"X": data.X, **{f"layers[{name!r}]": one for name, one in data.layers.items()}}
    matrices |= {f"obsm[{name!r}]": one for name, one in data.obsm.items()}
    matrices |= {"raw.X": data.raw.X} if data.raw is not None else {}
    for name, matrix in matrices.items():
        check_sparse(matrix, f"{where} · {name}")
