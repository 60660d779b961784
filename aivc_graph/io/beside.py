"""What the tables beside a file say of its rows: the same names, so positions, or annotation."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd

from aivc_graph.errors import ReadError
from aivc_graph.io.decode_budget import open_text
from aivc_graph.io.tables import BARCODE_NAMES, PLACE, POSITION_NAMES, column_names, read_frame

TABLES = {".csv", ".tsv", ".txt", ".parquet"}
MOST_BYTES = 2**28
# Two tables name the same rows if this share of the names of one stands in the other.
SAME = 0.9


def tables_beside(path: Path) -> list[Path]:
    """Return the tables in the folder of `path` that are small enough to be looked into, without it, in order."""
    beside = (one for one in sorted(path.parent.iterdir()) if one.is_file() and one.name != path.name)
    return [one for one in beside if TABLES & set(one.suffixes[-2:]) and one.stat().st_size <= MOST_BYTES]


def lines_of(path: Path) -> int:
    """Return how many lines a text has, gzipped or not; 0 of one that cannot be read."""
    try:
        with open_text(path) as opened:
            return sum(1 for _ in opened)
    except (ReadError, OSError, EOFError):
        return 0


def row_names(path: Path) -> pd.Index:
    """Return the names of the rows of a table: its column of a usual name, or else its first."""
    frame = read_frame(path)
    key = next((name for name in BARCODE_NAMES if name in frame), frame.columns[0])
    return pd.Index(frame.loc[:, frame.columns == key].iloc[:, 0].astype(str))


def has_positions(columns: list[str]) -> bool:
    """Say whether two columns are named as positions usually are."""
    return any(set(pair) <= set(columns) for pair in POSITION_NAMES)


def naming_the_same(path: Path) -> list[tuple[Path, bool]]:
    """Return the narrower tables beside a table that name its rows, or its columns, and whether it was the columns.

    Those with positions stand first, by their usual names or by what looks like them; then the one with more columns.
    """
    header = column_names(path)
    rows = cache(row_names)  # all of a wide table is read for them, so once, and only where they are asked for
    found = []
    for other in tables_beside(path):
        try:
            columns = column_names(other)
            if not 1 < len(columns) < len(header):
                continue
            named = row_names(other)
        except ReadError:
            continue
        if named.nunique() < SAME * len(named):
            continue  # rows of molecules or edges; of a few that are twice, the reader says so
        by_column = _same(pd.Index(header[1:]), named)
        if by_column or _same(rows(path), named):
            places = (has_positions(columns), sum(bool(PLACE.search(one)) for one in columns) > 1)
            found.append(((*places, len(columns)), other, by_column))
    found.sort(key=lambda one: one[0], reverse=True)
    return [(other, by_column) for _, other, by_column in found]


def _same(names: pd.Index, others: pd.Index) -> bool:
    """Say whether two tables name the same rows; bare numbers, which any table may have, must be equal throughout."""
    if names.str.isdigit().all():
        return len(names) == len(others) and set(names) == set(others)
    return bool(names.isin(others).mean() >= SAME)
