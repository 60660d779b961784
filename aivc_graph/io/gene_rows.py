"""Wide text whose rows are genes and whose columns are nodes, read block by block."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from aivc_graph.errors import ReadError
from aivc_graph.io.tables import frame_blocks, matrix_of


def read_gene_rows(path: Path) -> tuple[pd.Index, pd.Index, sparse.csr_matrix]:
    """Return the nodes, the genes and the values ``(node, gene)`` as CSR float32.

    Raises
    ------
    ReadError
        No such text, values that are no numbers, a damaged file.
    """
    genes, parts, nodes = [], [], pd.Index([])
    for block in frame_blocks(path):
        nodes = block.columns[1:].astype(str)
        genes.append(block.iloc[:, 0].astype(str).to_numpy())
        parts.append(matrix_of(block.iloc[:, 1:], str(path)))
    if not parts or not len(nodes):
        raise ReadError(str(path), "one column", "genes as rows and nodes as columns")
    return nodes, pd.Index(np.concatenate(genes)), sparse.vstack(parts).T.tocsr()
