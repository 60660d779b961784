"""Doses and durations as people write them: ``10 uM``, ``1 µM+100 nM``, ``24hr``; in one unit a column."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from aivc_graph.errors import TissueError
from aivc_graph.tissue.conditions import JOIN

Quantity = Literal["dose", "hours"]
HOUR = "h"
# By dimension: how many of its first unit each unit is.
_SCALES: dict[str, dict[str, float]] = {
    "concentration": {"µM": 1.0, "M": 1e6, "mM": 1e3, "nM": 1e-3, "pM": 1e-6, "fM": 1e-9},
    "mass per volume": {"ng/mL": 1.0, "µg/mL": 1e3, "mg/mL": 1e6, "pg/mL": 1e-3, "g/L": 1e6, "mg/L": 1e3, "µg/L": 1.0},
    "mass per weight": {"mg/kg": 1.0, "µg/kg": 1e-3, "g/kg": 1e3},
    "share": {"%": 1.0},
    "radiation": {"Gy": 1.0, "cGy": 0.01, "mGy": 1e-3},
    "time": {"h": 1.0, "min": 1 / 60, "s": 1 / 3600, "d": 24.0, "wk": 168.0},
}
_TIMES = {
    "h": ("hr", "hrs", "hour", "hours"),
    "min": ("mins", "minute", "minutes"),
    "s": ("sec", "secs", "second", "seconds"),
    "d": ("day", "days"),
    "wk": ("w", "week", "weeks"),
}
_AMOUNT = re.compile(r"^\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([^\d\s].*?)?\s*$")


def unit_of(text: str) -> str | None:
    """Return a unit as it is written here, `None` if it is not known.

    Examples
    --------
    >>> unit_of("um"), unit_of("μM"), unit_of("ug/ml"), unit_of("hrs"), unit_of("apples")
    ('µM', 'µM', 'µg/mL', 'h', None)
    """
    plain = text.strip().replace("μ", "µ").replace(" ", "").removesuffix(".").replace("per", "/").replace("^-1", "")
    known = [unit for scale in _SCALES.values() for unit in scale]
    # Case tells mM from MM nowhere and M from m alone: only a lone letter is taken as it stands.
    folded = {unit.lower() if len(unit) > 1 else unit: unit for unit in known}
    folded |= {word: unit for unit, words in _TIMES.items() for word in words} | {"H": "h", "molar": "M"}
    name = plain if len(plain) == 1 else plain.lower()
    return folded.get(name) or folded.get(re.sub(r"^u", "µ", name)) or folded.get(re.sub(r"^micro", "µ", name))


def in_one_unit(
    values: Sequence[Any] | pd.Series, quantity: Quantity, unit: str | None, separator: str | None, where: str
) -> tuple[list[Any], str | None]:
    """Return amounts as numbers, one a row or a tuple of one a part, and the unit they are in.

    Text may hold a unit behind each number, or behind the last of a combination for all. Bare numbers are in `unit`. Of
    text with units the result is in `unit`, or where that is not given in the first unit of its dimension here (µM,
    ng/mL …); hours are always [h]. What is missing is NaN.

    Raises
    ------
    TissueError
        Text that is no amount, an unknown unit, units of two dimensions, or rows with a unit beside rows without.
    """
    column = pd.Series(list(values), dtype=object)
    text = sorted({one for one in column if isinstance(one, str) and one.strip()})
    read = {one: _amounts(one, separator, quantity, f"{where} · {quantity}") for one in text}
    units = {unit for parts in read.values() for _, unit in parts if unit is not None}
    if not units:
        bare = {one: tuple(number for number, _ in parts) for one, parts in read.items()}
        return [_one(one, bare) for one in column], unit
    _check_units(column, read, units, quantity, where)
    scale = next(one for one in _SCALES.values() if units <= set(one))
    wanted = HOUR if quantity == "hours" else next(iter(scale)) if unit is None else unit_of(unit) or unit
    if wanted not in scale:
        found = f"amounts in {', '.join(sorted(units))}"
        raise TissueError(f"{where} · {quantity}", found, f"{unit}, as `unit:` says", "change it to one of these")
    known = {
        one: tuple(value * scale[u or wanted] / scale[wanted] for value, u in parts) for one, parts in read.items()
    }
    return [_one(one, known) for one in column], wanted


def _amounts(text: str, separator: str | None, quantity: str, where: str) -> list[tuple[float, str | None]]:
    """Return number and unit of each part; one that has no unit takes that of the part behind it."""
    whole = _AMOUNT.match(text)
    parts = [text] if whole and (not whole[2] or unit_of(whole[2])) else re.split(_joins(separator), text)
    found: list[tuple[float, str | None]] = []
    behind = None
    for part in reversed(parts):
        match = _AMOUNT.match(part)
        unit = unit_of(match[2]) if match and match[2] else None
        if match is None or (match[2] and unit is None):
            known = ", ".join(unit for name in _measures(quantity) for unit in list(_SCALES[name])[:5])
            raise TissueError(where, f"{quantity} {text!r}", "a number, or one with its unit", f"units are {known} …")
        behind = unit or behind
        found.insert(0, (float(match[1]), behind))
    return found


def _measures(quantity: str) -> list[str]:
    """Return what may be measured of a quantity: durations, or all else."""
    return [name for name in _SCALES if (name == "time") == (quantity == "hours")]


def _joins(separator: str | None) -> str:
    """Return what parts of an amount are parted by: the sign of an exponent is no join."""
    joins = sorted({JOIN, separator or JOIN, "|", ";"}, key=len, reverse=True)
    return r"(?<![\d.][eE])(?:" + "|".join(map(re.escape, joins)) + ")"


def _check_units(
    column: pd.Series, read: dict[str, list[tuple[float, str | None]]], units: set[str], quantity: str, where: str
) -> None:
    if not any(units <= set(_SCALES[name]) for name in _measures(quantity)):
        expected = "durations" if quantity == "hours" else "one kind of amount"
        raise TissueError(f"{where} · {quantity}", f"units {', '.join(sorted(units))}", expected, "part the column")
    bare = [one for one, parts in read.items() if any(u is None and value != 0 for value, u in parts)]
    bare += [str(one) for one in column if not isinstance(one, str) and pd.notna(one) and one != 0]
    if bare:
        found = f"{bare[0]!r} without a unit beside others with one"
        raise TissueError(f"{where} · {quantity}", found, "a unit in every row", "write it there as well")


def _one(value: Any, known: dict[str, tuple[float, ...]]) -> Any:
    if isinstance(value, str):
        parts = known.get(value, (np.nan,))
        return parts if len(parts) > 1 else parts[0]
    return np.nan if value is None or value is pd.NA else value
