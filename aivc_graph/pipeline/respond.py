"""The response to an intervention, asked in words: ``knockout:TGFB1`` at ``niche=3``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import anndata as ad
import numpy as np
import pandas as pd

from aivc_graph import names
from aivc_graph.errors import QueryError, unknown_name
from aivc_graph.graph.tissue_graph import to_scipy_csr
from aivc_graph.io.staging import staged
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.tissue.conditions import canonical
from aivc_graph.tissue.intervention import Combination, Intervention, Kind

log = logging.getLogger(__name__)
PLACES = ("niche", "section", "disc")
CONTEXT = "context="


def respond(
    tissue: VirtualTissue,
    intervention: Sequence[str] = (),
    *,
    where: str | None = None,
    dose: float | None = None,
    hours: float | None = None,
    at: str = "niche",
    genes: list[str] | None = None,
    readout: str = "genes",
    weights: Path | None = None,
    plot: Path | None = None,
) -> pd.DataFrame:
    """Return the effect of one intervention or of several together on tissue, a row a place and gene.

    Parameters
    ----------
    intervention
        Each ``KIND:NAME`` or ``KIND:NAME@DOSE``, such as ``knockout:TGFB1`` or ``drug:ruxolitinib@0.3``.
    where
        ``niche=3``, ``section=NAME`` or ``disc=SECTION:X,Y,RADIUS`` [µm]; the whole tissue if not given. A row averages
        over all nodes of its place, treated or not: ``n_treated`` says how many are.
    dose
        Of every part that does not say its own; 1 if not given.
    hours
        As in `VirtualTissue.intervene`; by default the longest in training.
    at, genes, readout, weights
        As in `WhatIf.readout`.
    plot
        Picture of the effect on the first of `genes`.
    """
    if not intervention:
        raise QueryError("response", "nothing done", "what is done", "name it, as in --intervention knockout:TGFB1")
    usual = 1.0 if dose is None else dose
    if not 0 <= usual < np.inf:
        raise QueryError("--dose", f"the dose {usual:g}", "a number from 0")
    parts = tuple(_as_trained(tissue, _part(text, usual)) for text in intervention)
    answer = tissue.intervene(Combination(parts=parts), where=_where(tissue, where), hours=hours)
    for reason in answer.reasons:
        log.warning("%s", reason)
    if plot is not None and readout != "genes" and not genes:
        raise QueryError("--plot", "no gene", "the effect on a gene is drawn", "name one with --genes")
    table = answer.readout(readout, by=at, genes=genes, weights=weights)
    for word in (*_treated_before(tissue, answer.where), *_mixed(table, at)):
        log.warning("%s", word)
    if plot is not None:
        with staged(plot) as beside:
            figure = answer.plot(genes[0] if genes else table["gene"].iloc[0]).figure
            figure.savefig(beside, dpi=150, bbox_inches="tight", format=plot.suffix[1:])
    return table


def respond_of_screen(
    tissue: VirtualTissue,
    intervention: Sequence[str] = (),
    *,
    where: str | None = None,
    dose: float | None = None,
    hours: float | None = None,
    genes: list[str] | None = None,
    **others: Any,
) -> ad.AnnData:
    """Return the response of a screen to what is given together, a row a context; see `VirtualTissue.responses`.

    Parameters
    ----------
    intervention
        As of `respond`; all conditions of the graph that training has not, if nothing is given.
    where
        ``context=NAME``.
    dose
        Of every part that does not say its own; those most used in training if not given.
    hours, genes
        How long; and whose effects, all if not given.
    """
    if others:
        options = ", ".join(f"--{name}" for name in sorted(others))
        raise QueryError(options, "a question to a screen", "a question to tissue", "leave it out")
    if where is not None and not where.startswith(CONTEXT):
        raise QueryError("where", repr(where), "context=NAME of a screen", "cells without positions lie nowhere else")
    given = sorted(map(_read, intervention), key=lambda one: one[1])
    _check_kinds(tissue, given)
    doses = tuple(dose if amount is None else amount for _, _, amount in given)
    known = tuple(one for one in doses if one is not None)
    if known and len(known) < len(doses):
        raise QueryError("intervention", "a dose of some parts alone", "one of each, or --dose for the others")
    answer = tissue.responses(
        [canonical(name for _, name, _ in given)] if given else None,
        None if where is None else [where.removeprefix(CONTEXT)],
        known or None,
        hours,
    )
    for row in answer.obs[~answer.obs["supported"]].itertuples():
        log.warning("%s in %s is out of support: %s", row.condition, row.context, row.why)
    if genes is not None:
        for gene in genes:
            if gene not in answer.var_names:
                raise unknown_name(QueryError, "response", "gene", gene, answer.var_names)
        answer = answer[:, genes].copy()
    return answer


def _check_kinds(tissue: VirtualTissue, given: Sequence[tuple[Kind, str, float | None]]) -> None:
    """Refuse a part twice, and what training knows, done in another way alone."""
    obs = tissue.graph.obs(names.INTERVENTION) if names.INTERVENTION in tissue.graph.node_types else None
    for i, (kind, name, _) in enumerate(given):
        kinds = [] if obs is None else sorted(set(obs.loc[obs["name"] == name, "kind"].astype(str)))
        if kinds and kind not in kinds:
            expected = f"{name} as {' or '.join(kinds)}"
            raise QueryError(f"intervention {kind}:{name}", f"{name} as {kind}", expected, "ask it as it was done")
        if i and given[i - 1][1] == name:
            raise QueryError(f"intervention {kind}:{name}", f"{name} twice", "each once", "add up its doses")


def _part(text: str, dose: float) -> Intervention:
    kind, name, amount = _read(text)
    return Intervention(kind=kind, name=name, dose=dose if amount is None else amount)


def _read(text: str) -> tuple[Kind, str, float | None]:
    """Return kind, name and dose of ``KIND:NAME@DOSE``; no dose where it says none."""
    kind, colon, rest = text.partition(":")
    name, at, amount = rest.partition("@")
    if not colon or not name:
        raise QueryError("intervention", repr(text), "KIND:NAME", "write it as in knockout:TGFB1")
    if at and not amount:
        raise QueryError(
            f"intervention {text!r}", "no dose behind the '@'", "a number from 0", "leave out the '@' for 1"
        )
    if kind not in get_args(Kind):
        raise unknown_name(QueryError, f"intervention {text!r}", "kind", kind, get_args(Kind))
    if not amount:
        return kind, name, None  # type: ignore[return-value]
    try:
        given = float(amount)
    except ValueError:
        raise QueryError(f"intervention {text!r}", f"the dose {amount!r}", "a number") from None
    if not 0 <= given < np.inf:
        raise QueryError(f"intervention {text!r}", f"the dose {given:g}", "a number from 0")
    return kind, name, given  # type: ignore[return-value]


def _as_trained(tissue: VirtualTissue, part: Intervention) -> Intervention:
    """Return a part that lasts as long as the longest in training, where training has seen it."""
    plan = tissue.model.plan.interventions
    if plan is None or part.key not in plan.keys:
        return part
    return part.model_copy(update={"hours": plan.hours[plan.keys.index(part.key)][1]})


def _where(tissue: VirtualTissue, text: str | None) -> Any:
    if text is None:
        return None
    place, _, value = text.partition("=")
    sections = tissue.graph.obs(tissue.base_level)["section"].astype(str).to_numpy()
    if place == "niche":
        return tissue.niche(value)
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


def _treated_before(tissue: VirtualTissue, where: np.ndarray) -> list[str]:
    """Say which of the sections asked were treated when they were measured: their untreated state is unknown."""
    graph, relation = tissue.graph, (names.INTERVENTION, names.APPLIED_TO, names.SECTION)
    if relation not in graph.edge_types:
        return []
    given = np.diff(to_scipy_csr(graph[relation].adj_t).indptr) > 0
    asked = np.unique(graph[tissue.base_level].section_index.numpy()[where])
    sections = graph.obs(names.SECTION).index.astype(str)[asked[given[asked]]]
    if not len(sections):
        return []
    shown = ", ".join(sections[:5]) + (f" and {len(sections) - 5} more" if len(sections) > 5 else "")
    return [f"treated already when they were measured: {shown}; what is said of them comes on top of that"]


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
