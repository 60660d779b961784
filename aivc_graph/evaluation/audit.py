"""Everything a graph tells about what leaks between what trained and what is scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.evaluation.leakage import group_overlap
from aivc_graph.evaluation.optimism import optimism_gap
from aivc_graph.evaluation.receptive_field import Step, receptive_field
from aivc_graph.evaluation.similarity import nearest_distance, similarity_across
from aivc_graph.graph.panels import measured_molecules
from aivc_graph.graph.profiles import scale_counts
from aivc_graph.graph.terms import dense, measured_terms
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.tissue.evenly import evenly

Rows = NDArray[np.bool_]
Floats = NDArray[np.floating]

SAMPLE, GENES = 8000, 1000


def audit_graph(
    graph: TissueGraph, train: Mapping[str, Rows], asked: Mapping[str, Rows], steps: Sequence[Step], seed: int = 0
) -> dict[str, Any]:
    """Return what may leak, each by level: ``groups``, ``similarity``, ``nearest``, ``optimism``, ``receptive_field``.

    No model is needed. At most 8,000 nodes a side and the 1,000 molecules most counted in training are looked at.

    Parameters
    ----------
    train, asked
        The sides (node,) by level, of nodes with counts of RNA or intensities.
    steps
        Message-passing steps, `ModelPlan.steps`.
    seed
        Of the random splits that optimism is measured against.
    """
    found: dict[str, dict[str, Any]] = {"groups": {}, "similarity": {}, "nearest": {}, "optimism": {}}
    obs = graph.obs(names.SECTION)
    for level, rows in asked.items():
        if not rows.any() or not train[level].any():
            continue
        section = graph[level].section_index.numpy()
        groups = group_overlap(obs, section, train[level], rows) | _interventions(graph, section, train[level], rows)
        found["groups"][level] = groups
        known, tested = (np.flatnonzero(side)[evenly(int(side.sum()), SAMPLE)] for side in (train[level], rows))
        used = np.concatenate([known, tested])
        profiles, n = log_profiles(graph, level, used, len(known)), len(known)
        found["similarity"][level] = similarity_across(profiles[:n], profiles[n:])
        found["nearest"][level] = nearest_distance(profiles[:n], profiles[n:])
        side = np.arange(len(used)) < n
        pos = graph[level].pos.numpy()[used]
        found["optimism"][level] = optimism_gap(profiles, pos, section[used], side, ~side, seed)
    return {**found, "receptive_field": receptive_field(graph, steps, train, asked)}


def _interventions(graph: TissueGraph, section: NDArray[np.integer[Any]], train: Rows, asked: Rows) -> dict[str, float]:
    """Return the share of asked nodes of treated sections of which training has every intervention."""
    relation = (names.INTERVENTION, names.APPLIED_TO, names.SECTION)
    if relation not in graph.edge_types:
        return {}
    given = to_scipy_csr(graph[relation].adj_t).toarray() > 0
    unseen = ~given[np.unique(section[train])].any(axis=0)
    treated = asked & given.any(axis=1)[section]
    new = (given & unseen).any(axis=1)[section]
    return {"intervention": round(float((~new[treated]).mean()), 6)} if treated.any() else {}


def log_profiles(graph: TissueGraph, level: str, rows: NDArray[np.int64], n_train: int) -> Floats:
    """Return log1p scaled counts (row, gene) of the genes most counted in the first `n_train` rows.

    Of those that all sections measured, where there are any. Where there are intensities and no RNA, the arcsinh of all
    markers.
    """
    if names.RNA not in graph.modalities(level):
        return dense(measured_terms(graph, level, names.INTENSITY, rows))
    counts = to_scipy_csr(graph.counts(level, names.RNA))[rows]
    total = np.asarray(counts[:n_train].sum(axis=0)).ravel()
    sections = graph[level].section_index.numpy()[rows]
    by_all = measured_molecules(graph, level, names.RNA).numpy()[np.unique(sections)].all(axis=0)
    total = np.where(by_all, total, 0) if total[by_all].any() else total
    genes = np.sort(np.argsort(-total, kind="stable")[: min(GENES, int((total > 0).sum()))])
    return scale_counts(counts, float(graph[level][f"{names.RNA}_depth"]))[:, genes].toarray()
