"""What is done to a tissue, as plain dicts with the fields of an intervention, and how strongly it acts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aivc_graph.errors import ConfigError, unknown_name
from aivc_graph.simulate.pathways import PATHWAYS
from aivc_graph.simulate.programmes import GENES

Array = NDArray[np.float64]
Part = dict[str, Any]


@dataclass(frozen=True)
class Drug:
    """A drug: the dose of half its effect [µM], how steeply the effect goes with the dose, and what it acts on."""

    half_dose_um: float
    hill: float
    targets: dict[str, float]


# Names and targets are of real drugs; doses are of this simulator's own making.
DRUGS: Final = {
    "ruxolitinib": Drug(0.5, 1.5, {"STAT1": -0.9}),
    "galunisertib": Drug(1.0, 1.0, {"TGFBR2": -0.9}),
    "erlotinib": Drug(0.3, 1.2, {"EGFR": -0.9}),
    "bevacizumab": Drug(0.8, 1.0, {"VEGFA": -1.0}),
}
HALF_DOSE_OF_LIGAND: Final = 0.5

# By how much two interventions together act more (or less) than each alone, at full effect of both.
INTERACTIONS: Final = {
    (("drug", "ruxolitinib"), ("knockout", "TGFB1")): 0.35,
    (("drug", "erlotinib"), ("knockout", "TNF")): -0.4,
    (("drug", "galunisertib"), ("ligand", "IFNG")): 0.3,
}


def part(kind: str, name: str, **fields: Any) -> Part:
    """Return one intervention as a plain dict: `kind`, `name`, and every other field, its default where not given.

    Fields and their units are those of `aivc_graph.tissue.intervention.Intervention`.

    Raises
    ------
    ConfigError
        Unknown kind, gene, ligand or drug.
    """
    known = {"knockout": GENES, "activation": GENES, "ligand": tuple(ligands()), "drug": tuple(DRUGS)}
    if kind not in known:
        raise unknown_name(ConfigError, "simulate · intervention", "kind", kind, known)
    if name not in known[kind]:
        raise unknown_name(ConfigError, f"simulate · {kind}", "target", name, known[kind])
    targets = DRUGS[name].targets if kind == "drug" else {name: -1.0 if kind == "knockout" else 1.0}
    unit = "uM" if kind == "drug" else "relative"
    usual = {"targets": dict(targets), "dose": 1.0, "unit": unit, "onset_hours": 0.0, "hours": 24.0, "where": None}
    return {"kind": kind, "name": name, **usual, **fields}


def ligands() -> dict[str, int]:
    """Return each ligand and the position of the pathway it drives."""
    return {pathway.ligand: i for i, pathway in enumerate(PATHWAYS.values()) if pathway.ligand is not None}


def share_of_effect(given: Part) -> float:
    """Return the share 0–1 of its full effect that an intervention has at its dose; 0 at dose 0.

    ``dose^n / (dose^n + half^n)`` for drugs and ligands, the dose itself up to 1 for knock-outs and activations.
    """
    dose = float(given["dose"])
    if given["kind"] in ("knockout", "activation"):
        return min(dose, 1.0)
    drug = DRUGS.get(given["name"])
    half, steep = (drug.half_dose_um, drug.hill) if drug else (HALF_DOSE_OF_LIGAND, 1.0)
    return dose**steep / (dose**steep + half**steep)


def interaction(a: Part, b: Part) -> float:
    """Return the coefficient of a pair, 0 if they do not interact."""
    first, second = sorted([(a["kind"], a["name"]), (b["kind"], b["name"])])
    return INTERACTIONS.get((first, second), 0.0)


def changes(parts: Sequence[Part]) -> list[float]:
    """Return the hours at which something starts or ends, in order; the last is when the tissue is measured."""
    ends = [edge for p in parts for edge in (p["onset_hours"], p["onset_hours"] + p["hours"])]
    return sorted({0.0, *map(float, ends)})


def active(parts: Sequence[Part], hours: float) -> list[int]:
    """Return the positions of the parts that act just after `hours`."""
    return [k for k, p in enumerate(parts) if p["onset_hours"] <= hours < p["onset_hours"] + p["hours"]]


@dataclass(frozen=True)
class Influence:
    """Signed strengths with which interventions act, 0 where nothing does.

    Parameters
    ----------
    product, transcript
        On a gene's product and on its transcript, ``(cell, gene)``; −1 is a full knock-out, +1 a full activation.
    source
        Ligand from outside, ``(cell, pathway)``, in units of the cell that makes most of it.
    """

    product: Array
    transcript: Array
    source: Array


def nothing(n_cells: int) -> Influence:
    """Return the influence of no intervention."""
    product, transcript = np.zeros((2, n_cells, len(GENES)))
    return Influence(product, transcript, np.zeros((n_cells, len(PATHWAYS))))


def influence(
    parts: Sequence[Part], reached: Sequence[NDArray[np.bool_]], n_cells: int, scale: float = 1.0
) -> Influence:
    """Return what parts that act together aim at.

    A part k has its targets' strength times its share of effect h_k; where it meets a part l in a cell, times 1 + κ h_l
    as well, with κ the pair's coefficient of interaction.

    Parameters
    ----------
    parts
        What acts at the same time.
    reached
        Cells that each part acts on, ``(cell,)`` each.
    scale
        Factor on every effect; 0 for interventions that do nothing.
    """
    aim = nothing(n_cells)
    amounts = [scale * share_of_effect(given) * cells for given, cells in zip(parts, reached, strict=True)]
    for k, given in enumerate(parts):
        amount = amounts[k].copy()
        for other in range(len(parts)):
            if other != k:
                amount *= 1 + interaction(given, parts[other]) * amounts[other]
        for gene, strength in given["targets"].items():
            if given["kind"] == "ligand":
                aim.source[:, ligands()[gene]] += strength * amount
                continue
            aim.product[:, GENES.index(gene)] += strength * amount
            if given["kind"] != "drug":  # a drug blocks the product and leaves the transcript
                aim.transcript[:, GENES.index(gene)] += strength * amount
    return aim
