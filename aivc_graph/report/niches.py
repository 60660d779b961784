"""Which niches there are, where, and what each is made of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from aivc_graph import names
from aivc_graph.errors import QueryError
from aivc_graph.plot.palette import nth_colour
from aivc_graph.query.places import NICHE
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.report.area import area_shares
from aivc_graph.report.colour import ink_on
from aivc_graph.report.picture import Picture, photograph, tissue_drawing
from aivc_graph.report.readings import reading
from aivc_graph.report.sections import HELD_OUT, section_notes

MARKERS = 5
MAX_SECTIONS = 8
MAIN_INCHES, SMALL_INCHES = (7.2, 6.6), (4.0, 3.7)
# A niche of which fewer nodes bear a label is not said to be made of anything.
LEAST_LABELLED = 0.5
LEAST_PART = 0.005
# A label leads a niche from half of it on; else the two largest are named.
LEADING, NAMED, TELLING = 0.5, 0.1, 0.1
PARTNERS, LEAST_BORDER = 3, 0.05
# Ratios as the page tells them, and the logarithms they stand for.
FOLDS = {"fold": "log2_ratio", "least": "lower", "most": "upper"}


@dataclass(frozen=True)
class Part:
    """A share of a niche: the label of its nodes, 0–1, and its colour."""

    label: str
    share: float
    colour: str


@dataclass(frozen=True)
class Niche:
    """One niche as the page tells it."""

    name: str
    colour: str
    ink: str
    n_nodes: int
    area: float
    certainty: float
    n_sections: int
    lead: str | None = None
    markers: tuple[dict[str, Any], ...] = ()
    parts: tuple[Part, ...] = ()
    borders: tuple[tuple[str, float], ...] = ()


def niches_of(tissue: VirtualTissue) -> list[Niche]:
    """Return every niche with its share of nodes and area, markers, make-up and neighbours."""
    answer = tissue.niches()
    obs, codes = answer.obs, answer.obs[NICHE].cat.codes.to_numpy().astype(np.int64)
    area = area_shares(answer.obsm["spatial"], codes, obs["section"].astype(str).to_numpy(), answer.n_vars)
    markers, parts, borders = _markers(tissue), _parts(tissue, obs), border_shares(tissue.neighbours())
    found = []
    for i, name in enumerate(answer.var_names):
        inside = obs[codes == i]
        colour = nth_colour(i)
        niche = Niche(
            name=str(name),
            colour=colour,
            ink=ink_on(colour),
            n_nodes=len(inside),
            area=float(area[i]),
            certainty=float(inside["certainty"].mean()) if len(inside) else float("nan"),
            n_sections=int(inside["section"].nunique()),
            markers=tuple(markers.get(str(name), ())),
            parts=parts.get(str(name), ()),
            borders=_partners(borders, str(name)),
        )
        found.append(replace(niche, lead=_lead(niche)))
    return told_apart(found, _expected(tissue))


def told_apart(niches: list[Niche], expected: pd.DataFrame) -> list[Niche]:
    """Give niches of one lead what sets each apart from the others of that lead.

    Where nodes carry labels that is the label it has more of, else the gene of which more is `expected` (niche, gene).
    """
    alike: dict[str, list[Niche]] = {}
    for niche in niches:
        if niche.lead is not None:
            alike.setdefault(niche.lead, []).append(niche)
    found = []
    for niche in niches:
        others = [one for one in alike.get(niche.lead or "", []) if one is not niche]
        more = _more_of(niche, others, expected) if others else None
        found.append(niche if more is None else replace(niche, lead=f"{niche.lead}, with more {more}"))
    return found


def _more_of(niche: Niche, others: list[Niche], expected: pd.DataFrame) -> str | None:
    """Return the label, or else the gene, that a niche has clearly more of than others of its lead."""
    if niche.parts and all(one.parts for one in others):
        theirs = [{part.label: part.share for part in one.parts} for one in others]
        gain = {p.label: p.share - float(np.mean([of.get(p.label, 0.0) for of in theirs])) for p in niche.parts}
        label = max(gain, key=gain.__getitem__)
        if gain[label] >= TELLING:
            return label
    known = [one.name for one in others if one.name in expected.index]
    if niche.name not in expected.index or not known:
        return None
    ratio = (expected.loc[niche.name] + 1.0) / (expected.loc[known].mean() + 1.0)
    return str(ratio.idxmax()) if ratio.max() > 1 else None


def _lead(niche: Niche) -> str | None:
    """Return what most of its nodes are labelled as; where nodes have no labels, what its markers are markers of."""
    if niche.parts:
        first, *rest = sorted(niche.parts, key=lambda part: -part.share)
        if first.share >= LEADING:
            return f"mostly {first.label}"
        named = [first, *(part for part in rest[:1] if part.share >= NAMED)]
        return " and ".join(part.label for part in named)
    words = reading({marker["gene"]: marker["log2_ratio"] for marker in niche.markers})
    return f"markers of {words}" if words is not None else None


def _expected(tissue: VirtualTissue) -> pd.DataFrame:
    """Return expected expression (niche, gene); no row where none was measured at the level of niches."""
    try:
        table = tissue.expression(at=NICHE)
    except QueryError:
        return pd.DataFrame()
    wide = table.pivot(index="niche", columns="gene", values="expected")
    return wide.set_axis(wide.index.astype(str))


def _markers(tissue: VirtualTissue) -> dict[str, list[dict[str, Any]]]:
    try:
        table = tissue.markers(n=MARKERS)
    except QueryError:  # nothing was measured where niches are found: the page does without
        return {}
    table = table[table["log2_ratio"] > 0]
    table = table.assign(**{name: 2.0 ** table[of] for name, of in FOLDS.items()})
    groups = table.groupby("niche", observed=True)
    return {str(name): [dict(row) for _, row in rows.iterrows()] for name, rows in groups}


def _parts(tissue: VirtualTissue, obs: pd.DataFrame) -> dict[str, tuple[Part, ...]]:
    if names.LABEL not in obs:
        return {}
    table = tissue.composition().set_index(NICHE)
    table = table[table["n_labelled"] >= LEAST_LABELLED * table["n_nodes"]].drop(columns=["n_nodes", "n_labelled"])
    colour = {str(label): nth_colour(i) for i, label in enumerate(table.columns)}
    found = {}
    for name, row in table.iterrows():
        shares = {str(label): float(share) for label, share in row.items()}
        found[str(name)] = tuple(Part(label, n, colour[label]) for label, n in shares.items() if n >= LEAST_PART)
    return found


def border_shares(contacts: pd.DataFrame) -> pd.DataFrame:
    """Return the share of each niche's border, its contacts with other niches, that it has with each, niche × niche."""
    both = pd.concat([contacts, contacts.rename(columns={"niche_a": "niche_b", "niche_b": "niche_a"})])
    order = sorted(set(both["niche_a"]), key=int)
    pairs = both.drop_duplicates(["niche_a", "niche_b"])
    table = (
        pairs.pivot(index="niche_a", columns="niche_b", values="contacts").loc[order, order].astype(float).fillna(0.0)
    )
    table = table.where(~np.eye(len(table), dtype=bool), 0.0)
    return table.div(table.sum(axis=1).replace(0.0, np.nan), axis=0)


def _partners(borders: pd.DataFrame, name: str) -> tuple[tuple[str, float], ...]:
    """Return the niches that make up most of a niche's border, with their shares."""
    if name not in borders.index:
        return ()
    shares = {
        str(other): float(share)
        for other, share in zip(borders.columns, borders.loc[[name]].to_numpy()[0], strict=True)
    }
    largest = sorted(shares, key=lambda other: -shares[other])[:PARTNERS]
    return tuple((other, shares[other]) for other in largest if shares[other] >= LEAST_BORDER)


def contact_rows(contacts: pd.DataFrame) -> pd.DataFrame:
    """Return log2 contacts over chance, niche × niche."""
    both = pd.concat([contacts, contacts.rename(columns={"niche_a": "niche_b", "niche_b": "niche_a"})])
    order = sorted(set(both["niche_a"]), key=int)
    table = both.drop_duplicates(["niche_a", "niche_b"]).pivot(index="niche_a", columns="niche_b", values="log2_ratio")
    return table.loc[order, order]


@dataclass(frozen=True)
class Maps:
    """Pictures of the sections: the first large, with the slide as stained, the others small.

    Cells taken out of their tissue have no map: `main` is None where there are no others.
    """

    section: str
    main: Picture | None
    slide: Picture | None
    others: tuple[tuple[str, Picture], ...]
    n_left_out: int
    notes: dict[str, str]


def maps_of(tissue: VirtualTissue) -> Maps:
    """Draw the niches of one section large, up to seven others small: held-out tissue first, then what has a slide."""
    notes = section_notes(tissue.graph)
    obs = tissue.niches().obs
    present = set(obs.loc[obs["x_um"].notna(), "section"].astype(str))
    sections = sorted((name for name in notes if name in present), key=lambda name: HELD_OUT not in notes[name])
    if not sections:
        return Maps("", None, None, (), 0, notes)
    best = [name for name in sections if HELD_OUT in notes[name]] or sections
    first = next((name for name in best if name in tissue.slides), best[0])
    rest = [name for name in sections if name != first]
    slide = tissue.slides.get(first)
    stained = None if slide is None else photograph(slide.image, f"Section {first} as stained")
    others = tuple((name, niche_picture(tissue, name, SMALL_INCHES)) for name in rest[: MAX_SECTIONS - 1])
    return Maps(first, niche_picture(tissue, first, MAIN_INCHES), stained, others, len(rest) - len(others), notes)


def niche_picture(tissue: VirtualTissue, section: str, inches: tuple[float, float]) -> Picture:
    """Draw one section's niches without legend or title: the page says both in text."""
    axes = tissue.plot(section)
    if axes.get_legend() is not None:
        axes.get_legend().remove()
    axes.set_title("")
    axes.figure.set_size_inches(*inches)
    over = " over its slide" if section in tissue.slides else ""
    return tissue_drawing(
        axes.figure, f"Map of section {section}: every {tissue.base_level} in the colour of its niche{over}"
    )
