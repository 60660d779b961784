"""Wide text whose rows are genes and whose columns are nodes, read block by block."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from aivc_graph.errors import ReadError
from aivc_graph.io.tables import GZIP_MAGIC, first_lines, magic_of

_BLOCK_VALUES = 2**24


def read_gene_rows(path: Path) -> tuple[pd.Index, pd.Index, sparse.csr_matrix]:
    """Return the nodes, the genes and the values ``(node, gene)`` as CSR float32.

    The first line names the nodes, with a name above the genes or, as R writes it, without.

    Raises
    ------
    ReadError
        Not such a text, values that are no numbers, damaged.
    """
    first = first_lines(path)
    if len(first) < 2:
        raise ReadError(str(path), "less than two lines of text", "genes by nodes, as text")
    nodes = first[0] if len(first[0]) < len(first[1]) else first[0][1:]
    genes: list[str] = []
    parts = []
    for block in _blocks(path, len(nodes)):
        genes += block.index.astype(str).tolist()
        parts.append(sparse.csr_matrix(block.to_numpy(np.float32)))
    return pd.Index(nodes).astype(str), pd.Index(genes), sparse.vstack(parts).T.tocsr()


def _blocks(path: Path, n_nodes: int) -> Iterator[pd.DataFrame]:
    first = first_lines(path)
    separator = max(",\t ;", key=lambda one: one.join(first[1]) in _line(path, 1))
    zipped = magic_of(path).startswith(GZIP_MAGIC)
    try:
        yield from pd.read_csv(
            path,
            sep=separator,
            header=None,
            skiprows=1,
            index_col=0,
            chunksize=max(1, _BLOCK_VALUES // max(n_nodes, 1)),
            compression="gzip" if zipped else None,
        )
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise ReadError(str(path), f"a damaged table ({error})", mend="copy it again from its source") from error
