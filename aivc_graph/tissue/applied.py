"""What was done to each cell, as columns of its annotation say it: a screen, in one section or in several."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Discriminator, Field, Tag

from aivc_graph import names
from aivc_graph.errors import Faults, TissueError, unknown_name
from aivc_graph.settings import Settings
from aivc_graph.tissue.amounts import HOUR, in_one_unit
from aivc_graph.tissue.condition_table import TARGETS, as_conditions
from aivc_graph.tissue.conditions import JOIN, Conditions, read_conditions
from aivc_graph.tissue.intervention import Intervention
from aivc_graph.tissue.intervention_kinds.kind import INTERVENTION_KINDS, Kind
from aivc_graph.tissue.naming import names_of
from aivc_graph.tissue.section import metadata_of

# Joins the SMILES of a combination; it is in no SMILES, where "+" is a charge.
SMILES_JOIN = ";"
STATED = "stated"


class KindColumn(Settings):
    """The kind of intervention where it differs between rows.

    Parameters
    ----------
    column
        Column that tells it.
    values
        Kind by value of that column, such as ``{CRISPRa: activation, CRISPRi: knockout}``.
    """

    column: str
    values: dict[str, Kind] = Field(min_length=1)


def _form_of(kind: Any) -> str:
    return "column" if isinstance(kind, dict | KindColumn) else "name"


class InterventionColumns(Settings):
    """Where the annotation of the cells says what was done to them.

    Parameters
    ----------
    column
        Column of conditions, such as ``KLF1+MAP2K6``; see `aivc_graph.tissue.conditions.read_conditions`.
    kind
        One of `INTERVENTION_KINDS`, such as ``knockout`` or ``drug``, or the column that tells it.
    control
        Names of controls beside the usual ones.
    separator
        What joins two parts; null where there are no combinations.
    dose
        Column of doses, one for all parts or one a part such as ``1+0.5``; text may hold the unit, as in ``10 uM``. A
        part of dose 0 was not given.
    unit
        Unit of the doses, to which those of a text are brought; by default that of the kind.
    hours
        Column of durations [h], in the same form; text may hold a unit, as in ``2 d``.
    smiles
        Column of structures; those of a combination are joined by ``;``.
    """

    column: str
    kind: Annotated[Annotated[Kind, Tag("name")] | Annotated[KindColumn, Tag("column")], Discriminator(_form_of)]
    control: tuple[str, ...] | str = ()
    separator: str | None = JOIN
    dose: str | None = None
    unit: str | None = None
    hours: str | None = None
    smiles: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read."""
        kind = self.kind.column if isinstance(self.kind, KindColumn) else None
        return tuple(name for name in (self.column, kind, self.dose, self.hours, self.smiles) if name is not None)


def screened_level(section: Any) -> str:
    """Return the level whose nodes are told apart by condition: cells, or spots where there are no cells."""
    return names.CELL if names.CELL in section.shapes else names.PATCH


def set_conditions(section: Any, given: InterventionColumns) -> Conditions:
    """Write on each cell of a section what was done to it, and return how its conditions were read.

    The column ``condition`` is canonical, ``control`` where nothing was done; ``dose``, ``hours`` and ``smiles`` have
    one entry a part in the order of the condition, and are there as far as given.

    Raises
    ------
    TissueError
        A column that is missing, a cell without a condition, or a condition that cannot be read.
    """
    shapes = section.shapes[screened_level(section)]
    where = f"{metadata_of(section)['section']} · {given.column}"
    for name in given.columns:
        if name not in shapes:
            mend = [str(column) for column in shapes.columns if column not in ("geometry", "radius")]
            raise unknown_name(TissueError, where, "column", name, mend)
    said, unit = pd.DataFrame({names.CONDITION: shapes[given.column]}), given.unit
    if given.dose is not None:
        doses, unit = in_one_unit(shapes[given.dose], "dose", unit, given.separator, where)
        said[names.DOSE] = pd.Series(doses, index=said.index, dtype=object)
    if given.hours is not None:
        hours, _ = in_one_unit(shapes[given.hours], "hours", HOUR, given.separator, where)
        said[names.HOURS] = pd.Series(hours, index=said.index, dtype=object)
    if given.smiles is not None:
        said[names.SMILES] = [_molecules(text) for text in shapes[given.smiles]]
    options: dict[str, Any] = {"separator": given.separator, "control": given.control, "where": where}
    table, read = as_conditions(said, **options), read_conditions(said[names.CONDITION], **options)
    _check_amounts(table, where)
    written = {names.CONDITION: table[names.CONDITION].to_numpy(str)}
    for key, join in ((names.DOSE, JOIN), (names.HOURS, JOIN), (names.SMILES, SMILES_JOIN)):
        if key in table:
            written[key] = np.array([join.join(_text(one) for one in row) for row in table[key]], str)
    if isinstance(given.kind, KindColumn):
        written[names.KIND] = _kinds(shapes[given.kind.column], given.kind, where)
    for key, values in written.items():
        shapes[key] = values
    kind = None if isinstance(given.kind, KindColumn) else given.kind
    # A column that only happens to be called so states nothing.
    metadata_of(section)[names.APPLIED] = {names.KIND: kind, "unit": unit, STATED: list(written)}
    return read


def conditions_of_nodes(section: Any) -> pd.DataFrame | None:
    """Return what was done to each cell in the form of `as_conditions`, by barcode; None where no column says it."""
    return _read_back(section) if names.APPLIED in metadata_of(section) else None


def applied_parts(section: Any) -> tuple[pd.DataFrame, dict[str, Intervention]]:
    """Return a row a cell and part of what `set_conditions` wrote, and each intervention by its key.

    Columns: ``node`` (position among the level's nodes), ``key``, ``dose``, ``onset_hours`` and ``hours`` [h]; a dose
    or hours that no column states are NaN.
    """
    shapes, said = section.shapes[screened_level(section)], metadata_of(section)[names.APPLIED]
    distinct = pd.DataFrame(shapes[said[STATED]]).groupby(said[STATED], sort=False, dropna=False).ngroup().to_numpy()
    first = np.unique(distinct, return_index=True)[1]
    conditions = _read_back(section)
    found: dict[str, Intervention] = {}
    rows = []
    for code, row in enumerate(first):
        one = conditions.iloc[row]
        kind = shapes[names.KIND].iloc[row] if names.KIND in said[STATED] else said[names.KIND]
        for i, part in enumerate(one[TARGETS]):
            facts = {key: float(one[key][i]) for key in (names.DOSE, names.HOURS) if key in one}
            smiles = one[names.SMILES][i] or None if names.SMILES in one else None
            unit = said["unit"] or INTERVENTION_KINDS[kind].unit
            given = Intervention(kind=kind, name=part, unit=unit, smiles=smiles, **facts)
            found.setdefault(given.key, given)
            rows.append((code, given.key, facts.get(names.DOSE), given.onset_hours, facts.get(names.HOURS)))
    parts = pd.DataFrame(rows, columns=["code", "key", names.DOSE, "onset_hours", names.HOURS])
    parts = parts.astype({names.DOSE: float, names.HOURS: float})
    nodes = pd.DataFrame({"node": np.arange(len(distinct)), "code": distinct})
    return nodes.merge(parts, on="code").drop(columns="code"), found


def _read_back(section: Any) -> pd.DataFrame:
    """Return what `set_conditions` wrote; of kinds that have no structure none is missing."""
    shapes, said = section.shapes[screened_level(section)], metadata_of(section)[names.APPLIED]
    table = pd.DataFrame({key: shapes[key] for key in said[STATED] if key != names.KIND})
    if names.SMILES in table:
        kinds = shapes[names.KIND] if names.KIND in said[STATED] else [said[names.KIND]] * len(shapes)
        table[names.SMILES] = [
            _molecules(text) if INTERVENTION_KINDS[kind].has_structure else ""
            for text, kind in zip(table[names.SMILES], kinds, strict=True)
        ]
    return as_conditions(table)


def _check_amounts(table: pd.DataFrame, where: str) -> None:
    faults = Faults(TissueError)
    for key in (names.DOSE, names.HOURS):
        if key not in table:
            continue
        values = zip(table[key], table[TARGETS], strict=True)
        bad = [bool(parts) and not all(np.isfinite(v) and v >= 0 for v in row) for row, parts in values]
        if any(bad):
            first = table.index[bad.index(True)]
            found = f"{sum(bad):,} treated cells without one, or with one below 0, first {first!r}"
            faults.add(f"{where} · {key}", found, f"{key} ≥ 0", "give it, or leave those cells out")
    faults.raise_if_any()


def _kinds(column: pd.Series, given: KindColumn, where: str) -> np.ndarray:
    text = pd.Series(names_of(column), column.index).astype(str)
    unknown = sorted(set(text) - set(given.values))
    if unknown:
        raise unknown_name(TissueError, f"{where} · kind", f"value in {given.column!r}", unknown[0], given.values)
    return text.map(given.values).to_numpy(str)


def _molecules(text: Any) -> Any:
    """Return the SMILES of each part: none where there is none."""
    if not isinstance(text, str) or not text.strip():
        return None
    parts = [part.strip() or None for part in text.split(SMILES_JOIN)]
    return parts if len(parts) > 1 else parts[0]


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)
