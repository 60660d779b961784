"""The one reader of conditions: text such as ``KLF1+MAP2K6`` → what was done, in whatever order it is written."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aivc_graph.errors import Faults, TissueError, unknown_name
from aivc_graph.tissue.naming import names_of

CONTROL = "control"
JOIN = "+"
# How screens write that nothing was done, without case, spaces, "-" and "_".
_SPELLINGS = """
    control controls ctrl ctl ntc nt nontargeting nontargetingcontrol safetargeting safetargetingcontrol negctrl
    negativecontrol scramble scrambled dmso vehicle vehiclecontrol pbs saline mock none untreated unstimulated
    unperturbed wt wildtype sgctrl sgcontrol sgnt sictrl sicontrol shctrl shcontrol emptyvector notreatment nosite
    intergenic safeharbor media water h2o sham
"""
CONTROL_SPELLINGS = frozenset(_SPELLINGS.split())
# Guides that are controls are numbered, vehicles stand with their share; WT1 and the like are genes.
_NUMBERED = re.compile(
    r"(?:ctrl|controls?|ntc|(?:nontargeting|safetargeting)(?:control|guide)?|neg(?:ative)?(?:ctrl|control)|scrambled?"
    r"|intergenic|nosite)\d+|(?:dmso|pbs|vehicle)(?:\d*\.\d+%?|\d+%)"
)
# What also joins names, where the user says so by `separator`.
_OTHER_JOINS = ("_", "|", ";", "&", ",", "/", "--", "-", ":", ".", " and ", " x ", "~")
_QUOTED = re.compile(r'\s*"((?:[^"]|"")*)"\s*')
_BRACKETS = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True)
class Condition:
    """What one text says was done.

    Parameters
    ----------
    parts
        Each part once, in alphabetical order; nothing for a control.
    places
        Which of the parts as written each one is (part,), so that a dose a part finds its own.
    n_written
        Parts as written, vehicles among them.
    controls
        Spellings taken for nothing.
    """

    parts: tuple[str, ...]
    places: tuple[int, ...]
    n_written: int
    controls: tuple[str, ...]

    @property
    def name(self) -> str:
        """The condition as every table and graph calls it; see `canonical`."""
        return canonical(self.parts)


@dataclass(frozen=True)
class Conditions:
    """A column of conditions, read.

    Parameters
    ----------
    name
        Canonical text of each row (row,), ``control`` where nothing was done.
    read
        What each row says (row,).
    controls
        Spelling taken for a control, or for a vehicle beside a part → rows with it.
    """

    name: NDArray[np.str_]
    read: tuple[Condition, ...]
    controls: dict[str, int]

    def told(self) -> str:
        """Say which spellings were taken for controls; empty where it is ``control`` alone, or none."""
        if not set(self.controls) - {CONTROL}:
            return ""
        return "taken for nothing done: " + ", ".join(f"{name!r} ({n:,} rows)" for name, n in self.controls.items())


def canonical(parts: Iterable[str]) -> str:
    """Return the name of a combination: parts in alphabetical order, joined by ``+``; ``control`` for none.

    A part that would be read as something else, such as one that holds a ``+``, stands in double quotes.

    Examples
    --------
    >>> canonical(["MAP2K6", "KLF1"]), canonical([]), canonical(["NAD+", "A"])
    ('KLF1+MAP2K6', 'control', 'A+"NAD+"')
    """
    return JOIN.join(_quoted(part) for part in sorted(set(parts))) or CONTROL


def parts_of(condition: str, separator: str | None = JOIN, control: Collection[str] = ()) -> tuple[str, ...]:
    """Return what was done, in alphabetical order; nothing for a control. `condition` need not be canonical.

    Examples
    --------
    >>> parts_of("MAP2K6+KLF1"), parts_of("KLF1+DMSO"), parts_of("non-targeting"), parts_of('A+"NAD+"')
    (('KLF1', 'MAP2K6'), ('KLF1',), (), ('A', 'NAD+'))
    """
    return read_condition(condition, separator, control).parts


def is_control(name: str, control: Collection[str] = ()) -> bool:
    """Say whether a name stands for nothing done: one of `control`, or a spelling that screens use.

    Case, spaces, ``-`` and ``_`` do not matter, nor the number of a guide that is one of several controls.

    Examples
    --------
    >>> is_control("Non-Targeting"), is_control("AAVS1"), is_control("AAVS1", ["aavs1"])
    (True, False, True)
    """
    folded = _folded(name)
    usual = folded in CONTROL_SPELLINGS or _NUMBERED.fullmatch(folded) is not None
    return usual or folded in {_folded(one) for one in control}


def read_condition(text: str, separator: str | None = JOIN, control: Collection[str] = ()) -> Condition:
    """Read one condition.

    Parts are joined by `separator`; inside brackets or double quotes it is part of a name. A name in double quotes is
    never a control.

    Parameters
    ----------
    separator
        What joins two parts, such as ``_`` or ``|``; None: there are no combinations.
    control
        What is a control beside the usual spellings; one may hold the separator.

    Raises
    ------
    TissueError
        A part is empty, as in ``NAD+`` or ``A++B``.
    """
    if is_control(text, control):
        return Condition((), (), 1, (text.strip(),))
    written = _split(text, separator)
    if any(not name for name, _ in written):
        mend = f"put a name that holds {separator!r} in double quotes, or declare another `separator:`"
        raise TissueError(f"condition {text!r}", "an empty part", f"names joined by {separator!r}", mend)
    nothing = [not quoted and is_control(name, control) for name, quoted in written]
    place: dict[str, int] = {}
    for i, ((name, _), none) in enumerate(zip(written, nothing, strict=True)):
        if not none:
            place.setdefault(name, i)
    parts = tuple(sorted(place))
    spelled = tuple(name for (name, _), none in zip(written, nothing, strict=True) if none)
    return Condition(parts, tuple(place[part] for part in parts), len(written), spelled)


def read_conditions(
    column: Sequence[Any] | pd.Series,
    *,
    separator: str | None = JOIN,
    control: str | Collection[str] = (),
    where: str = "conditions",
) -> Conditions:
    """Read a column of conditions.

    Raises
    ------
    TissueError
        Rows without a value, a declared control that no row has, names with an empty part, names that read as two
        conditions of the column joined by something other than `separator`.
    """
    controls = (control,) if isinstance(control, str) else tuple(control)
    values = pd.Series(column)
    _check_values(values, where)
    text = pd.Series(names_of(values), values.index)
    faults, known = Faults(TissueError), {}
    for one in sorted(set(text)):
        try:
            known[one] = read_condition(one, separator, controls)
        except TissueError as error:
            faults.messages.append(f"{where}: {error}")
    faults.raise_if_any()
    _check_declared(controls, known, where)
    _check_joins(known, separator, where)
    rows = Counter(text)
    spelled = sorted({name for one in known.values() for name in one.controls})
    found = {name: sum(n for one, n in rows.items() if name in known[one].controls) for name in spelled}
    return Conditions(np.array([known[one].name for one in text], np.str_), tuple(known[one] for one in text), found)


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def _quoted(part: str) -> str:
    plain = JOIN not in part and '"' not in part and part == part.strip() and not is_control(part) and _closes(part)
    return part if plain else '"' + part.replace('"', '""') + '"'


def _closes(part: str) -> bool:
    """Say whether every bracket of a name has its other."""
    waiting: list[str] = []
    for letter in part:
        if letter in _BRACKETS.values():
            waiting.append(letter)
        elif letter in _BRACKETS and (not waiting or waiting.pop() != _BRACKETS[letter]):
            return False
    return not waiting


def _split(text: str, separator: str | None) -> list[tuple[str, bool]]:
    """Return the parts as written, each with whether it was in double quotes."""
    parts, at = [], 0
    while True:
        quoted = _QUOTED.match(text, at)
        end = quoted.end() if quoted else _end_of_name(text, at, separator)
        if quoted and end < len(text) and not (separator and text.startswith(separator, end)):
            quoted, end = None, _end_of_name(text, at, separator)
        parts.append((quoted[1].replace('""', '"'), True) if quoted else (text[at:end].strip(), False))
        if end >= len(text):
            return parts
        at = end + len(separator or "")


def _end_of_name(text: str, start: int, separator: str | None) -> int:
    """Return where the next separator outside of brackets begins, or the end; a bracket alone is a letter."""
    if not separator:
        return len(text)
    open_at: list[int] = []
    inside = np.zeros(len(text) + 1, bool)
    for i in range(start, len(text)):
        if text[i] in _BRACKETS.values():
            open_at.append(i)
        elif text[i] in _BRACKETS and open_at and text[open_at[-1]] == _BRACKETS[text[i]]:
            inside[open_at.pop() : i] = True
    at = text.find(separator, start)
    while at >= 0 and inside[at]:
        at = text.find(separator, at + 1)
    return len(text) if at < 0 else at


def _check_values(values: pd.Series, where: str) -> None:
    missing = values.isna() | (values.astype(str).str.strip() == "")
    if missing.any():
        found = f"{int(missing.sum()):,} of {len(values):,} rows without a condition"
        raise TissueError(where, found, "one for every row", f"write {CONTROL!r} where nothing was done, or drop them")


def _check_declared(controls: tuple[str, ...], known: dict[str, Condition], where: str) -> None:
    found = {_folded(name) for one in known.values() for name in one.controls}
    absent = [one for one in controls if _folded(one) not in found]
    if absent:
        raise unknown_name(TissueError, where, "control", absent[0], known)


def _check_joins(known: dict[str, Condition], separator: str | None, where: str) -> None:
    """Refuse names whose every half is a condition of its own: pairs that another separator joins."""
    alone = {one.parts[0] for one in known.values() if len(one.parts) == 1}
    unquoted = [name for name, one in known.items() if len(one.parts) == 1 and '"' not in name]
    for join in _OTHER_JOINS:
        pairs = [name for name in unquoted if join in name and _are_known(name.split(join), alone)]
        if join != separator and pairs:
            found = f"{min(pairs)!r}, which reads as a pair of two conditions that are there"
            found += f", and {len(pairs) - 1} more" if len(pairs) > 1 else ""
            mend = f"declare `separator: {join!r}`, or put the name in double quotes if it is one"
            raise TissueError(where, found, f"A{separator or JOIN}B", mend)


def _are_known(halves: list[str], alone: set[str]) -> bool:
    trimmed = [half.strip() for half in halves]
    named = [half for half in trimmed if not is_control(half)]
    return bool(named) and all(half in alone for half in named)
