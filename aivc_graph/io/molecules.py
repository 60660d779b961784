"""Transcripts as vendors list them, read lazily: a place, a gene, and the cell they lie in."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aivc_graph.errors import ReadError
from aivc_graph.io.decode_budget import GZIP_MAGIC, open_text
from aivc_graph.io.tables import PARQUET_MAGIC, column_names, magic_of, names_of, numbers

Part = tuple[int, int]
NO_CELL = ("UNASSIGNED", "-1", "nan", "None")
_BLOCK_BYTES = 2**26
_AGAIN = "copy it again from its source"


@dataclass(frozen=True)
class MoleculeColumns:
    """What a vendor calls the columns of its list of transcripts.

    Parameters
    ----------
    x, y, gene
        Position in the vendor's unit, and the gene.
    cell
        Columns that together name the cell, joined by ``_``; the last of them says where there is none.
    quality
        Quality value, where the vendor states one.
    no_cell
        Names that stand for none.
    """

    x: str
    y: str
    gene: str
    cell: tuple[str, ...]
    quality: str = ""
    no_cell: tuple[str, ...] = NO_CELL


def lazy_molecules(path: Path, columns: MoleculeColumns, genes: pd.Index, least_quality: float = 0.0) -> Any:
    """Return the transcripts of `genes` as a lazy table with x, y in the vendor's unit, gene and cell (``""`` if none).

    Raises
    ------
    ReadError
        No column of the position or of the gene.
    """
    import dask.dataframe as dd

    there = column_names(path)
    missing = [name for name in (columns.x, columns.y, columns.gene) if name not in there]
    if missing:
        raise ReadError(str(path), f"columns {', '.join(there)}", f"columns {', '.join(missing)} as well")
    kinds = pd.CategoricalDtype(sorted(set(genes)))
    meta = pd.DataFrame(
        {"x": np.zeros(0), "y": np.zeros(0), "gene": pd.Categorical([], dtype=kinds), "cell": np.array([], str)}
    )
    facts = {"path": path, "named": columns, "kinds": kinds, "least": least_quality}
    return dd.from_map(_molecules, _parts(path), **facts, meta=meta)


def _parts(path: Path) -> list[Part]:
    """Return what is read at a time: a row group, or bytes from one end of a line to another; of packed text all."""
    from pyarrow import ArrowException, parquet

    kind = magic_of(path)
    if kind == PARQUET_MAGIC:
        try:
            return [(i, i + 1) for i in range(parquet.ParquetFile(path).num_row_groups)] or [(0, 0)]
        except (ArrowException, OSError) as error:
            raise ReadError(str(path), f"a damaged Parquet file ({error})", mend=_AGAIN) from error
    if kind.startswith(GZIP_MAGIC):
        return [(0, path.stat().st_size)]
    ends = [0]
    with path.open("rb") as file:
        size = file.seek(0, 2)
        while ends[-1] < size:
            file.seek(min(ends[-1] + _BLOCK_BYTES, size))
            file.readline()
            ends.append(file.tell())
    return list(pairwise(ends))


def _molecules(
    part: Part, path: Path, named: MoleculeColumns, kinds: pd.CategoricalDtype, least: float
) -> pd.DataFrame:
    """Return the good molecules of known genes of a part, in our column names."""
    wanted = (named.x, named.y, named.gene, *named.cell, named.quality)
    there = column_names(path)
    return _tidy(_part(path, part, [name for name in wanted if name and name in there]), named, kinds, least)


def _part(path: Path, part: Part, columns: list[str]) -> pd.DataFrame:
    """Return some columns of a part."""
    from pyarrow import ArrowException, parquet

    start, stop = part
    kind = magic_of(path)
    try:
        if kind == PARQUET_MAGIC:
            groups = list(range(start, stop))
            return parquet.ParquetFile(path).read_row_groups(groups, columns).to_pandas(ignore_metadata=True)
        if kind.startswith(GZIP_MAGIC):
            with open_text(path) as packed:
                return pd.read_csv(packed, usecols=columns, dtype=str)
        with path.open("rb") as file:
            header = b"" if start == 0 else file.readline()
            file.seek(start)
            text = io.BytesIO(header + file.read(stop - start))
        return pd.read_csv(text, usecols=columns, dtype=str)
    except (ArrowException, ValueError, OSError, EOFError, zlib.error) as error:
        raise ReadError(str(path), f"a damaged list of transcripts ({error})", mend=_AGAIN) from error


def _tidy(part: pd.DataFrame, columns: MoleculeColumns, kinds: pd.CategoricalDtype, least: float) -> pd.DataFrame:
    x, y = (numbers(part[name], name) for name in (columns.x, columns.y))
    gene = pd.Series(names_of(part[columns.gene]), index=part.index).astype(kinds)
    good = gene.notna() & (
        numbers(part[columns.quality], columns.quality) >= least if columns.quality in part else True
    )
    cell = pd.Series("", index=part.index)
    if set(columns.cell) <= set(part.columns):
        rows = zip(*(names_of(part[name]) for name in columns.cell), strict=True)
        named = ["" if row[-1] is None or row[-1] in columns.no_cell else "_".join(map(str, row)) for row in rows]
        cell = pd.Series(named, index=part.index, dtype=object)
    tidy = {"x": x, "y": y, "gene": gene, "cell": cell}
    return pd.DataFrame(tidy, index=part.index)[good & np.isfinite(x) & np.isfinite(y)]
