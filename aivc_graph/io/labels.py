"""Labels that lie in a file of their own, joined to nodes by barcode, with nothing lost unsaid."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from aivc_graph import names
from aivc_graph.errors import ReadError
from aivc_graph.io.beside import has_positions, tables_beside
from aivc_graph.io.tables import BARCODE_NAMES, column_names, labels_of, need_columns, read_frame
from aivc_graph.tissue.doubt import doubt
from aivc_graph.tissue.naming import names_of
from aivc_graph.tissue.section import MIN_OVERLAP

log = logging.getLogger(__name__)
# A file that names fewer of the nodes than this is hardly theirs; one that names fewer than the second is worth a word.
HARDLY, PART = 0.05, 0.5
_LABELS = (names.LABEL, "group", "Cluster", "cluster", "cell_type")
_NAMED = (*BARCODE_NAMES, "Barcode")


def label_tables(folder: Path) -> list[Path]:
    """Return the tables in `folder`, then beside it, with a column of names and one of labels, and no positions."""
    found = []
    for path in [*tables_beside(folder / names.LABEL), *tables_beside(folder)]:
        with suppress(ReadError):
            columns = column_names(path)
            if set(_NAMED) & set(columns) and set(_LABELS) & set(columns) and not has_positions(columns):
                found.append(path)
    return found


def read_labels(path: Path, nodes: pd.Index, level: str) -> np.ndarray:
    """Return the label of each of `nodes` from a table of names and labels, such as the vendor's ``clusters.csv``.

    Raises
    ------
    ReadError
        No such file, no column of names or of labels, a node twice, labels of other nodes.
    """
    table = read_frame(path)
    barcode = next((name for name in _NAMED if name in table), names.BARCODE)
    there = [name for name in _LABELS if name in table]
    label = there[0] if there else names.LABEL
    if len(there) > 1:
        others = ", ".join(map(repr, there[1:]))
        doubt(
            str(path), f"labels from {label!r}, and {others} there as well", "one column of labels", "drop the others"
        )
    need_columns(table, (barcode, label), str(path))
    ids = pd.Series(names_of(table[barcode]))
    if ids.duplicated().any():
        raise ReadError(
            str(path), f"{level} {ids[ids.duplicated()].iloc[0]!r} twice", f"one row a {level}", "drop one of them"
        )
    return join_labels(pd.Series(table[label].to_numpy(), index=ids), nodes, path, level)


def join_labels(labels: pd.Series, nodes: pd.Index, path: Path, level: str) -> np.ndarray:
    """Return the label of each of `nodes`, `None` where there is none, and say how many had no partner on either side.

    Parameters
    ----------
    labels
        Labels by barcode, each barcode once.
    nodes
        Barcodes of the nodes of `level`.

    Raises
    ------
    ReadError
        If fewer than 95 % of the labels are at a node, or they name fewer than 5 % of the nodes.
    """
    if len(labels) == 0:
        raise ReadError(str(path), "no label", f"labels of the {level}s", "leave it out")
    known, named = labels.index.isin(nodes), nodes.isin(labels.index)
    both = "do both files belong together?"
    if known.mean() < MIN_OVERLAP:
        found = f"{(~known).sum():,} of {len(known):,} labels at no {level}, first {labels.index[~known][0]!r}"
        raise ReadError(str(path), found, f"≥ {MIN_OVERLAP:.0%} to match", f"{both} a {level} is called {nodes[0]!r}")
    if named.mean() < HARDLY:
        found = f"labels of {named.sum():,} of {len(named):,} {level}s"
        raise ReadError(str(path), found, f"those of ≥ {HARDLY:.0%}", both)
    joined = labels_of(labels.reindex(nodes))
    without = int(pd.isna(joined).sum())
    told = (
        f"{len(joined) - without:,} {level}s with a label, {without:,} without; {(~known).sum():,} labels at no {level}"
    )
    if without > (1 - PART) * len(joined):
        doubt(str(path), told)
    else:
        log.info("%s: %s", path, told)
    return joined
