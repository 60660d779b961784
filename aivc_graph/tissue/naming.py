"""Values that are names as text: numbers that are names lose neither a digit nor gain a ``.0``."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from aivc_graph.errors import ReadError

# Above this a float no longer holds every whole number, so a name that went through one is another's.
LAST_EXACT = 2**53
_WHOLE = re.compile(r"^(-?\d+)\.0+$")
# What a spreadsheet, or R, makes of a long number.
_ROUNDED = re.compile(r"^\d\.\d+[eE]\+?(?:1[5-9]|2\d)$")


def names_of(column: pd.Series) -> np.ndarray:
    """Return a column of names as text ``(row,)``, `None` where there is none; 3.0 reads as ``3``.

    Raises
    ------
    ReadError
        Whole numbers beyond 2⁵³ held or written as floats, whose last digits are lost.
    """
    if column.dtype.kind == "f" and (column.abs() > LAST_EXACT).any():
        first = column[column.abs() > LAST_EXACT].iloc[0]
        found = f"{first:.0f} and others, held as floats: their last digits are lost"
        raise ReadError(f"column {column.name!r}", found, "names as text or whole numbers", "write them as text")
    known = column.notna().to_numpy()
    text = pd.Series([name_of(value) for value in column[known]], dtype=object)
    rounded = text.str.fullmatch(_ROUNDED) if len(text) else pd.Series(False, range(0))
    if rounded.any():
        found = f"{text[rounded].iloc[0]!r} and others, written as floats: their last digits are lost"
        raise ReadError(
            f"column {column.name!r}", found, "names as text or whole numbers", "take the vendor's own file"
        )
    if len(text) and text.str.fullmatch(_WHOLE).all():
        text = text.str.replace(_WHOLE, r"\1", regex=True)
    names = np.full(len(column), None, dtype=object)
    names[known] = text.to_numpy()
    return names


def name_of(value: Any) -> str:
    """Return one name as text.

    Examples
    --------
    >>> name_of(3.0), name_of(b"A1"), name_of(7)
    ('3', 'A1', '7')
    """
    if isinstance(value, bytes):
        return value.decode()
    return str(int(value)) if isinstance(value, float | np.floating) and float(value).is_integer() else str(value)
