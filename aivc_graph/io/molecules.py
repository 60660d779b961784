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

from aivc_graph import names
from aivc_graph.errors import ReadError
from aivc_graph.io.decode_budget import GZIP_MAGIC, open_text
from aivc_graph.io.tables import PARQUET_MAGIC, column_names, magic_of, numbers
from aivc_graph.tissue.doubt import doubt
from aivc_graph.tissue.frame import Matrix, apply_affine, diameters_um, positions_um
from aivc_graph.tissue.naming import names_of
from aivc_graph.tissue.section import add_transcripts

Part = tuple[int, int]
NO_CELL = ("UNASSIGNED", "-1", "nan", "None")
_BLOCK_BYTES = 2**26
_AGAIN = "copy it again from its source"
# So many rows of a list are compared with its cells, if so few are in one; a transcript lies no farther from its own.
_LOOKED_AT, _FEW, _OFF_DIAMETERS = 10_000, 20, 2.0


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


def add_molecules(
    tissue: Any, path: Path, columns: MoleculeColumns, to_um: Matrix, least_quality: float = 0.0, *, whole: bool = True
) -> None:
    """Add the transcripts of the genes of the cells, and doubt those of other cells, or of another frame than theirs.

    Parameters
    ----------
    to_um
        ``(3, 3)`` affine from the vendor's unit to microns.
    whole
        Whether all cells of the delivery are here, so that transcripts of others are none of it.
    """
    genes = tissue.tables[names.table_name(names.CELL, names.RNA)].var_names
    add_transcripts(tissue, lazy_molecules(path, columns, genes, least_quality), to_um)
    first = _tidy(_first(path, columns), columns, pd.CategoricalDtype(sorted(set(genes))), least_quality)
    first = first[first["cell"] != ""]
    node = tissue.shapes[names.CELL].index.get_indexer(first["cell"])
    if len(first) < _FEW:
        return
    if (node < 0).all() and whole:
        found, mend = f"cells such as {first['cell'].iloc[0]!r}", "are both of one run?"
        doubt(str(path), found, f"those of the list of cells, such as {tissue.shapes[names.CELL].index[0]!r}", mend)
    elif (node >= 0).sum() >= _FEW:
        there, here = apply_affine(first[["x", "y"]].to_numpy()[node >= 0], to_um), positions_um(tissue, names.CELL)
        off = float(np.median(np.linalg.norm(there - here[node[node >= 0]], axis=1)))
        if off > _OFF_DIAMETERS * float(np.median(diameters_um(tissue, names.CELL))):
            found, mend = (
                f"transcripts {off:,.4g} µm from their cells, at the median",
                "are both in one unit, and one frame?",
            )
            doubt(str(path), found, "transcripts in their cells", mend)


def _first(path: Path, columns: MoleculeColumns) -> pd.DataFrame:
    """Return some rows from the beginning of a list of transcripts."""
    from pyarrow import ArrowException, parquet

    there = column_names(path)
    wanted = [
        one for one in (columns.x, columns.y, columns.gene, *columns.cell, columns.quality) if one and one in there
    ]
    try:
        if magic_of(path) == PARQUET_MAGIC:
            batches = parquet.ParquetFile(path).iter_batches(_LOOKED_AT, columns=wanted)
            return next((one.to_pandas() for one in batches), pd.DataFrame(columns=wanted))
        with open_text(path) as opened:
            return pd.read_csv(opened, usecols=wanted, dtype=str, nrows=_LOOKED_AT)
    except (ArrowException, ValueError, OSError, EOFError, zlib.error) as error:
        raise ReadError(str(path), f"a damaged list of transcripts ({error})", mend=_AGAIN) from error


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
