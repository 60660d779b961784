"""External vectors of genes: any table gene × d."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from aivc_graph import names
from aivc_graph.errors import ReadError
from aivc_graph.io.decode_budget import check_unpacked
from aivc_graph.io.hdf5_guard import check_hdf5
from aivc_graph.io.priors.layout import LAYOUTS, AbstractLayout, KnownRelation, PriorConfig
from aivc_graph.io.tables import HDF5_MAGIC, PARQUET_MAGIC, first_lines, is_number, magic_of, read_frame
from aivc_graph.tissue.doubt import doubt
from aivc_graph.tissue.naming import names_of

_ZIP = b"PK\x03\x04"
NAMES = ("genes", "names", "gene", "symbols", "index")
LEAST_COLUMNS = 2


@LAYOUTS.register("vectors", expects="a row a gene, numbers in all other columns (CSV, TSV, Parquet, HDF5, npz)")
class VectorsLayout(AbstractLayout):
    """Numbers that describe genes, such as vectors of a language model; of HDF5 and npz two arrays, one of names."""

    relation: ClassVar[KnownRelation] = names.DESCRIBES

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell it by its container, or by a line of text of which all but one field are numbers."""
        if magic_of(path) in (_ZIP, HDF5_MAGIC, PARQUET_MAGIC):
            return True
        rows = first_lines(path, 2)
        return len(rows) == 2 and len(rows[1]) > LEAST_COLUMNS and sum(map(is_number, rows[1])) == len(rows[1]) - 1

    @classmethod
    def read(cls, config: PriorConfig) -> pd.DataFrame:
        """Return a row a gene, a column a number; of genes named twice the first counts."""
        import h5py

        path, magic = config.path, magic_of(config.path)
        if magic == _ZIP:
            with zipfile.ZipFile(path) as packed:
                check_unpacked(path, sum(one.file_size for one in packed.infolist()), path.stat().st_size)
            with np.load(path, allow_pickle=False) as arrays:
                table = _of_arrays({key: arrays[key] for key in arrays.files}, str(path))
        elif magic == HDF5_MAGIC:
            check_hdf5(path)
            with h5py.File(path) as file:
                table = _of_arrays({k: value[()] for k, value in file.items() if hasattr(value, "shape")}, str(path))
        else:
            frame = read_frame(path)
            text = [i for i, kind in enumerate(frame.dtypes) if kind.kind not in "biuf"]
            if len(text) != 1:
                found = f"{len(text)} columns of text: {', '.join(map(repr, frame.columns[text][:5]))}"
                raise ReadError(str(path), found, "one, the genes", "drop the others, or make them numbers")
            genes = names_of(frame.iloc[:, text[0]])
            table = frame.drop(columns=frame.columns[text[0]]).set_index(pd.Index(genes)).astype(float)
        table = table[table.index.notna()]
        if not np.isfinite(table.to_numpy()).all():
            raise ReadError(str(path), "numbers that are missing or infinite", "a number in every column")
        once = table[~table.index.duplicated()]
        if len(other := table[(table.to_numpy() != once.loc[table.index].to_numpy()).any(axis=1)]):
            found = (
                f"{other.index.nunique():,} genes with several vectors, such as {other.index[0]!r}; the first counts"
            )
            doubt(str(path), found, "one a gene", "drop or average the others")
        return once


def _of_arrays(arrays: dict[str, Any], where: str) -> pd.DataFrame:
    """Return the one two-dimensional array by the one array of as many names."""
    numbers = {key: value for key, value in arrays.items() if value.ndim == 2 and value.dtype.kind in "iuf"}
    if len(numbers) != 1:
        raise ReadError(where, f"{len(numbers)} arrays of numbers in two dimensions", "one (gene, d)")
    values = next(iter(numbers.values()))
    found = {
        key: value for key, value in arrays.items() if value.shape == values.shape[:1] and value.dtype.kind in "SUO"
    }
    chosen = next((key for key in NAMES if key in found), next(iter(found), None))
    if chosen is None:
        raise ReadError(where, f"no names for {len(values):,} rows", f"an array of names, such as {NAMES[0]!r}")
    genes = [name.decode() if isinstance(name, bytes) else str(name) for name in found[chosen]]
    return pd.DataFrame(values.astype(float), index=pd.Index(genes), columns=[str(i) for i in range(values.shape[1])])
