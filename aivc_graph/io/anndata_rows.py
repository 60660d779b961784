"""What an AnnData holds of its rows: the values that were asked for, under the names of genes, and positions."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.errors import ReadError, unknown_name
from aivc_graph.io.any_rows import NO_PLACES, NoPositions
from aivc_graph.io.intake import KIND_COLUMNS
from aivc_graph.io.matrices import are_ids, check_sparse, count_table
from aivc_graph.io.rows import HEIGHTS
from aivc_graph.io.tables import need_columns, numbers, position_columns

RAW = "raw"
_LOOKED_AT = 100
_SYMBOLS = re.compile(r"(?i)^(gene_?)?(symbols?|names?|short_name)$|^feature_name$|^hgnc(_symbol)?$|^gene$")
_MOSTLY = 0.9
_OTHER_KEY = "name the one that holds them as `spatial_key:`; "


def open_anndata(path: Path, read: Callable[[Path], Any] | None = None) -> Any:
    """Return what is in a file that was checked; `read` reads it, by default as AnnData.

    Raises
    ------
    ReadError
        Whatever the damage leads to, deep inside h5py or anndata.
    """
    from anndata import OldFormatWarning, read_h5ad

    with warnings.catch_warnings():
        # Only says that the names of rows or genes repeat, which is judged later.
        warnings.filterwarnings("ignore", ".*names are not unique", UserWarning)
        warnings.simplefilter("ignore", OldFormatWarning)  # what older versions wrote is read all the same
        warnings.filterwarnings("ignore", "Moving element from|.*written with a previous version", FutureWarning)
        try:
            return (read or read_h5ad)(path)
        except Exception as error:
            found = f"a file that cannot be read ({type(error).__name__}: {error})"
            raise ReadError(str(path), found, "an AnnData file", "copy it again from its source") from error


def layers_of(data: Any) -> list[str]:
    """Return what can be named as `layer:` of an AnnData: its layers, and ``raw`` where it has a ``.raw``."""
    return [*data.layers, *([RAW] if data.raw is not None and RAW not in data.layers else [])]


def layers_of_counts(data: Any) -> tuple[str, ...]:
    """Return which of `layers_of` may hold counts: whole numbers, none below zero, in their first rows."""
    found = []
    for name in layers_of(data):
        matrix = data.raw.X if name == RAW and RAW not in data.layers else data.layers[name]
        first = matrix[:_LOOKED_AT]
        values = first.data if sparse.issparse(first) else np.asarray(first)
        if values.dtype.kind in "biuf" and ((values >= 0) & (values == np.floor(values))).all():
            found.append(name)
    return tuple(found)


def values_of(data: Any, where: str, layer: str | None, symbols: str | None, *, dense: bool = False) -> Any:
    """Return the values of an AnnData as an AnnData ``(row, feature)`` of them alone, in float32.

    Parameters
    ----------
    layer
        Layer to read, by default ``X``; see `layers_of`.
    symbols
        Column of ``var`` with gene symbols, which then name the features.
    dense
        Whether values are kept dense, as logarithms and effects are; counts are CSR.

    Raises
    ------
    ReadError
        No such layer or column, or no ``X``.
    """
    chosen, features = _chosen(data, where, layer)
    check_sparse(chosen, where)
    var = pd.DataFrame(index=features.index.astype(str))
    var["gene_ids"] = var.index
    for name in (*KIND_COLUMNS, "genome"):
        if name in features:
            var[name] = features[name].astype(str).to_numpy()
    if symbols is not None:
        found = features if symbols in features else data.var.reindex(features.index)
        need_columns(found, (symbols,), f"{where} · var")
        var.index = pd.Index(found[symbols].astype(str))
    elif "gene_ids" in features:
        var["gene_ids"] = features["gene_ids"].astype(str).to_numpy()
    if not dense:
        return count_table(sparse.csr_matrix(chosen, dtype=np.float32), data.obs_names, var)
    whole = chosen.toarray() if sparse.issparse(chosen) else np.asarray(chosen)
    return count_table(whole.astype(np.float32), data.obs_names, var)


def symbol_columns(features: pd.DataFrame) -> tuple[str, ...]:
    """Return which columns of features called by Ensembl ids may hold their symbols; nothing where they are not."""
    if not are_ids(pd.Series(features.index.astype(str))):
        return ()
    words = features.select_dtypes(include=["object", "string", "category"])
    found = [str(c) for c in words if _SYMBOLS.match(str(c)) and words[c].nunique() > _MOSTLY * len(features)]
    return tuple(c for c in found if not are_ids(words[c].astype(str)))


def named_features(data: Any, where: str) -> Any:
    """Return the values of an AnnData under the names that its features have there."""
    check_sparse(data.X, where)
    var = pd.DataFrame({"gene_ids": data.var_names.astype(str)}, index=data.var_names.astype(str))
    return count_table(sparse.csr_matrix(data.X, dtype=np.float32), data.obs_names, var)


def positions_of(data: Any, key: str, where: str) -> NDArray[np.float64]:
    """Return the positions ``(row, 2)`` in ``obsm[key]`` or, with a height, ``(row, 3)``.

    Raises
    ------
    NoPositions
        No such key.
    ReadError
        What lies there are no positions.
    """
    if key not in data.obsm:
        fault = str(unknown_name(ReadError, f"{where} · obsm", "positions", key, data.obsm))
        place, _, found = fault.partition(": ")
        raise NoPositions(place, found, mend=f"{_OTHER_KEY}{NO_PLACES}" if len(data.obsm) else NO_PLACES)
    where, found = f"{where} · obsm[{key!r}]", data.obsm[key]
    if isinstance(found, pd.DataFrame):
        x, y = position_columns(found, where)
        height = [name for name in HEIGHTS if name in found][:1]
        return np.column_stack([numbers(found[name], where) for name in (x, y, *height)])
    xy = np.asarray(found)
    if xy.ndim != 2 or xy.shape[1] < 2 or xy.dtype.kind not in "iuf":
        raise ReadError(where, f"{xy.dtype} {xy.shape}", "numbers (row, 2)")
    return xy[:, :3].astype(np.float64)


def _chosen(data: Any, where: str, layer: str | None) -> tuple[Any, pd.DataFrame]:
    """Return the values the user chose, and the table of their features."""
    if layer == RAW and RAW not in data.layers and data.raw is not None:
        return data.raw.X, data.raw.var
    if layer is not None and layer not in data.layers:
        raise unknown_name(ReadError, where, "layer", layer, layers_of(data))
    chosen = data.X if layer is None else data.layers[layer]
    if chosen is None:
        there = ", ".join(layers_of(data))
        mend = f"name a layer as `layer:` ({there})" if there else "of rows with a type alone say `values: types`"
        raise ReadError(where, "no `X`" + ("" if there else ", and no layer"), "values", mend)
    return chosen, data.var
