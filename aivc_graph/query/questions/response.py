"""The response to an intervention, asked in words: ``knockout:TGFB1`` at ``niche=3``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import anndata as ad
import numpy as np
import pandas as pd
from pydantic import BeforeValidator, Field

from aivc_graph import names
from aivc_graph.errors import QueryError, TissueError, unknown_name
from aivc_graph.graph.interventions import treated_sections
from aivc_graph.query.questions.question import NODES, QUESTIONS, AbstractQuestion, Symbols
from aivc_graph.query.screen_responses import response_table, screen_operator
from aivc_graph.query.what_if import WhatIf
from aivc_graph.tissue.amounts import HOUR, in_one_unit, unit_of
from aivc_graph.tissue.conditions import canonical
from aivc_graph.tissue.intervention import Combination, Intervention
from aivc_graph.tissue.intervention_kinds.kind import INTERVENTION_KINDS

if TYPE_CHECKING:
    from aivc_graph.query.virtual_tissue import VirtualTissue

log = logging.getLogger(__name__)
Given = tuple[str, str, str | None]
PLACES = ("niche", "section", "disc")
CONTEXT, OF_TISSUE = "context=", ("at", "readout", "weights")
GIVEN = "such as knockout:TGFB1, drug:ruxolitinib@0.3 or @300nM; repeat for a combination (screen: or all unseen)"
PLACE = "niche=3, section=NAME, disc=SECTION:X,Y,RADIUS [µm] or context=NAME of a screen; all if not given"
WEIGHTS = "pathway weights (columns source, target, weight) or gene sets (GMT)"
HOURS = "time from treatment to measurement in hours, or with a unit such as 2d (the longest in training)"


def _in_hours(given: Any) -> Any:
    """Return a duration that is written with its unit in hours."""
    if not isinstance(given, str):
        return given
    try:
        ((hours,), _) = in_one_unit([given], "hours", HOUR, None, "--hours")
    except TissueError as error:
        raise ValueError(str(error).partition(": ")[2]) from error
    return hours


@QUESTIONS.register(
    "response",
    asks="what an intervention would do to expression",
    example="--intervention knockout:TGFB1 --where niche=3 --at niche --genes COL1A1,POSTN",
)
class ResponseQuestion(AbstractQuestion):
    """The effect of one intervention or of several together, a row a place and gene or pathway (`WhatIf.readout`).

    A run of a screen answers with a row a condition and context (`VirtualTissue.responses`), without interventions for
    all conditions that training has not. As an ``.h5ad`` file an answer has places or conditions by genes, what is
    expected in ``X`` and all else that is told of a gene in layers.

    A row averages over all nodes of its place that were not treated when they were measured: ``n_treated`` says to how
    many it is done. ``estimate``, interval and p are of the effect as donors show it; ``shrunken``, which is drawn, is
    what is predicted, from ``shrunken_lower`` to ``shrunken_upper``. By default it lasts as long as the longest in
    training (see `VirtualTissue.intervene`). What is drawn is the effect on the first gene named, else on the one that
    changes most, on a section untreated when it was measured if there is one.
    """

    endings: ClassVar[tuple[str, ...]] = NODES
    intervention: tuple[str, ...] = Field((), description=GIVEN, json_schema_extra={"metavar": "KIND:NAME[@DOSE]"})
    where: str | None = Field(None, description=PLACE, json_schema_extra={"metavar": "PLACE"})
    dose: float | str | None = Field(
        None, description="dose of parts without their own (1; in a screen, the most used)"
    )
    hours: Annotated[float | None, BeforeValidator(_in_hours)] = Field(None, description=HOURS)
    at: Literal["cell", "patch", "region", "niche"] = Field(
        "niche", description="one row per node of this level, or per niche"
    )
    genes: Symbols | None = Field(None, description="symbols, separated by commas; all if not given")
    readout: Literal["genes", "pathways"] = Field("genes", description="effect on what; pathways need --weights")
    weights: Path | None = Field(None, description=WEIGHTS, json_schema_extra={"metavar": "FILE"})

    def answer(self, tissue: VirtualTissue) -> Any:
        """Return the table, of a screen the AnnData; what is to be known about it is logged."""
        if self.weights is not None and self.readout == "genes":
            mend = "ask --readout pathways, or leave them out"
            raise QueryError("response", "--weights of pathways where genes are read", "weights for pathways", mend)
        if screen_operator(tissue.model) is not None:
            return self._of_screen(tissue)
        told = self._what_if(tissue)
        for reason in told.reasons:
            log.warning("%s", reason)
        genes = None if self.genes is None else list(self.genes)
        table = told.readout(self.readout, by=self.at, genes=genes, weights=self.weights)
        for word in _mixed(table, self.at):
            log.warning("%s", word)
        return table

    def draw(self, tissue: VirtualTissue, answer: pd.DataFrame) -> Any:
        """Draw the effect on the first gene named, else on the one that changes most."""
        if self.readout != "genes" and not self.genes:
            raise QueryError("--plot", "no gene", "the effect on a gene is drawn", "name one with --genes")
        if screen_operator(tissue.model) is not None:
            raise QueryError("--plot", "a screen", "tissue that the effect is drawn on", "write the answer with --out")
        most = int(answer["shrunken"].abs().fillna(0.0).to_numpy().argmax())
        told = self._what_if(tissue)
        return told.plot(self.genes[0] if self.genes else str(answer["gene"].iloc[most]), _shown(tissue, told.where))

    def as_table(self, answer: Any) -> pd.DataFrame:
        """Return the table; of a screen a row a condition, context and gene."""
        return answer if isinstance(answer, pd.DataFrame) else response_table(answer)

    def as_anndata(self, answer: Any) -> ad.AnnData:
        """Return the AnnData; of tissue a row a place, and what is told of genes or pathways in layers."""
        return answer if isinstance(answer, ad.AnnData) else _by_gene(answer)

    def _of_screen(self, tissue: VirtualTissue) -> ad.AnnData:
        if self.model_fields_set & set(OF_TISSUE):
            options = ", ".join(f"--{name}" for name in OF_TISSUE if name in self.model_fields_set)
            raise QueryError(options, "a question to a screen", "a question to tissue", "leave it out")
        if self.where is not None and not self.where.startswith(CONTEXT):
            found, mend = f"where {self.where!r}", "cells without positions lie nowhere else"
            raise QueryError("response", found, "context=NAME of a screen", mend)
        if not self.intervention and (self.dose is not None or self.hours is not None):
            found, mend = (
                "a dose or hours of no intervention",
                "name it, or leave them out: unseen conditions have theirs",
            )
            raise QueryError("response", found, "an intervention", mend)
        given = sorted(map(_read, self.intervention), key=lambda one: one[1])
        _check_kinds(tissue, given)
        doses = tuple(self._dose(tissue, one) for one in given)
        known = tuple(one for one in doses if one is not None)
        if known and len(known) < len(doses):
            raise QueryError("intervention", "a dose of some parts alone", "one of each, or --dose for the others")
        answer = tissue.responses(
            [canonical(name for _, name, _ in given)] if given else None,
            None if self.where is None else [self.where.removeprefix(CONTEXT)],
            known or None,
            self.hours,
        )
        for row in answer.obs[~answer.obs["supported"]].itertuples():
            log.warning("%s in %s is out of support: %s", row.condition, row.context, row.why)
        for gene in self.genes or ():
            if gene not in answer.var_names:
                raise unknown_name(QueryError, "response", "gene", gene, answer.var_names)
        return answer if self.genes is None else answer[:, list(self.genes)].copy()

    def _what_if(self, tissue: VirtualTissue) -> WhatIf:
        if not self.intervention:
            mend = "name it, as in --intervention knockout:TGFB1"
            raise QueryError("response", "nothing done", "what is done", mend)
        parts = tuple(self._part(tissue, _read(text)) for text in self.intervention)
        return tissue.intervene(Combination(parts=parts), where=_where(tissue, self.where), hours=self.hours)

    def _part(self, tissue: VirtualTissue, given: Given) -> Intervention:
        dose = self._dose(tissue, given)
        return Intervention(kind=given[0], name=given[1], dose=1.0 if dose is None else dose)

    def _dose(self, tissue: VirtualTissue, given: Given) -> float | None:
        """Return the dose of a part in the unit of its doses in training; None where none is given."""
        kind, name, amount = given
        where = "--dose" if amount is None else f"intervention {kind}:{name}@{amount}"
        asked = self.dose if amount is None else amount
        if asked is None:
            return None
        unit = _unit(tissue, kind, name)
        try:
            ((value,), _) = in_one_unit([asked], "dose", unit, None, where)
        except TissueError:
            value = None
        if isinstance(value, float | int) and 0 <= value < np.inf:
            return float(value)
        expected = "a number from 0" + ("" if unit_of(unit) is None else f", or an amount such as 10 {unit}")
        raise QueryError(where, f"the dose {asked!r}", expected, f"doses of {name} in training are in {unit!r}")


def _by_gene(table: pd.DataFrame) -> ad.AnnData:
    """Return rows of places and genes or pathways as one AnnData (place, gene)."""
    kind = next(one for one in ("gene", "pathway") if one in table)
    columns = list(table.columns)
    told = columns[columns.index(kind) + 1 : columns.index("interval_over")]
    of = pd.Index(table[kind].unique(), name=kind)
    shape = (len(table) // max(len(of), 1), len(of))
    obs = table.iloc[:: len(of)].drop(columns=[kind, *told]).reset_index(drop=True)
    layers = {name: table[name].to_numpy(float).reshape(shape) for name in told}
    return ad.AnnData(layers.pop("treated"), obs.set_axis(obs.index.astype(str)), pd.DataFrame(index=of), layers=layers)


def _unit(tissue: VirtualTissue, kind: str, name: str) -> str:
    """Return the unit of the doses of an intervention in training; of one that training has not, that of its kind."""
    graph = tissue.home.graph
    obs = graph.obs(names.INTERVENTION) if names.INTERVENTION in graph.node_types else None
    known = [] if obs is None else list(obs.loc[(obs["kind"] == kind) & (obs["name"] == name), "unit"])
    return str(next(iter(known), INTERVENTION_KINDS[kind].unit))


def _check_kinds(tissue: VirtualTissue, given: Sequence[Given]) -> None:
    """Refuse a part twice, and what training knows, done in another way alone."""
    obs = tissue.graph.obs(names.INTERVENTION) if names.INTERVENTION in tissue.graph.node_types else None
    for i, (kind, name, _) in enumerate(given):
        kinds = [] if obs is None else sorted(set(obs.loc[obs["name"] == name, "kind"].astype(str)))
        if kinds and kind not in kinds:
            expected = f"{name} as {' or '.join(kinds)}"
            raise QueryError(f"intervention {kind}:{name}", f"{name} as {kind}", expected, "ask it as it was done")
        if i and given[i - 1][1] == name:
            raise QueryError(f"intervention {kind}:{name}", f"{name} twice", "each once", "add up its doses")


def _read(text: str) -> Given:
    """Return kind, name and dose of ``KIND:NAME@DOSE`` as they are written; no dose where it says none."""
    kind, colon, rest = text.partition(":")
    name, at, amount = rest.partition("@")
    if not colon or not name:
        raise QueryError("intervention", repr(text), "KIND:NAME", "write it as in knockout:TGFB1")
    if at and not amount:
        raise QueryError(
            f"intervention {text!r}", "no dose behind the '@'", "a number from 0", "leave out the '@' for 1"
        )
    INTERVENTION_KINDS.get(kind, f"intervention {text!r}", QueryError)
    return kind, name, amount or None


def _where(tissue: VirtualTissue, text: str | None) -> Any:
    if text is None:
        return None
    place, _, value = text.partition("=")
    sections = tissue.graph.obs(tissue.base_level)["section"].astype(str).to_numpy()
    if place == "niche":
        found = tissue.niche(value)
        if not found.any():
            raise QueryError(f"where {text}", f"no node of niche {value} in this tissue", "at least one", "see niches")
        return found
    if place == "section":
        return _in_section(sections, value)
    if place == "disc":
        return _disc(tissue, value, sections)
    raise unknown_name(QueryError, "where", "place", place, PLACES)


def _disc(tissue: VirtualTissue, text: str, sections: np.ndarray) -> np.ndarray:
    """Return the nodes within a disc that is written ``SECTION:X,Y,RADIUS`` [µm]."""
    where, expected = f"where disc={text}", "disc=SECTION:X,Y,RADIUS in µm"
    section, colon, numbers = text.rpartition(":")
    if not colon or not section:
        raise QueryError(where, "no section", expected, f"name one of {', '.join(np.unique(sections))}")
    own = _in_section(sections, section)
    try:
        x, y, radius = (float(number) for number in numbers.split(","))
    except ValueError:
        raise QueryError(where, f"{numbers!r}", f"three numbers X,Y,RADIUS: {expected}") from None
    if not (np.isfinite([x, y, radius]).all() and radius > 0):
        raise QueryError(where, f"{numbers!r}", "finite numbers and a radius above 0 µm")
    pos = tissue.graph[tissue.base_level].pos.numpy()
    found: np.ndarray = own & (np.hypot(*(pos - (x, y)).T) <= radius)
    if not found.any():
        low, high = pos[own].min(axis=0), pos[own].max(axis=0)
        lie = f"they lie at x {low[0]:,.0f} to {high[0]:,.0f} and y {low[1]:,.0f} to {high[1]:,.0f} µm"
        raise QueryError(where, f"no {tissue.base_level} of {section} inside", "at least one", lie)
    return found


def _shown(tissue: VirtualTissue, where: np.ndarray) -> str:
    """Return the section to draw: with most nodes asked, among those untreated when measured if there are any."""
    sections = tissue.graph.obs(names.SECTION).index.astype(str)
    asked = np.bincount(tissue.graph[tissue.base_level].section_index.numpy()[where], minlength=len(sections))
    untreated = np.where(treated_sections(tissue.graph), 0, asked)
    return str(sections[int((untreated if untreated.any() else asked).argmax())])


def _mixed(table: pd.DataFrame, at: str) -> list[str]:
    """Say where a row averages over treated and untreated nodes."""
    if "n_nodes" not in table or not ((table["n_treated"] > 0) & (table["n_treated"] < table["n_nodes"])).any():
        return []
    return [f"rows average over all nodes of a {at}, treated or not: see n_treated of n_nodes"]


def _in_section(sections: np.ndarray, name: str) -> np.ndarray:
    if name not in sections:
        raise unknown_name(QueryError, "where", "section", name, np.unique(sections))
    inside: np.ndarray = sections == name
    return inside
