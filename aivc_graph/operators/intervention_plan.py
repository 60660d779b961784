"""Which interventions a model was trained on, and over what doses, times and donors."""

from __future__ import annotations

import numpy as np
import pandas as pd

from aivc_graph import names
from aivc_graph.graph.panels import panel
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.settings import Settings

COMPONENTS = 12
HOPS = 10


class InterventionPlan(Settings):
    """The interventions of a graph's training nodes.

    Parameters
    ----------
    level, modality
        Whose expression they shift: the finest level that was treated and counted.
    keys, kinds, targets
        The interventions, such as ``knockout:TGFB1``, and the signed strength of each target of each.
    pairs
        Interventions given together in training.
    doses, hours
        Least and largest of each in training.
    donors
        Training donors with a treated and an untreated section: the units effects are judged by.
    seen_in
        Positions among `donors` of those that each intervention was given to.
    latent, n_molecules
        Sizes of the state and of the panel.
    components, hops
        Of `aivc_graph.operators.intervention.component_shift.ComponentShift`.
    """

    level: str
    modality: str
    keys: tuple[str, ...]
    kinds: tuple[str, ...]
    targets: tuple[dict[str, float], ...]
    pairs: tuple[tuple[str, str], ...]
    doses: tuple[tuple[float, float], ...]
    hours: tuple[tuple[float, float], ...]
    donors: tuple[str, ...]
    seen_in: tuple[tuple[int, ...], ...]
    latent: int
    n_molecules: int
    components: int = COMPONENTS
    hops: int = HOPS

    @classmethod
    def of(cls, graph: TissueGraph, latent: int) -> InterventionPlan | None:
        """Return the plan of `graph`, or None where no training node was treated that has an untreated counterpart."""
        for level in graph.levels:
            applied = (names.INTERVENTION, names.APPLIED_TO, level)
            modality = next((m for m in graph.modalities(level) if m in names.MOLECULE_OF), None)
            if applied in graph.edge_types and modality is not None and (level, names.NEAR, level) in graph.edge_types:
                return cls._at(graph, level, modality, latent)
        return None

    @classmethod
    def _at(cls, graph: TissueGraph, level: str, modality: str, latent: int) -> InterventionPlan | None:
        sections = section_arms(graph, level)
        donors = donor_of_sections(graph)
        training = training_sections(graph, level)
        untreated = {donors[s] for s in training if not sections[s]}
        arms = {s: sections[s] for s in training if sections[s] and donors[s] in untreated and together(sections[s])}
        table = graph.obs(names.INTERVENTION)
        keys = sorted({key for arm in arms.values() for key in arm})
        if not keys:
            return None
        doses = {key: [arm[key][0] for arm in arms.values() if key in arm] for key in keys}
        hours = {key: [arm[key][1] for arm in arms.values() if key in arm] for key in keys}
        units = sorted({donors[s] for s in arms})
        seen = {key: {units.index(donors[s]) for s, arm in arms.items() if key in arm} for key in keys}
        pairs = sorted({(a, b) for arm in arms.values() for a in arm for b in arm if a < b})
        return cls(
            level=level,
            modality=modality,
            keys=tuple(keys),
            kinds=tuple(str(table.loc[key, "kind"]) for key in keys),
            targets=tuple(_targets(graph, key) for key in keys),
            pairs=tuple(pairs),
            doses=tuple((min(doses[key]), max(doses[key])) for key in keys),
            hours=tuple((min(hours[key]), max(hours[key])) for key in keys),
            donors=tuple(units),
            seen_in=tuple(tuple(sorted(seen[key])) for key in keys),
            latent=latent,
            n_molecules=len(panel(graph, level, modality)),
        )


def section_arms(graph: TissueGraph, level: str) -> list[dict[str, tuple[float, float, float]]]:
    """Return what was done to each section: intervention → (dose, duration [h], onset [h])."""
    relation = graph[names.INTERVENTION, names.APPLIED_TO, names.SECTION]
    keys = graph.obs(names.INTERVENTION).index
    applied = to_scipy_csr(relation.adj_t)
    arms: list[dict[str, tuple[float, float, float]]] = []
    for section in range(applied.shape[0]):
        edges = range(applied.indptr[section], applied.indptr[section + 1])
        arms.append(
            {
                str(keys[applied.indices[e]]): (
                    float(applied.data[e]),
                    float(relation.hours[e]),
                    float(relation.onset_hours[e]),
                )
                for e in edges
            }
        )
    return arms


def together(arm: dict[str, tuple[float, float, float]]) -> bool:
    """Say whether all of an arm lasts until the tissue is measured; effects of what ended before are not told."""
    return len({onset + duration for _, duration, onset in arm.values()}) < 2


def donor_of_sections(graph: TissueGraph) -> list[str]:
    """Return the donor of each section; a section without one is its own donor."""
    obs = graph.obs(names.SECTION)
    donors = obs["donor"] if "donor" in obs else [None] * len(obs)
    return [str(name) if pd.isna(donor) else str(donor) for name, donor in zip(obs.index, donors, strict=True)]


def training_sections(graph: TissueGraph, level: str) -> list[int]:
    """Return the sections with training nodes at `level`."""
    training = graph.in_split(level, names.TRAIN)
    return [int(s) for s in np.unique(graph[level].section_index[training].numpy())]


def _targets(graph: TissueGraph, key: str) -> dict[str, float]:
    relation = graph[names.INTERVENTION, names.TARGETS, names.GENE]
    column = graph.obs(names.INTERVENTION).index.get_loc(key)
    edges = to_scipy_csr(relation.adj_t).tocoo()
    genes = graph.obs(names.GENE).index
    signed = edges.data * relation.sign.numpy()
    return {str(genes[g]): float(w) for g, k, w in zip(edges.row, edges.col, signed, strict=True) if k == column}
