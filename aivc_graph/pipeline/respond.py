"""The response to an intervention, asked in words: ``knockout:TGFB1`` at ``niche=3``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from aivc_graph.errors import QueryError, unknown_name
from aivc_graph.io.staging import staged
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.tissue.intervention import Combination, Intervention, Kind

log = logging.getLogger(__name__)
PLACES = ("niche", "section", "disc")


def respond(
    tissue: VirtualTissue,
    intervention: Sequence[str],
    *,
    where: str | None = None,
    dose: float = 1.0,
    hours: float | None = None,
    at: str = "niche",
    genes: list[str] | None = None,
    readout: str = "genes",
    weights: Path | None = None,
    plot: Path | None = None,
) -> pd.DataFrame:
    """Return the effect of one intervention or of several together, a row a place and gene.

    Parameters
    ----------
    intervention
        Each ``KIND:NAME`` or ``KIND:NAME@DOSE``, such as ``knockout:TGFB1`` or ``drug:ruxolitinib@0.3``.
    where
        ``niche=3``, ``section=NAME`` or ``disc=SECTION:X,Y,RADIUS`` [µm]; the whole tissue if not given.
    dose
        Of every part that does not say its own.
    hours
        As in `VirtualTissue.intervene`; by default the longest in training.
    at, genes, readout, weights
        As in `WhatIf.readout`.
    plot
        Picture of the effect on the first of `genes`.
    """
    parts = tuple(_as_trained(tissue, _part(text, dose)) for text in intervention)
    answer = tissue.intervene(Combination(parts=parts), where=_where(tissue, where), hours=hours)
    for reason in answer.reasons:
        log.warning("%s", reason)
    if plot is not None and readout != "genes" and not genes:
        raise QueryError("--plot", "no gene", "the effect on a gene is drawn", "name one with --genes")
    table = answer.readout(readout, by=at, genes=genes, weights=weights)
    if plot is not None:
        with staged(plot) as beside:
            figure = answer.plot(genes[0] if genes else table["gene"].iloc[0]).figure
            figure.savefig(beside, dpi=150, bbox_inches="tight", format=plot.suffix[1:])
    return table


def _part(text: str, dose: float) -> Intervention:
    kind, colon, rest = text.partition(":")
    name, _, amount = rest.partition("@")
    if not colon or not name:
        raise QueryError("intervention", repr(text), "KIND:NAME", "write it as in knockout:TGFB1")
    if kind not in get_args(Kind):
        raise unknown_name(QueryError, f"intervention {text!r}", "kind", kind, get_args(Kind))
    try:
        given = float(amount) if amount else dose
    except ValueError:
        raise QueryError(f"intervention {text!r}", f"the dose {amount!r}", "a number") from None
    if not 0 <= given < np.inf:
        raise QueryError(f"intervention {text!r}", f"the dose {given:g}", "a number from 0")
    return Intervention(kind=kind, name=name, dose=given)  # type: ignore[arg-type]


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
    graph, level = tissue.graph, tissue.base_level
    sections = graph.obs(level)["section"].astype(str).to_numpy()
    if place == "niche":
        return tissue.niche(value)
    if place == "section":
        return _in_section(sections, value)
    if place == "disc":
        section, _, numbers = value.rpartition(":")
        try:
            x, y, radius = (float(number) for number in numbers.split(","))
        except ValueError:
            raise QueryError("where", repr(text), "disc=SECTION:X,Y,RADIUS in µm") from None
        inside = np.hypot(*(graph[level].pos.numpy() - (x, y)).T) <= radius
        found = inside & _in_section(sections, section)
        if not found.any():
            raise QueryError("where", f"no {level} within {radius:g} µm of ({x:g}, {y:g}) in {section}")
        return found
    raise unknown_name(QueryError, "where", "place", place, PLACES)


def _in_section(sections: np.ndarray, name: str) -> np.ndarray:
    if name not in sections:
        raise unknown_name(QueryError, "where", "section", name, np.unique(sections))
    inside: np.ndarray = sections == name
    return inside
