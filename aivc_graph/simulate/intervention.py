"""What is done to a tissue, as plain dicts with the fields of an intervention, and how strongly it acts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aivc_graph.errors import ConfigError, unknown_name
from aivc_graph.simulate.pathways import PATHWAY_NAMES, PATHWAYS
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
    return {p.ligand: PATHWAY_NAMES.index(name) for name, p in PATHWAYS.items() if p.ligand is not None}


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
    return INTERACTIONS.get(tuple(sorted([(a["kind"], a["name"]), (b["kind"], b["name"])])), 0.0)  # type: ignore[call-overload]


def changes(parts: Sequence[Part]) -> list[float]:
    """Return the hours at which something starts or ends, in order; the last is when the tissue is measured."""
    ends = [edge for p in parts for edge in (p["onset_hours"], p["onset_hours"] + p["hours"])]
    return sorted({0.0, *map(float, ends)})


def active(parts: Iterable[Part], hours: float) -> list[Part]:
    """Return the parts that act just after `hours`."""
    return [p for p in parts if p["onset_hours"] <= hours < p["onset_hours"] + p["hours"]]


def strengths(parts: Sequence[Part], reached: Sequence[NDArray[np.bool_]], scale: float = 1.0) -> tuple[Array, ...]:
    """Return the signed strengths that parts acting together aim at.

    Each part has its targets' strength times its share of effect h; a pair k, l that meets in a cell has both raised by
    1 + κ h_k h_l / h_k for k, that is 1 + κ h_l, and likewise for l.

    Parameters
    ----------
    parts
        What acts at the same time.
    reached
        Cells each part reaches, ``(cell,)`` each.
    scale
        Factor on every effect; 0 for interventions that do nothing.

    Returns
    -------
    tuple
        On a gene's product ``(cell, gene)``, on its transcript ``(cell, gene)``, and ligand from outside
        ``(cell, pathway)`` in units of the cell that makes most.
    """
    n_cells = len(reached[0]) if len(reached) else 0
    product, transcript = np.zeros((2, n_cells, len(GENES)))
    source = np.zeros((n_cells, len(PATHWAYS)))
    shares = [scale * share_of_effect(p) for p in parts]
    for k, (given, cells) in enumerate(zip(parts, reached, strict=True)):
        others = [l for l in range(len(parts)) if l != k]
        raised = 1 + sum((interaction(given, parts[l]) * shares[l] * reached[l] for l in others), np.zeros(n_cells))
        amount = shares[k] * cells * raised
        for gene, strength in given["targets"].items():
            if given["kind"] == "ligand":
                source[:, ligands()[gene]] += strength * amount
                continue
            product[:, GENES.index(gene)] += strength * amount
            if given["kind"] != "drug":  # a drug blocks the product and leaves the transcript
                transcript[:, GENES.index(gene)] += strength * amount
    return product, transcript, source
