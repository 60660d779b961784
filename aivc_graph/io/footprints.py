"""Read which genes tell of which pathway or transcription factor, and how strongly: footprints and gene sets."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from aivc_graph.errors import ReadError
from aivc_graph.io.h5ad_file import file_hashes
from aivc_graph.io.tables import need_columns, numbers, read_frame

# Column names that the field's resources use: decoupler, PROGENy, DoRothEA and CollecTRI.
SOURCES, TARGETS, WEIGHTS = ("source", "pathway", "tf", "set"), ("target", "gene", "symbol"), ("weight", "mor")


def read_footprints(path: Path) -> pd.DataFrame:
    """Return weights as columns ``source``, ``target`` and ``weight``.

    Parameters
    ----------
    path
        A table with a source, a target and a weight a row (``source, target, weight``; ``pathway, gene, weight``;
        ``tf, target, mor``), or gene sets as GMT, all of weight 1.

    Raises
    ------
    ReadError
        If the file is missing or damaged, lacks a column, or gives one target twice to one source.
    """
    path = Path(path)
    if not path.is_file():
        raise ReadError(str(path), "no such file", "weights as a table or gene sets as GMT", "check the path")
    found = _gene_sets(path) if path.suffix == ".gmt" else _table(path)
    if not len(found):
        raise ReadError(str(path), "no weights", "a row a source and target")
    twice = found.duplicated(["source", "target"])
    if twice.any():
        source, target = found.loc[twice, ["source", "target"]].iloc[0]
        raise ReadError(str(path), f"{target!r} twice under {source!r}", "each target once a source")
    return found


def hashes_of_weights(path: Path | None) -> dict[str, dict[str, str]]:
    """Return the SHA-256 of a file of weights by its name, under ``pathways``; nothing without one."""
    return {} if path is None else {"pathways": file_hashes(Path(path))}


def _table(path: Path) -> pd.DataFrame:
    frame = read_frame(path, text=(*SOURCES, *TARGETS))
    columns = [next((n for n in names if n in frame.columns), names[0]) for names in (SOURCES, TARGETS, WEIGHTS)]
    need_columns(frame, tuple(columns), str(path))
    source, target, weight = (frame[name] for name in columns)
    found = {"source": source.astype(str), "target": target.astype(str), "weight": numbers(weight, str(path))}
    return pd.DataFrame(found).dropna()


def _gene_sets(path: Path) -> pd.DataFrame:
    rows = [line.rstrip("\r\n").split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if any(len(row) < 3 for row in rows):
        raise ReadError(str(path), "a line of fewer than three fields", "name, description and genes, tab-separated")
    pairs = [(row[0], gene, 1.0) for row in rows for gene in dict.fromkeys(filter(None, row[2:]))]
    return pd.DataFrame(pairs, columns=["source", "target", "weight"])
