"""Niches of places of which features alone are known, such as a slide where no cell was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.feature_map import LEAST_NODES, FeatureMap, own_and_around
from aivc_graph.operators.intervention_plan import donor_of_sections
from aivc_graph.query.mixture import StateMixture
from aivc_graph.query.niches import NicheRule, Surroundings
from aivc_graph.query.states import node_states, run_windows, surroundings
from aivc_graph.tissue.evenly import evenly

Floats = NDArray[np.floating]
LEAST_KNOWN, DRAWS = 0.5, 128


def fit_niches_of_features(
    model: TissueModel, graph: Any, base: str, shares: dict[str, Floats]
) -> dict[str, FeatureMap]:
    """Return, by level with features above `base`, what these tell of niches: see `FeatureMap`.

    Niches of the base level itself are told by its states, that features lead to as well. Learned from training nodes
    whose niches are told by what was measured beneath; from ridge it departs as far as donors left out gain.

    Parameters
    ----------
    graph
        The graph of the run, or its store.
    base
        The level that niches are found at.
    shares
        By level, the share of each niche in every node (node, niche).
    """
    structure = graph.structure
    donor = np.unique(donor_of_sections(structure), return_inverse=True)[1].reshape(-1)
    maps = {}
    for level in model.plan.features:
        if level == base or level not in shares:
            continue
        x, seen = features_of(model, graph, level)
        rows = seen & structure.in_split(level, names.TRAIN).numpy() & (shares[level].sum(axis=1) > LEAST_KNOWN)
        if rows.sum() < LEAST_NODES:
            continue
        section = structure[level].section_index.numpy()[rows]
        one = FeatureMap(x.shape[1] // 2, int(rows.sum()), shares[level].shape[1])
        one.fit(x[rows], shares[level][rows].astype(float), section, donor[section])
        maps[level] = one
    return maps


def left_open_by_features(
    model: TissueModel, graph: Any, diagnostics: dict[str, float], found_in: Surroundings, rule: NicheRule
) -> Floats:
    r"""Return what features leave open of the states that niches are told by (draw, latent).

    .. math:: p(k \mid \hat z) = \frac1B \sum_b p(k \mid \hat z + z_b - \hat z_b)

    with :math:`z_b` by all that was measured and :math:`\hat z_b` by features alone, of nodes outside of the test split
    that have both, as many of each donor. No draws where features tell no state at that level.
    """
    structure = graph.structure
    if found_in.level not in model.plan.features or not isinstance(rule.mixture, StateMixture):
        return np.zeros((0, model.plan.latent))
    hide = tuple((level, modality) for level, by in model.plan.panels.items() for modality in by)
    told = surroundings(model, structure, node_states(model, graph, hide), diagnostics)
    rows = told.measured & found_in.counted & ~structure.in_split(found_in.level, names.TEST).numpy()
    open_ = (rule.states(found_in) - told.x)[rows]
    donors = [np.flatnonzero(found_in.donor[rows] == one) for one in np.unique(found_in.donor[rows])]
    drawn = [of_one[evenly(len(of_one), max(DRAWS // len(donors), 1))] for of_one in donors]
    return open_[np.concatenate(drawn)] if drawn else open_


def told_by_features(
    model: TissueModel, graph: TissueGraph, base: str, maps: Mapping[str, FeatureMap], shares: dict[str, Floats]
) -> dict[str, Floats]:
    """Return shares of niches in which nodes that had none are told by features, and those above and beneath so."""
    found = dict(shares)
    for level, one in maps.items():
        if level not in found or level not in model.plan.features or not (found[level].sum(axis=1) == 0).any():
            continue
        x, seen = features_of(model, graph, level)
        rows = seen & (found[level].sum(axis=1) == 0)
        told = one(torch.from_numpy(x[rows])).clamp_min(0.0).numpy()
        found[level] = found[level].copy()
        found[level][rows] = told / np.maximum(told.sum(axis=1, keepdims=True), 1e-12)
        for source, relation, target in graph.edge_types:
            if relation == names.WITHIN and level in (source, target) and {source, target} <= set(found):
                overlap = to_scipy_csr(graph[source, relation, target].adj_t)
                other, weight = (target, overlap) if level == source else (source, overlap.T)
                found[other] = _inherited(weight, found[other], found[level])
    return found


def _inherited(weight: Any, own: Floats, near: Floats) -> Floats:
    """Return shares (node, niche), of those that had none the mean of the nodes they hold or lie in, by `weight`."""
    mean = weight @ near
    return np.where(own.sum(axis=1, keepdims=True) > 0, own, mean / np.maximum(mean.sum(axis=1, keepdims=True), 1e-12))


def features_of(model: TissueModel, graph: Any, level: str) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the features of every node of a level and those around it (node, 2 feature), and who has any (node,).

    In units of their section; see `own_and_around`.
    """
    structure = graph.structure
    kinds = list(model.plan.features[level])
    found: Floats = np.zeros((int(structure[level].num_nodes), 0))
    seen = np.zeros(len(found), bool)
    for inputs, _, core, rows in run_windows(model, graph):
        values, mask = own_and_around(inputs, level, kinds)
        found = found if found.shape[1] else np.zeros((len(found), values.shape[1]))
        at = rows[level][core[level]].numpy()
        found[at], seen[at] = values[core[level]].numpy(), mask[core[level]].numpy()
    return found, seen
