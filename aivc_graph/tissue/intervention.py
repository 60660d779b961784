"""Interventions as they were given: what, where, how much, from when and for how long."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from aivc_graph import names
from aivc_graph.errors import TissueError, unknown_name
from aivc_graph.settings import Settings
from aivc_graph.tissue.frame import positions_um
from aivc_graph.tissue.intervention_kinds.kind import INTERVENTION_KINDS, Kind
from aivc_graph.tissue.naming import names_of
from aivc_graph.tissue.section import metadata_of


class Where(Settings):
    """The part of a section that was treated: a disc, or the cells an annotation names.

    Parameters
    ----------
    disc_um
        Centre x, y and radius [µm] in the section's frame.
    column
        Column of the cells' annotation that tells treated cells.
    equals
        Value that treated cells have in that column.
    """

    disc_um: tuple[float, float, float] | None = None
    column: str | None = None
    equals: str | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Where:
        by_column = self.column is not None and self.equals is not None
        if (self.disc_um is None) == (not by_column) or (self.column is None) != (self.equals is None):
            raise ValueError("expected either `disc_um: [x, y, radius]`, or `column:` and `equals:`")
        if self.disc_um is not None and not self.disc_um[2] > 0:
            raise ValueError(f"expected a radius above 0 µm, found {self.disc_um[2]:g}")
        return self


class Intervention(Settings):
    """One perturbation as given.

    Parameters
    ----------
    kind
        ``knockout``, ``activation``, ``drug``, ``ligand``, or any other of `INTERVENTION_KINDS`.
    name
        Symbol of the gene, or name of the drug or ligand.
    targets
        Symbol → signed strength; by default the gene of that name, for kinds that act on one.
    dose
        Amount; 0 means not given.
    unit
        Unit of the dose, by default that of its kind; doses of one intervention share it.
    onset_hours
        When it began [h].
    hours
        How long it lasted until the tissue was measured [h].
    where
        Part of the section; all of it if not given.
    smiles
        Structure of a drug, by which a split can hold out its scaffold.

    Examples
    --------
    >>> knockout("TGFB1").targets
    {'TGFB1': -1.0}
    >>> [part.name for part in (knockout("TGFB1") + drug("ruxolitinib", targets={"JAK1": -1})).parts]
    ['TGFB1', 'ruxolitinib']
    """

    kind: Kind
    name: str = Field(min_length=1)
    targets: dict[str, float] = Field(default_factory=dict)
    dose: float = Field(1.0, ge=0, allow_inf_nan=False)
    unit: str = "relative"
    onset_hours: float = Field(0.0, ge=0, allow_inf_nan=False)
    hours: float = Field(24.0, ge=0, allow_inf_nan=False)
    where: Where | None = None
    smiles: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _as_of_its_kind(cls, given: Any) -> Any:
        if not isinstance(given, dict) or str(given.get("kind")) not in INTERVENTION_KINDS:
            return given
        kind = INTERVENTION_KINDS[given["kind"]]
        targets = {} if kind.sign is None else {str(given.get("name", "")): kind.sign}
        return {**given, "unit": given.get("unit", kind.unit), "targets": given.get("targets") or targets}

    @property
    def key(self) -> str:
        """What it is, whatever its dose and place, such as ``knockout:TGFB1``; one node of the graph."""
        return f"{self.kind}:{self.name}"

    @property
    def parts(self) -> tuple[Intervention, ...]:
        """Itself: a combination of one."""
        return (self,)

    def __add__(self, other: Intervention | Combination) -> Combination:
        return Combination(parts=(*self.parts, *other.parts))


class Combination(Settings):
    """Interventions given together, or one after the other by their ``onset_hours``."""

    parts: tuple[Intervention, ...]

    def __add__(self, other: Intervention | Combination) -> Combination:
        return Combination(parts=(*self.parts, *other.parts))


def knockout(gene: str, **options: Any) -> Intervention:
    """Return the loss of a gene; `options` are those of `Intervention`, such as ``dose=0.5``."""
    return Intervention(kind="knockout", name=gene, **options)


def activation(gene: str, **options: Any) -> Intervention:
    """Return the activation of a gene."""
    return Intervention(kind="activation", name=gene, **options)


def ligand(name: str, **options: Any) -> Intervention:
    """Return a ligand added from outside."""
    return Intervention(kind="ligand", name=name, **options)


def drug(name: str, **options: Any) -> Intervention:
    """Return a drug; ``targets={"JAK1": -1}`` says what it acts on."""
    return Intervention(kind="drug", name=name, **options)


def interventions_of(section: Any) -> tuple[Intervention, ...]:
    """Return what was done to a section."""
    return tuple(Intervention(**given) for given in metadata_of(section).get(names.INTERVENTIONS, ()))


def set_interventions(section: Any, interventions: tuple[Intervention, ...]) -> None:
    """Write on a section what was done to it.

    Raises
    ------
    TissueError
        If a part of the section is named that it does not have.
    """
    for intervention in interventions:
        treated(section, intervention)
    metadata_of(section)[names.INTERVENTIONS] = [given.model_dump(mode="json") for given in interventions]


def treated(section: Any, intervention: Intervention) -> dict[str, NDArray[np.bool_]]:
    """Return who of each level is treated, (node,); a patch beside cells that an annotation names is left out."""
    where = intervention.where
    levels = [level for level in (names.CELL, names.PATCH) if level in section.shapes]
    if where is None:
        return {level: np.ones(len(section.shapes[level]), bool) for level in levels}
    if where.disc_um is not None:
        x, y, radius = where.disc_um
        inside = {level: np.hypot(*(positions_um(section, level) - (x, y)).T) <= radius for level in levels}
        if not any(mask.any() for mask in inside.values()):
            found = f"no node within {radius:g} µm of ({x:g}, {y:g})"
            raise TissueError(
                _place(section, intervention), found, mend="check `disc_um`, in µm of this section's frame"
            )
        return inside
    cells = section.shapes[names.CELL] if names.CELL in section.shapes else section.shapes[names.PATCH]
    level = names.CELL if names.CELL in section.shapes else names.PATCH
    if where.column not in cells:
        raise unknown_name(TissueError, _place(section, intervention), "column", str(where.column), cells.columns)
    values = pd.Series(names_of(cells[where.column]), cells.index).astype(str)
    if not (values == where.equals).any():
        raise unknown_name(
            TissueError, _place(section, intervention), str(where.column), str(where.equals), set(values)
        )
    return {level: (values == where.equals).to_numpy()}


def _place(section: Any, intervention: Intervention) -> str:
    return f"{metadata_of(section)['section']} · {intervention.key}"
