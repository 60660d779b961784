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
from aivc_graph.report.sections import section_notes

MARKERS = 5
MAX_SECTIONS = 8
MAIN_INCHES, SMALL_INCHES = (7.2, 6.6), (4.0, 3.7)
# A niche of which fewer nodes bear a label is not said to be made of anything.
LEAST_LABELLED = 0.5
LEAST_PART = 0.005
TOUCHING, APART, MIN_CONTACTS, PARTNERS = 0.5, -1.0, 20, 3
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
    touches: tuple[str, ...] = ()
    apart_from: tuple[str, ...] = ()


def niches_of(tissue: VirtualTissue) -> list[Niche]:
    """Return every niche with its share of nodes and area, markers, make-up and neighbours."""
    answer = tissue.niches()
    obs, codes = answer.obs, answer.obs[NICHE].cat.codes.to_numpy().astype(np.int64)
    area = area_shares(answer.obsm["spatial"], codes, obs["section"].astype(str).to_numpy(), answer.n_vars)
    markers, parts, contacts = _markers(tissue), _parts(tissue, obs), tissue.neighbours()
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
            touches=_partners(contacts, str(name), close=True),
            apart_from=_partners(contacts, str(name), close=False),
        )
        found.append(replace(niche, lead=_lead(niche)))
    return told_apart(found, _expected(tissue))


def told_apart(niches: list[Niche], expected: pd.DataFrame) -> list[Niche]:
    """Give niches of one lead what sets each apart from the others of that lead, by `expected` (niche, gene)."""
    alike: dict[str, list[str]] = {}
    for niche in niches:
        if niche.lead is not None and niche.name in expected.index:
            alike.setdefault(niche.lead, []).append(niche.name)
    found = []
    for niche in niches:
        others = [name for name in alike.get(niche.lead or "", []) if name != niche.name]
        if others:
            ratio = (expected.loc[niche.name] + 1.0) / (expected.loc[others].mean() + 1.0)
            order = np.argsort(-ratio.to_numpy(), kind="stable")[:MARKERS]
            most = {str(expected.columns[i]): float(np.log2(ratio.to_numpy()[i])) for i in map(int, order)}
            words = reading(most)
            telling = words if words is not None and words != niche.lead else next(iter(most))
            niche = replace(niche, lead=f"{niche.lead}, with more {telling}")
        found.append(niche)
    return found


def _lead(niche: Niche) -> str | None:
    """Return its main label where nodes carry labels and one leads, else what its markers are commonly read as."""
    if niche.parts and max(part.share for part in niche.parts) >= 0.5:
        return f"mostly {max(niche.parts, key=lambda part: part.share).label}"
    return reading({marker["gene"]: marker["log2_ratio"] for marker in niche.markers})


def _expected(tissue: VirtualTissue) -> pd.DataFrame:
    """Return expected counts per 10,000, (niche, gene); no row where no RNA was measured at the level of niches."""
    try:
        table = tissue.expression(at=NICHE)
    except QueryError:
        return pd.DataFrame()
    wide = table.pivot(index="niche", columns="gene", values="expected")
    return wide.set_axis(wide.index.astype(str))


def _markers(tissue: VirtualTissue) -> dict[str, list[dict[str, Any]]]:
    try:
        table = tissue.markers(n=MARKERS)
    except QueryError:  # no RNA where niches are found: the page does without
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


def _partners(contacts: pd.DataFrame, name: str, *, close: bool) -> tuple[str, ...]:
    """Return the niches that border this one clearly more, or less, often than chance has it; most telling first."""
    other = contacts["niche_b"].where(contacts["niche_a"] == name, contacts["niche_a"])
    mine = ((contacts["niche_a"] == name) | (contacts["niche_b"] == name)) & (other != name)
    ratio = contacts["log2_ratio"]
    telling = ratio >= TOUCHING if close else ratio <= APART
    enough = contacts["contacts" if close else "expected"] >= MIN_CONTACTS
    rows = contacts.assign(other=other)[mine & telling & enough]
    return tuple(rows.sort_values("log2_ratio", ascending=not close)["other"][:PARTNERS])


def contact_rows(tissue: VirtualTissue) -> pd.DataFrame:
    """Return log2 contacts over chance, niche × niche."""
    pairs = tissue.neighbours()
    both = pd.concat([pairs, pairs.rename(columns={"niche_a": "niche_b", "niche_b": "niche_a"})])
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
    """Draw the niches of the first section that has a slide large, of up to seven others small."""
    notes = section_notes(tissue.graph)
    obs = tissue.niches().obs
    present = set(obs.loc[obs["x_um"].notna(), "section"].astype(str))
    sections = [name for name in notes if name in present]
    if not sections:
        return Maps("", None, None, (), 0, notes)
    first = next((name for name in sections if name in tissue.slides), sections[0])
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
