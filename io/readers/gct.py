"""GCT and GCTX: values of genes by profile, with annotation of both, as L1000 and the Broad's tools write them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import ReadError
from aivc_graph.io.any_rows import DENSE, add_dense, no_positions
from aivc_graph.io.decode_budget import open_text
from aivc_graph.io.hdf5_guard import check_hdf5, hdf5_names
from aivc_graph.io.intake import add_counts
from aivc_graph.io.matrices import count_table
from aivc_graph.io.options import GeneOptions, SymbolOptions
from aivc_graph.io.reading import READERS
from aivc_graph.io.rows import AbstractTableReader, Rows
from aivc_graph.io.tables import need_columns
from aivc_graph.io.text_layout import text_lines
from aivc_graph.tissue.doubt import tell
from aivc_graph.tissue.section import add_cells, new_section

log = logging.getLogger(__name__)

SYMBOLS = ("pr_gene_symbol", "gene_symbol", "Description")
MISSING = ("-666", "-666.0", "NA", "nan", "")
_VERSIONS = ("#1.2", "#1.3")


@READERS.register("gct", expects="a GCT (#1.2, #1.3; also .gz) or GCTX file: genes as rows, profiles as columns")
class GctReader(GeneOptions, SymbolOptions, AbstractTableReader):
    """Reads profiles as a dissociated sample, a row a profile; annotation of the columns is that of the profiles.

    Parameters
    ----------
    values
        ``counts``, ``log`` or ``effect``, as of other files of rows; by default told by content: values below zero are
        effects (z-scores, log ratios), whole numbers above 25 counts, all else logarithms.
    symbols
        Annotation of the rows that holds gene symbols; by default one of the usual, or else their ids.

    See `aivc_graph.io.rows.AbstractTableReader` and `aivc_graph.io.options.GeneOptions` for the others. ``-666`` and
    ``NA`` are missing.

    Raises
    ------
    ReadError
        A damaged file, other sizes than its second line states, no such column.

    References
    ----------
    Enache et al. 2019, doi:10.1093/bioinformatics/bty784 (GCTX); Subramanian et al. 2017,
    doi:10.1016/j.cell.2017.10.049 (L1000).
    """

    values: Literal["counts", "log", "effect"] | None = None

    @classmethod
    def recognises(cls, path: Path) -> bool:
        if "0" in hdf5_names(path):
            return True
        lines = text_lines(path, 2)[1] if path.is_file() else []
        return len(lines) == 2 and lines[0].strip() in _VERSIONS

    def rows(self, path: Path) -> Rows:
        if hdf5_names(path):
            check_hdf5(path)
            genes, profiles, values = _guarded(path, _read_gctx)
        else:
            genes, profiles, values = _guarded(path, _read_gct)
        var = pd.DataFrame(index=genes.index.astype(str))
        symbols = self.symbols or next((name for name in SYMBOLS if name in genes and genes[name].nunique() > 1), None)
        if symbols is not None:
            need_columns(genes, (symbols,), f"{path} · rows")
            var["gene_ids"], var.index = var.index, pd.Index(genes[symbols].astype(str))
        columns = profiles.reset_index(drop=True)
        counts = count_table(values, profiles.index, var)
        return Rows(counts.obs_names, columns, no_positions(len(profiles)), counts, f"{path} · columns")

    def section_of(self, rows: Rows, path: Path, section: str) -> Any:
        values = self.values or _kind_of(rows.counts.X)
        if self.values is None:
            tell(f"{path}: values are taken for {values}; `values:` says otherwise")
        tissue = new_section(section)
        add_cells(tissue, rows.barcodes, self.annotation(rows))
        if values == "counts":
            counts = rows.counts.copy()
            counts.X = sparse.csr_matrix(counts.X)
            add_counts(tissue, names.CELL, counts, str(path), **self.count_options)
        else:
            add_dense(tissue, names.CELL, DENSE[values], rows.counts, path)
        return tissue


def _kind_of(values: NDArray[np.float32]) -> str:
    known = values[np.isfinite(values)]
    if (known < 0).any() or len(known) < values.size:
        return "effect"
    return "counts" if known.max(initial=0) > 25 and (known == np.floor(known)).all() else "log"


Parts = tuple[pd.DataFrame, pd.DataFrame, NDArray[np.float32]]


def _guarded(path: Path, read: Callable[[Path], Parts]) -> Parts:
    try:
        return read(path)
    except (ValueError, OSError, EOFError, KeyError, IndexError, AttributeError) as error:
        raise ReadError(
            str(path), f"a damaged file ({error})", "a GCT or GCTX", "copy it again from its source"
        ) from error


def _read_gct(path: Path) -> Parts:
    """Return annotation of genes and of profiles, and values ``(profile, gene)``."""
    version, sizes = (line.strip() for line in text_lines(path, 2)[1])
    n = [int(one) for one in sizes.split()] + [1, 0]
    n_genes, n_profiles, n_row, n_column = n[:4]
    options: dict[str, Any] = {"sep": "\t", "header": None, "dtype": str, "quoting": 3, "keep_default_na": False}
    with open_text(path) as opened:
        table = pd.read_csv(opened, skiprows=2, **options)
    if table.shape != (1 + n_column + n_genes, 1 + n_row + n_profiles):
        found = f"{table.shape[0]:,} lines of {table.shape[1]:,} fields"
        expected = f"{1 + n_column + n_genes:,} lines of {1 + n_row + n_profiles:,} fields, as its second line says"
        raise ReadError(str(path), found, expected, "copy it again from its source")
    cells = table.to_numpy()
    first = 1 + n_row
    genes = pd.DataFrame(cells[1 + n_column :, 1:first], columns=cells[0, 1:first])
    genes.index = pd.Index(cells[1 + n_column :, 0])
    profiles = pd.DataFrame(cells[1 : 1 + n_column, first:].T, columns=cells[1 : 1 + n_column, 0])
    profiles.index = pd.Index(cells[0, first:])
    values = pd.DataFrame(cells[1 + n_column :, first:]).replace({"NA": "nan", "": "nan"}).to_numpy().astype(np.float32)
    log.info("%s: GCT %s", path, version)
    return genes, _typed(profiles), values.T


def _read_gctx(path: Path) -> Parts:
    """Return annotation of genes and of profiles, and values ``(profile, gene)``, which HDF5 holds in this order."""
    import h5py

    with h5py.File(path) as file:
        values = file["0/DATA/0/matrix"][()].astype(np.float32)
        genes, profiles = (_annotation(file[f"0/META/{axis}"]) for axis in ("ROW", "COL"))
    if values.shape != (len(profiles), len(genes)):
        found = f"a matrix of {values.shape}, {len(profiles):,} profiles and {len(genes):,} genes"
        raise ReadError(str(path), found, "one value each", "copy it again from its source")
    return genes, _typed(profiles), values


def _annotation(group: Any) -> pd.DataFrame:
    columns = {name: item[()] for name, item in group.items()}
    text = {
        name: [one.decode(errors="replace") if isinstance(one, bytes) else str(one) for one in values]
        for name, values in columns.items()
    }
    return pd.DataFrame(text).set_index("id")


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """Return annotation with what is missing as None, and as numbers the columns that hold nothing else."""
    typed = {}
    for name in table:
        column = table[name].str.strip()
        column = column.where(~column.isin(MISSING), None)
        number = pd.to_numeric(column, errors="coerce")
        typed[name] = number if number.notna().sum() == column.notna().sum() > 0 else column.astype(object)
    return pd.DataFrame(typed, index=table.index)
