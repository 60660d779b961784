"""Cell Ranger: one matrix of dissociated cells, with the antibodies counted beside their RNA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from aivc_graph import names
from aivc_graph.errors import ReadError
from aivc_graph.io.any_rows import no_positions
from aivc_graph.io.hdf5_guard import check_hdf5, hdf5_names
from aivc_graph.io.intake import add_counts
from aivc_graph.io.matrices import MTX, called, read_10x_h5, read_mtx_folder
from aivc_graph.io.options import GeneOptions
from aivc_graph.io.reading import READERS
from aivc_graph.io.rows import AbstractTableReader, Rows
from aivc_graph.io.spaceranger_folder import is_outs
from aivc_graph.io.tables import BARCODE_NAMES, read_frame
from aivc_graph.tissue.doubt import tell
from aivc_graph.tissue.naming import names_of
from aivc_graph.tissue.section import MIN_OVERLAP, SUFFIX, add_cells, new_section

LIBRARY = "library"
# Xenium's matrix, whose cells have positions in a file beside it.
_OF_TISSUE = "cell_feature_matrix"


@READERS.register("cellranger", expects="a 10x matrix of cells: …_feature_bc_matrix.h5, or a folder with matrix.mtx")
class CellRangerReader(GeneOptions, AbstractTableReader):
    """Reads a 10x matrix as a dissociated sample; the number behind a barcode is its ``library``.

    Parameters
    ----------
    metadata
        Table of barcodes and what is known of them: what was done to a cell, its type, its donor.

    See `aivc_graph.io.rows.AbstractTableReader` and `aivc_graph.io.options.GeneOptions` for the others, of columns of
    the metadata and ``library``.

    A matrix beside the positions of its spots or cells is not taken for one of dissociated cells unless `reader:` says
    so.

    Raises
    ------
    ReadError
        A damaged matrix, metadata of other cells.

    References
    ----------
    Zheng et al. 2017, doi:10.1038/ncomms14049.
    """

    metadata: Path | None = None

    @classmethod
    def recognises(cls, path: Path) -> bool:
        if (path.parent / "spatial").exists() or path.name.startswith(_OF_TISSUE):  # the folder is what is meant
            return False
        if path.is_file():
            return "matrix" in hdf5_names(path) and "row_attrs" not in hdf5_names(path)
        try:
            return path.is_dir() and called(path, MTX) is not None and not is_outs(path)
        except ReadError:  # of several samples, which reading says
            return True

    def rows(self, path: Path) -> Rows:
        if path.is_file():
            check_hdf5(path)
        table = read_10x_h5(path) if path.is_file() else read_mtx_folder(path)
        library = table.obs_names.str.extract(r"-(\d+)$")[0].fillna("1").to_numpy()
        columns = pd.DataFrame(index=range(table.n_obs))
        if self.metadata is not None:
            columns = _known_of(self.metadata, table.obs_names)
        columns[LIBRARY] = library
        where = str(self.metadata or path)
        return Rows(table.obs_names, columns, no_positions(table.n_obs), table, where)

    def section_of(self, rows: Rows, path: Path, section: str) -> Any:
        tissue = new_section(section)
        add_cells(tissue, rows.barcodes, self.annotation(rows))
        add_counts(tissue, names.CELL, rows.counts, str(path), **self.count_options)
        return tissue


def _known_of(path: Path, cells: pd.Index) -> pd.DataFrame:
    """Return what a table says of `cells`, in their order; empty where it says nothing."""
    table = read_frame(path)
    barcode = next((name for name in (*BARCODE_NAMES, "Barcode") if name in table), table.columns[0])
    named = pd.Index(names_of(table[barcode]).astype(str))
    share = float(named.isin(cells).mean())
    bare = cells.str.replace(SUFFIX, "", regex=True)
    one_library = len(set(cells.str.extract(f"({SUFFIX})")[0])) == 1
    if share < MIN_OVERLAP and one_library and named.str.replace(SUFFIX, "", regex=True).isin(bare).any():
        tell(f"{path}: joined by barcodes without their suffix ({cells[0]!r} and {named[0]!r})")
        named, cells = named.str.replace(SUFFIX, "", regex=True), bare
        share = float(named.isin(cells).mean())
    if share < MIN_OVERLAP:
        mend = f"a cell is called {cells[0]!r} in the matrix and {named[0]!r} here"
        raise ReadError(str(path), f"{share:.1%} of its cells in the matrix", f"≥ {MIN_OVERLAP:.0%}", mend)
    if named.has_duplicates:
        raise ReadError(str(path), f"cell {named[named.duplicated()][0]!r} twice", "one row a cell", "drop one of them")
    return table.set_index(named).drop(columns=barcode).reindex(cells).reset_index(drop=True)
