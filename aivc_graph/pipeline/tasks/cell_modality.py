"""One modality of nodes of which another alone was seen: protein from RNA, chromatin from RNA, and back."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph import names
from aivc_graph.evaluation.baselines.baseline import Scene, run_baselines
from aivc_graph.evaluation.scoring import Scored
from aivc_graph.graph.hiding import hide_observations
from aivc_graph.graph.terms import dense, measured_terms, told_apart
from aivc_graph.operators.prediction.modality import MOST_CELLS
from aivc_graph.operators.prediction.modality_map import FEATURE_AXES
from aivc_graph.operators.prediction.modality_rules import LEAST_TRAINED
from aivc_graph.operators.subspace import along, leading_axes
from aivc_graph.pipeline.tasks.ceiling import split_half
from aivc_graph.pipeline.tasks.task import HIDDEN, TASKS, Asked, Mask
from aivc_graph.query.ablations import FEATURES_ONLY
from aivc_graph.query.predictions import told_by_others
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.tissue.evenly import evenly

log = logging.getLogger(__name__)
Floats = NDArray[np.floating[Any]]
# Cells that are asked, drawn at random, and molecules that are asked of them, those that vary most in training.
MOST_ASKED, MOST_MOLECULES = 2_000, 1_000
# Values up to which rules are shown features as they are, beyond it their leading components.
MOST_VALUES = 10_000_000


@TASKS.register("cell_to_modality", needs="nodes with two modalities, such as RNA and protein, some of them held out")
def cell_to_modality(asked: Asked) -> list[Scored]:
    """Take all but one modality of the scored nodes away, and ask for each of the others, in its own terms.

    RNA and chromatin are told as log1p of counts at one depth, protein as centred log ratio.
    """
    if asked.split == HIDDEN:
        return []
    found = []
    for level in asked.model.plan.levels:
        there = sorted(told_apart(asked.graph, level), key=lambda one: one != names.RNA)
        for source in there:
            found += [one for target in there if target != source for one in _scored(asked, level, source, target)]
    return found


def _scored(asked: Asked, level: str, source: str, target: str) -> list[Scored]:
    both = asked.measured(level, source) & asked.measured(level, target)
    rows, train = asked.drawn(both & asked.scored(level), MOST_ASKED), both & asked.training(level)
    if not rows.any():
        return []
    columns = _most_varying(asked, level, target, train if train.any() else rows)
    measured = dense(measured_terms(asked.graph, level, target, rows)[:, columns])
    hidden = {
        (v, one): asked.scored(v)
        for v in asked.graph.levels
        for one in told_apart(asked.graph, v)
        if (v, one) != (level, source)
    }

    def answer(tissue: VirtualTissue) -> Floats | None:
        told = told_by_others(tissue.model, hide_observations(tissue.graph, hidden), level, target, rows)
        return None if told is None else told[:, columns]

    model = answer(asked.tissue)
    if model is None:
        log.warning("%s from %s: no model, fewer than %d cells train", target, source, LEAST_TRAINED)
    scored = Scored(
        task="cell_to_modality",
        axis="modality",
        modality=f"{source} → {target}",
        readout=f"{target} from {source}",
        measured=measured,
        model=model,
        baselines=run_baselines(_scene(asked, level, source, target, train, rows, columns), "modality"),
        ablations={} if model is None else asked.ablations(answer, FEATURES_ONLY),
        metrics=("pearson_by_gene", "rmse", "foscttm"),
        **asked.asked_of(level, rows),
        ceilings=split_half(asked, level, rows, target, columns),
        similarity=asked.similarity(level, rows),
        no_model=f"fewer than {LEAST_TRAINED} cells" if model is None else "",
    )
    return [scored]


def _most_varying(asked: Asked, level: str, modality: str, rows: Mask) -> NDArray[np.intp]:
    """Return the columns that are asked, in order."""
    values = sparse.csr_matrix(measured_terms(asked.graph, level, modality, rows))
    mean = np.asarray(values.mean(axis=0)).ravel()
    variance = np.asarray(values.power(2).mean(axis=0)).ravel() - mean**2
    return np.sort(np.argsort(-variance, kind="stable")[:MOST_MOLECULES])


def _scene(
    asked: Asked, level: str, source: str, target: str, train: Mask, rows: Mask, columns: NDArray[np.intp]
) -> Scene:
    """Return what rules look at: training nodes, as many as the model looks at, and those asked."""
    known = np.flatnonzero(train)
    known = known[evenly(len(known), MOST_CELLS)]
    used = np.concatenate([known, np.flatnonzero(rows)])
    trains = np.arange(len(used)) < len(known)
    target_values = np.full((len(used), len(columns)), np.nan)
    target_values[trains] = dense(measured_terms(asked.graph, level, target, known)[:, columns])
    donor = np.unique(asked.donor[asked.graph[level].section_index.numpy()[used]], return_inverse=True)[1]
    return Scene(
        target=target_values,
        train=trains,
        visible=np.zeros(len(used), bool),
        asked=~trains,
        section=donor.reshape(-1),
        pos_um=np.zeros((len(used), 2)),
        features=_features(asked, level, source, used, trains),
        comparable=True,
    )


def _features(asked: Asked, level: str, modality: str, used: NDArray[np.integer[Any]], trains: Mask) -> Floats:
    values = measured_terms(asked.graph, level, modality, used)
    if values.shape[0] * values.shape[1] <= MOST_VALUES or trains.sum() < 2:
        return dense(values)
    centre = np.asarray(values[trains].mean(axis=0)).ravel()
    return along(values, centre, leading_axes(values[trains], centre, FEATURE_AXES))
