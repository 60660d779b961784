"""Transcripts as vendors list them, read lazily: a place, a gene, and the cell they lie in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aivc_graph.errors import ReadError
from aivc_graph.io.tables import GZIP_MAGIC, PARQUET_MAGIC, magic_of, names_of

NO_CELL = ("UNASSIGNED", "-1", "nan", "None")
_BLOCK_BYTES = 2**26


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

    kind = magic_of(path)
    if kind == PARQUET_MAGIC:
        frame = dd.read_parquet(path)
    else:
        zipped = kind.startswith(GZIP_MAGIC)
        text = dict.fromkeys((*columns.cell, columns.gene), "str")
        packing = "gzip" if zipped else None
        frame = dd.read_csv(path, blocksize=None if zipped else _BLOCK_BYTES, dtype=text, compression=packing)
    missing = [name for name in (columns.x, columns.y, columns.gene) if name not in frame.columns]
    if missing:
        raise ReadError(str(path), f"columns {', '.join(frame.columns)}", f"columns {', '.join(missing)} as well")
    kinds = pd.CategoricalDtype(sorted(set(genes)))
    meta = pd.DataFrame(
        {"x": np.zeros(0), "y": np.zeros(0), "gene": pd.Categorical([], dtype=kinds), "cell": np.array([], str)}
    )
    return frame.map_partitions(_tidy, columns, kinds, least_quality, meta=meta).clear_divisions()


def _tidy(part: pd.DataFrame, columns: MoleculeColumns, kinds: pd.CategoricalDtype, least: float) -> pd.DataFrame:
    """Keep good molecules of known genes, in our column names."""
    gene = pd.Series(names_of(part[columns.gene]), index=part.index).astype(kinds)
    good = gene.notna() & (part[columns.quality] >= least if columns.quality in part else True)
    cell = pd.Series("", index=part.index)
    if set(columns.cell) <= set(part.columns):
        rows = zip(*(names_of(part[name]) for name in columns.cell), strict=True)
        named = ["" if row[-1] is None or row[-1] in columns.no_cell else "_".join(map(str, row)) for row in rows]
        cell = pd.Series(named, index=part.index, dtype=object)
    tidy = {"x": part[columns.x].astype(float), "y": part[columns.y].astype(float), "gene": gene, "cell": cell}
    return pd.DataFrame(tidy)[good]
