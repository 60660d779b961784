"""Counts as wide text: one row a cell, one column a gene, read block by block into a sparse matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from aivc_graph.io.tables import frame_blocks, matrix_of


def read_wide(path: Path, keys: tuple[str, ...]) -> tuple[pd.DataFrame, pd.Index, sparse.csr_matrix]:
    """Return the columns `keys` that are there, as text, the names of all others, and these as CSR float32.

    Parameters
    ----------
    keys
        Columns that name the rows and are no genes.

    Raises
    ------
    ReadError
        No such file, damaged, no table; columns other than `keys` that are not numeric.
    """
    names: list[pd.DataFrame] = []
    counts: list[sparse.csr_matrix] = []
    genes = pd.Index([])
    for block in frame_blocks(path, text=keys):
        is_key = block.columns.isin(keys)
        names.append(block.loc[:, is_key])
        genes = block.columns[~is_key].astype(str)
        counts.append(matrix_of(block.iloc[:, np.flatnonzero(~is_key)], str(path)))
    return pd.concat(names, ignore_index=True), genes, sparse.vstack(counts, format="csr")
