"""Tables of conditions in one form: what was done to each row, how much of each part, for how long."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd

from aivc_graph.errors import TissueError, unknown_name
from aivc_graph.names import CONDITION, CONTEXT, DOSE, HOURS, SMILES
from aivc_graph.tissue.conditions import JOIN, Condition, canonical, is_control, read_conditions
from aivc_graph.tissue.naming import names_of

TARGETS = "targets"
BY_PART = (DOSE, HOURS, SMILES)


def as_conditions(
    table: pd.DataFrame,
    *,
    separator: str | None = JOIN,
    control: str | Collection[str] = (),
    where: str = "conditions",
) -> pd.DataFrame:
    """Return a table of conditions in one form, row by row and with its index kept.

    Parameters
    ----------
    table
        ``condition``: text, as `read_conditions` takes it. Optional: ``targets`` in place of what ``condition`` spells,
        a sequence a row; ``dose`` and ``hours`` [h]: a number, text such as ``1+0.5``, or one number a part;
        ``context``; ``smiles``: text, or one a part, None where a molecule is not known and ``""`` for what is none,
        such as a knocked-out gene. One a part is one a part as written, with or without the vehicles. A part of dose 0
        was not given.
    separator, control
        As for `read_conditions`.

    Returns
    -------
    pandas.DataFrame
        ``condition`` (see `canonical`), ``targets`` (parts in alphabetical order), and as far as given ``dose``,
        ``hours``, ``smiles`` (each a tuple, one entry a part; a control keeps its hours), and ``context``.

    Raises
    ------
    TissueError
        If there is neither ``condition`` nor ``targets``, a row has none, or more doses than parts; see also
        `read_conditions`.
    """
    given = {name: list(table[name]) for name in BY_PART if name in table}
    read = _read(table, separator, control, where)
    known: dict[Any, dict[str, tuple[Any, ...]]] = {}
    rows = []
    for condition, *values in zip(read, *given.values(), strict=True):
        key = (condition, repr(values))
        if key not in known:
            known[key] = _condition(condition, dict(zip(given, values, strict=True)), separator, where)
        rows.append(known[key])
    out = pd.DataFrame(index=table.index)
    for name in (TARGETS, *given):
        out[name] = pd.Series([row[name] for row in rows], index=table.index, dtype=object)
    out.insert(0, CONDITION, pd.Series([canonical(parts) for parts in out[TARGETS]], index=table.index, dtype=object))
    if CONTEXT in table:
        out[CONTEXT] = names_of(table[CONTEXT]).astype(str)
    return out


def _read(
    table: pd.DataFrame, separator: str | None, control: str | Collection[str], where: str
) -> Sequence[Condition]:
    if TARGETS in table:
        return [_of_sequence(tuple(map(str, parts)), control) for parts in table[TARGETS]]
    if CONDITION not in table:
        raise unknown_name(TissueError, where, "column", CONDITION, table.columns)
    return read_conditions(table[CONDITION], separator=separator, control=control, where=where).read


def _of_sequence(written: tuple[str, ...], control: str | Collection[str]) -> Condition:
    controls = (control,) if isinstance(control, str) else control
    place = {part: i for i, part in reversed(list(enumerate(written))) if not is_control(part, controls)}
    parts = tuple(sorted(place))
    nothing = tuple(part for part in written if part not in place)
    return Condition(parts, tuple(place[part] for part in parts), len(written), nothing)


def _condition(read: Condition, given: dict[str, Any], separator: str | None, where: str) -> dict[str, tuple[Any, ...]]:
    found: dict[str, tuple[Any, ...]] = {TARGETS: read.parts}
    for name in (DOSE, HOURS):
        if name in given:
            found[name] = _numbers(given[name], read, name, separator or JOIN, where)
    if SMILES in given:
        molecules = _one_each(given[SMILES], read, SMILES, where)
        found[SMILES] = tuple(one if isinstance(one, str) else None for one in molecules)
    if read.parts and DOSE in found:
        kept = [dose != 0 for dose in found[DOSE]]
        if any(kept):
            return {name: tuple(v for v, k in zip(values, kept, strict=True) if k) for name, values in found.items()}
        return {name: values[:1] if name == HOURS else () for name, values in found.items()}
    return found


def _numbers(value: Any, read: Condition, name: str, separator: str, where: str) -> tuple[float, ...]:
    parts = value
    if isinstance(value, str):
        parts = [value] if _is_number(value) else value.replace(separator, JOIN).split(JOIN)
    try:
        numbers = tuple(map(float, parts)) if isinstance(parts, list | tuple) else (float(parts),)
    except (TypeError, ValueError) as error:
        raise TissueError(f"{where} · {read.name}", f"{name} {value!r}", "a number, or one a part") from error
    return _one_each(numbers if len(numbers) != 1 else numbers[0], read, name, where)


def _is_number(text: str) -> bool:
    """Say whether a text is one number, such as ``1e+3``; ``2_1``, which Python takes for 21, is none."""
    if "_" in text:
        return False
    try:
        float(text)
    except ValueError:
        return False
    return True


def _one_each(value: Any, read: Condition, name: str, where: str) -> tuple[Any, ...]:
    """Return one value a part; a single one holds for all, and for a control."""
    n = len(read.parts)
    if not isinstance(value, list | tuple):
        return (value,) * max(n, 1)
    if not n:
        return tuple(value)[:1]
    if len(value) not in (n, read.n_written):
        found = f"{len(value)} values of {name} for {n} parts"
        raise TissueError(f"{where} · {read.name}", found, "one a part, or one for all")
    # One a part as written; without vehicles, the places close up.
    places = read.places if len(value) == read.n_written else [sorted(read.places).index(i) for i in read.places]
    return tuple(value[i] for i in places)
