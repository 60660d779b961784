"""Of which type nodes are whose labels were taken away: by all else that was seen of them, and by the tissue around."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.evaluation.baselines.baseline import Scene, run_baselines
from aivc_graph.evaluation.records import Axis
from aivc_graph.evaluation.scoring import Scored
from aivc_graph.graph.hiding import hide_observations
from aivc_graph.graph.panels import measured_nodes, onehot_labels
from aivc_graph.graph.terms import dense, measured_terms
from aivc_graph.pipeline.tasks.task import TASKS, Asked, Mask
from aivc_graph.query.types import told_types
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.tissue.evenly import evenly

Floats = NDArray[np.floating]
SHARE, MOST = 0.25, 20_000
MOST_TRAINED = 10_000
METRICS = ("log_loss", "accuracy", "balanced_accuracy", "calibration_error")


@TASKS.register("cell_to_type", needs="labelled nodes with counts or intensities, some of them held out")
def cell_to_type(asked: Asked) -> list[Scored]:
    """Take the labels of all scored nodes away, and ask of which type they are by what else was measured of them."""
    found = []
    for level, maker in ((level, asked.model.plan.made_of(level)) for level in asked.model.plan.types):
        if maker not in (None, names.TYPE):
            there = asked.scored(level) & _labelled(asked, level) & asked.measured(level, maker)
            rows = asked.drawn(there, MOST)
            hidden = {(level, names.TYPE): asked.scored(level)}
            found += _scored(asked, "cell_to_type", "modality", level, str(maker), rows, hidden)
    return found


@TASKS.register("context_to_type", needs="labelled nodes with neighbours")
def context_to_type(asked: Asked) -> list[Scored]:
    """Take every fourth scored node's label away, and all that was measured of it, and ask by the tissue around.

    The labels of others stay visible, as do their measurements.
    """
    found = []
    for level in asked.model.plan.types:
        if level in asked.model.plan.laterals:
            share = np.random.default_rng(asked.tissue.seed).random(len(asked.scored(level)))
            away = asked.scored(level) & asked.placed(level) & (share < SHARE)
            rows = asked.drawn(away & _labelled(asked, level), MOST)
            hidden = {(level, one): away for one in (names.TYPE, *asked.graph.modalities(level))}
            found += _scored(asked, "context_to_type", "context", level, "tissue around", rows, hidden)
    return found


def _scored(
    asked: Asked, task: str, axis: Axis, level: str, source: str, rows: Mask, hidden: dict[tuple[str, str], Mask]
) -> list[Scored]:
    onehot = onehot_labels(asked.graph, level, asked.model.plan.types[level])
    away = hidden[level, names.TYPE]
    train = asked.training(level) & ~away & (onehot.sum(axis=1) > 0)
    if not rows.any() or not train.any():
        return []

    def answer(tissue: VirtualTissue) -> Floats:
        return told_types(tissue.model, hide_observations(tissue.graph, hidden), level, labelled=False)[0][rows]

    measured = onehot[rows].argmax(axis=1)
    return [
        Scored(
            task=task,
            axis=axis,
            modality=f"{source} → type",
            readout=f"type of {level}",
            measured=measured,
            model=answer(asked.tissue),
            baselines=run_baselines(_scene(asked, level, source, onehot, train, away, rows), "type"),
            ablations=asked.ablations(answer),
            metrics=METRICS,
            **asked.asked_of(level, rows),
            similarity=asked.similarity(level, rows),
            group=np.array(asked.model.plan.types[level])[measured],
            no_ceiling="labels were given once: no replicate of them",
        )
    ]


def _scene(asked: Asked, level: str, source: str, onehot: Floats, train: Mask, away: Mask, rows: Mask) -> Scene:
    """Return what rules look at: labelled nodes in the tissue around, or training nodes by what was measured."""
    if source not in asked.graph.modalities(level):
        visible = asked.scored(level) & ~away & (onehot.sum(axis=1) > 0)
        there = np.where((train | visible)[:, None], onehot, np.nan)
        return asked.scene(level, there, train=train, visible=visible, asked=rows)
    known = np.flatnonzero(train & asked.measured(level, source))
    known = known[evenly(len(known), MOST_TRAINED)]
    used = np.concatenate([known, np.flatnonzero(rows)])
    trains = np.arange(len(used)) < len(known)
    return Scene(
        target=np.where(trains[:, None], onehot[used], np.nan),
        train=trains,
        visible=np.zeros(len(used), bool),
        asked=~trains,
        section=asked.graph[level].section_index.numpy()[used],
        pos_um=np.zeros((len(used), 2)),
        features=dense(measured_terms(asked.graph, level, source, used)),
        comparable=source in names.MOLECULE_OF,
    )


def _labelled(asked: Asked, level: str) -> Mask:
    return measured_nodes(asked.graph, level, names.TYPE, asked.model.plan.types[level])
