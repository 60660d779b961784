"""How well two levels are told of each other when fewer anchors are known, and when they are wrong."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import QueryError
from aivc_graph.evaluation.intervals import estimate
from aivc_graph.evaluation.metrics.metric import metric
from aivc_graph.evaluation.scoring import MODEL, rounded
from aivc_graph.graph.anchors import AnchorConfig
from aivc_graph.graph.hiding import hide_observations
from aivc_graph.graph.panels import panel_columns
from aivc_graph.graph.reanchoring import anchor_sigma, nearest_join, reanchored
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.prediction.shared_counts import AbstractShared
from aivc_graph.pipeline.tasks.task import Asked, Mask
from aivc_graph.query.predictions import expected_log_expression, expressed, measured_log_expression
from aivc_graph.training.fit import fit

log = logging.getLogger(__name__)
Floats = NDArray[np.floating]
METRIC = "pearson_by_gene"
SHARES, SHIFTS_UM = (0.05, 0.2, 0.5, 1.0), (25.0, 50.0, 100.0)


def anchor_curves(asked: Asked) -> list[dict[str, Any]]:
    """Return how well scored spots are told by the cells beneath them, and these by spots, as anchors get worse.

    Anchors are thinned to `SHARES` outside the test side, or all cells are moved against spots by `SHIFTS_UM`, in a
    direction drawn for each section: with the error of places left as it was, and with that error told. The model is
    fitted anew to each, in closed form; beside it the nearest join, in which each cell belongs to the spot next to it.
    All are asked of the same nodes: those that lie beneath or above another as anchors were.

    Returns
    -------
    A record for each condition and level told: ``told``, ``by`` (levels), ``share``, ``shift_um``, ``error_told``,
    ``n`` (nodes), ``metric``, and ``model``, ``nearest_join`` with ``value``, ``lower``, ``upper`` (95 %), and
    ``relative_sd``: the standard deviation of rates about what the model tells, over it, the mean over molecules.

    Raises
    ------
    QueryError
        If none of the scored nodes lies beneath or above another that counts the same molecules.
    """
    rows = {part.slot: _asked_of(asked, part) for part in _parts_of(asked.model)}
    if not any(one.any() for one in rows.values()):
        raise QueryError(
            "aivc evaluate --anchors",
            "no scored cells beneath spots that count the same molecules",
            "cells and spots of one tissue, both counted, some of them held out",
            "leave --anchors out",
        )
    found, scored = [], {level: asked.scored(level) for level in asked.graph.levels}
    for config, told in _conditions(asked):
        started, graph = time.perf_counter(), reanchored(asked.graph, config, asked.config.graph.patch_reach_um)
        training = asked.config.training.model_copy(update={"epochs": 0})
        with tempfile.TemporaryDirectory() as folder:
            model = fit(graph, asked.config.model, training, Path(folder))
        done = {"share": config.share, "shift_um": config.shift_um, "error_told": told}
        for part in _parts_of(model):
            if rows[part.slot].any():
                answers = _answers(model, graph, part, rows[part.slot], scored, nearest_join(graph, config))
                found.append(done | _record(asked, part, rows[part.slot], answers))
        what = f"{config.share:.0%} known, cells moved by {config.shift_um:g} µm{' and so told' if told else ''}"
        log.info("anchors, %s: %.1f s", what, time.perf_counter() - started)
    return found


def _conditions(asked: Asked) -> Iterator[tuple[AnchorConfig, bool]]:
    """Yield what is done to anchors, and whether the error that it leaves is told: what tells most comes first."""
    own, sigma = asked.config.graph.anchors, float(anchor_sigma(asked.graph).max())
    for share in SHARES:
        yield own.model_copy(update={"share": share, "shift_um": 0.0}), False
    for shift in SHIFTS_UM:
        moved = own.model_copy(update={"share": 1.0, "shift_um": shift})
        yield moved, False
        # Of a distance in the plane each axis has its half.
        yield moved.model_copy(update={"sigma_um": float(np.hypot(sigma, shift / np.sqrt(2)))}), True


def _parts_of(model: TissueModel) -> list[AbstractShared]:
    """Return what tells cells and spots of each other, of the molecules that expression is asked of."""
    parts = [one for one in model.parts_of("prediction") if isinstance(one, AbstractShared)]
    levels = {names.CELL, names.PATCH}
    return [one for one in parts if set(one.slot[:2]) == levels and one.target[1] == expressed(model, one.target[0])]


def _asked_of(asked: Asked, part: AbstractShared) -> Mask:
    """Return the scored nodes that are told, counted, beneath or above others that were (node,)."""
    within = to_scipy_csr(asked.graph[names.CELL, names.WITHIN, names.PATCH].adj_t)
    level, (child, parent) = part.target[0], (asked.counted(one) for one in (names.CELL, names.PATCH))
    across = within @ child.astype(float) if level == names.PATCH else within.T @ parent.astype(float)
    return asked.scored(level) & asked.counted(level) & (across > 0)


def _answers(
    model: TissueModel,
    graph: TissueGraph,
    part: AbstractShared,
    rows: Mask,
    scored: dict[str, Mask],
    join: sparse.csr_matrix,
) -> dict[str, Floats]:
    """Return log expression of `rows` (row, molecule) by the model, nothing of their level seen there, and by a join.

    Nodes that are joined to nothing are as the mean of training.
    """
    level, modality = part.target
    hidden = {(level, one): scored[level] for one in model.plan.panels[level]}
    told = expected_log_expression(model, hide_observations(graph, hidden), level, rows)
    of_spots = level == names.PATCH
    other, theirs = (names.CELL, part.plan.of_child) if of_spots else (names.PATCH, part.plan.of_parent)
    columns = panel_columns(graph, other, modality).numpy()[list(theirs)]
    counts = np.asarray(
        ((join if of_spots else join.T) @ to_scipy_csr(graph.counts(other, modality))[:, columns]).todense()
    )
    total, depth = counts.sum(axis=1, keepdims=True), float(model.count_operator(level, modality).target_depth)
    joined = np.log1p(depth * counts / np.maximum(total, 1e-12))
    training = graph.in_split(level, names.TRAIN).numpy() & graph[level][names.mask_name(modality)].numpy()
    mean = np.nanmean(measured_log_expression(model, graph, level, training)[:, list(part.columns)], axis=0)
    return {MODEL: told[:, list(part.columns)], "nearest_join": np.where(total > 0, joined, mean)[rows]}


def _record(asked: Asked, part: AbstractShared, rows: Mask, answers: dict[str, Floats]) -> dict[str, Any]:
    """Return what answers score, of whom, and by what the model says rates differ from what it tells."""
    level = part.target[0]
    measured = measured_log_expression(asked.model, asked.graph, level, rows)[:, list(part.columns)]
    units, scores = asked.units(level, rows), {}
    for who, answer in answers.items():
        found = estimate(metric(METRIC), answer, measured, units)
        lower, upper = found.bounds()
        scores[who] = {"value": rounded(found.value), "lower": rounded(lower), "upper": rounded(upper)}
    told = {"told": level, "by": next(one for one in part.slot[:2] if one != level), "n": int(rows.sum())}
    return told | {"metric": METRIC, **scores, "relative_sd": rounded(float(part.scatter.sqrt().mean()))}
