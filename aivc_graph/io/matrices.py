"""Count matrices as 10x writes them: one HDF5 file, or a folder of MatrixMarket and TSV."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from aivc_graph.errors import ReadError
from aivc_graph.io.decode_budget import open_text, read_bytes
from aivc_graph.io.hdf5_guard import check_hdf5
from aivc_graph.tissue.doubt import tell

MTX = "matrix.mtx"
_MTX_PARTS = {"matrix": (MTX,), "features": ("features.tsv", "genes.tsv"), "barcodes": ("barcodes.tsv",)}
_LEAST_ENTRY = len("1 1\n")
_MOST = 0.5


def read_10x_h5(path: Path) -> Any:
    """Return a 10x ``*_feature_bc_matrix.h5`` as AnnData ``(barcode, feature)``, CSR float32.

    ``var`` is indexed by symbol and holds ``gene_ids``, ``feature_types`` and ``genome``. ``shape``, ``indices`` and
    ``indptr`` may be stored as floats, as R does. The oldest layout, one group a genome, is read too.

    Raises
    ------
    ReadError
        Not HDF5, no group ``matrix``, or parts that do not fit each other.
    """
    import h5py
    from anndata import concat

    check_hdf5(path)
    try:
        with h5py.File(path) as file:
            genomes = ["matrix"] if "matrix" in file else [name for name in file if "gene_names" in file[name]]
            tables = [_read_group(path, file[name]) for name in genomes]
            if not tables:
                found = f"groups {sorted(file)}"
                raise ReadError(str(path), found, "a group 'matrix'", "is this a 10x feature matrix?")
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ReadError(str(path), f"a damaged 10x matrix ({error})", mend="copy it again from its source") from error
    if len(tables) > 1 and any(list(table.obs_names) != list(tables[0].obs_names) for table in tables):
        raise ReadError(str(path), f"other barcodes in each of {', '.join(genomes)}", "the same in each genome")
    return tables[0] if len(tables) == 1 else concat(tables, axis="var", join="outer")


def _read_group(path: Path, matrix: Any) -> Any:
    """Return one group: ``features`` beside the matrix, or in the oldest layout ``genes`` and ``gene_names``."""
    parts = {name: matrix[name][()] for name in ("data", "indices", "indptr", "shape", "barcodes")}
    if "features" in matrix:
        features = {name: _text(matrix["features"][name]) for name in matrix["features"] if _is_column(name, matrix)}
    else:
        ids, genome = _text(matrix["genes"]), matrix.name.strip("/")
        features = {"id": ids, "name": _text(matrix["gene_names"]), "genome": np.full(len(ids), genome)}
        features["feature_type"] = np.full(len(ids), "Gene Expression")
    n_features, n_barcodes = (int(n) for n in parts["shape"])
    indptr, indices = parts["indptr"].astype(np.int64), parts["indices"].astype(np.int64)
    _check_parts(path, parts["data"], indices, indptr, (n_barcodes, n_features))
    counts = sparse.csr_matrix((parts["data"].astype(np.float32), indices, indptr), shape=(n_barcodes, n_features))
    columns = {name: column for name, column in features.items() if len(column) == n_features}
    if len(parts["barcodes"]) != n_barcodes or "id" not in columns:
        found = f"{len(parts['barcodes']):,} barcodes and features {sorted(columns)}"
        raise ReadError(str(path), found, f"{n_barcodes:,} barcodes and features with 'id'", "copy it again")
    var = pd.DataFrame({{"id": "gene_ids", "feature_type": "feature_types"}.get(k, k): v for k, v in columns.items()})
    return _table(counts, _text(parts["barcodes"]), var)


def read_mtx_folder(path: Path) -> Any:
    """Return a 10x matrix folder (matrix.mtx, features.tsv or genes.tsv, barcodes.tsv; each also .gz) as AnnData.

    The result is that of `read_10x_h5`. Whether a part is compressed is seen by content, not by its ending.

    Raises
    ------
    ReadError
        A part that is missing or damaged, or parts of different lengths.
    """
    found = {part: _find(path, names) for part, names in _MTX_PARTS.items()}
    try:
        with open_text(found["features"]) as text:
            features = pd.read_csv(text, sep="\t", header=None, dtype=str)
        with open_text(found["barcodes"]) as text:
            barcodes = pd.read_csv(text, sep="\t", header=None, dtype=str)
        counts, features, barcodes = _read_mtx(found["matrix"], features, barcodes)
    except (ValueError, OSError, EOFError) as error:
        raise ReadError(
            str(found["matrix"]), f"a damaged matrix ({error})", mend="copy it again from its source"
        ) from error
    columns = ["gene_ids", "name", "feature_types"][: features.shape[1]]
    var = features.iloc[:, : len(columns)].set_axis(columns, axis=1)
    if "name" in var and are_ids(var["name"]) and not are_ids(var["gene_ids"]):
        var = var.rename(columns={"gene_ids": "name", "name": "gene_ids"})
    return _table(counts, barcodes[0].to_numpy(), var)


def are_ids(names: pd.Series) -> bool:
    """Say whether most names are Ensembl ids of genes."""
    return bool(names.str.match(r"ENS[A-Z]*G\d").mean() > _MOST)


def _read_mtx(
    path: Path, features: pd.DataFrame, barcodes: pd.DataFrame
) -> tuple[sparse.csr_matrix, pd.DataFrame, pd.DataFrame]:
    """Return counts ``(barcode, feature)`` of MatrixMarket text, and the lists of both without a line of headers.

    Its own header must state as many features and barcodes, or barcodes and features, as are listed.
    """
    from scipy.io import mmread

    text = read_bytes(path)
    sizes = next((line for line in io.BytesIO(text) if line.strip() and not line.startswith(b"%")), b"").split()
    stated = tuple(map(int, sizes))
    listed = (len(features), len(barcodes))
    bare = [(f, b) for f in (features, features[1:]) for b in (barcodes, barcodes[1:])]
    fits = next((one for one in bare for turned in (1, -1) if stated[:2] == tuple(map(len, one))[::turned]), None)
    if fits is None:
        there = f"{listed[0]:,} features and {listed[1]:,} barcodes"
        raise ReadError(str(path.parent), there, f"{' and '.join(f'{n:,}' for n in stated[:2])}, as {path.name} says")
    shape = (len(fits[0]), len(fits[1]))
    if shape != listed:
        tell(f"{path.parent}: a first line of headers in the list of features or barcodes is passed over")
    if stated[:2] != shape:
        tell(f"{path}: cells as rows and genes as columns, as the lists beside it tell")
    if len(stated) == 3 and stated[2] * _LEAST_ENTRY > len(text):
        raise ReadError(
            str(path), f"{len(text):,} bytes", f"{stated[2]:,} entries, as its header says", "copy it again"
        )
    entries = mmread(io.BytesIO(text))
    counts = sparse.csr_matrix(entries.T if stated[:2] == shape else entries, dtype=np.float32)
    return counts, *(table.reset_index(drop=True) for table in fits)


def count_table(counts: sparse.csr_matrix, barcodes: Any, var: pd.DataFrame) -> Any:
    """Return counts ``(barcode, feature)`` as AnnData; names that repeat are judged later and not warned of here."""
    from anndata import AnnData

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*names are not unique", UserWarning)
        return AnnData(counts, obs=pd.DataFrame(index=pd.Index(np.asarray(barcodes).astype(str))), var=var)


def _table(counts: sparse.csr_matrix, barcodes: np.ndarray, var: pd.DataFrame) -> Any:
    counts.sort_indices()
    symbol = var.pop("name") if "name" in var else var["gene_ids"]
    var.index = pd.Index(symbol.astype(str).to_numpy())
    return count_table(counts, barcodes, var)


def _text(values: Any) -> np.ndarray:
    return np.asarray(values).astype(str)


def check_sparse(matrix: Any, where: str) -> None:
    """Raise `ReadError` if a sparse matrix points outside of itself, which compiled code would follow blindly."""
    if not sparse.issparse(matrix):
        return
    try:
        matrix.check_format(full_check=True)
    except ValueError as error:
        raise ReadError(where, f"a damaged sparse matrix ({error})", mend="copy it again from its source") from error


def _is_column(name: str, matrix: Any) -> bool:
    return not name.startswith("_") and hasattr(matrix["features"][name], "shape")


def _check_parts(path: Path, data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, shape: tuple[int, int]) -> None:
    whole = len(indptr) == shape[0] + 1 and indptr[0] == 0 and indptr[-1] == len(data) == len(indices)
    if (
        not whole
        or (np.diff(indptr) < 0).any()
        or (len(indices) and not 0 <= indices.min() <= indices.max() < shape[1])
    ):
        raise ReadError(
            str(path), f"indices that do not fit a matrix of {shape}", "a whole CSC matrix", "copy it again"
        )


def called(folder: Path, name: str) -> Path | None:
    """Return what is called `name` in `folder`, packed by gzip or not, with a sample's name before it or not.

    Raises
    ------
    ReadError
        Several samples have one there.
    """
    for ending in ("", ".gz"):
        if (folder / f"{name}{ending}").exists():
            return folder / f"{name}{ending}"
    found = sorted(p for ending in ("", ".gz") for mark in "_-." for p in folder.glob(f"[!.]*{mark}{name}{ending}"))
    if len(found) > 1:
        there = ", ".join(p.name for p in found[:4])
        raise ReadError(
            str(folder), f"{len(found)} of them: {there}", f"one {name}", "put each sample in a folder of its own"
        )
    return found[0] if found else None


def _find(folder: Path, names: tuple[str, ...]) -> Path:
    found = next((path for name in names if (path := called(folder, name)) is not None), None)
    if found is not None and found.is_file():
        return found
    there = ", ".join(sorted(p.name for p in folder.iterdir())[:10]) or "nothing"
    expected = " or ".join(f"{name}{ending}" for name in names for ending in ("", ".gz"))
    raise ReadError(str(folder), there, expected, "is the folder complete?")
