"""Covariance environments of nodes whose counts were taken away: whether genes vary together as they truly do."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from aivc_graph.evaluation.baselines.baseline import Scene, run_baselines
from aivc_graph.evaluation.baselines.neighbours import nearest_visible
from aivc_graph.evaluation.intervals import Halves
from aivc_graph.evaluation.metrics.metric import Answers
from aivc_graph.evaluation.readouts.neighbourhood import MOST_GENES, NEAREST
from aivc_graph.evaluation.readouts.readout import Ground, read_out
from aivc_graph.evaluation.scoring import Scored
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.pipeline.tasks.ground import nearest
from aivc_graph.pipeline.tasks.task import Asked, Mask
from aivc_graph.query.predictions import drawn_log_expression, expected

Floats = NDArray[np.floating]
MOST_NODES = 400
# The fewer draws, the noisier their mean: at 18, as many as neighbours have values, distances are 0.02 to 0.04 larger.
DRAWS = 100


def environments(
    asked: Asked, level: str, rows: Mask, left: TissueGraph, scored: Scored, scene: Scene, target: Floats
) -> list[Scored]:
    """Return a task of log expression in terms of neighbourhoods, of at most 400 asked nodes drawn with the run's seed.

    An expectation varies less than what is measured. So the model answers with draws of its predictive distribution, at
    depths of the nearest known nodes, and a rule that speaks of distributions stands beside those that give means; over
    draws the environment is averaged.
    """
    peers = nearest(asked, level, rows, rows, NEAREST)
    if peers is None:
        return []
    genes = np.sort(np.argsort(-target[scene.train].var(axis=0), kind="stable")[:MOST_GENES])
    rng = np.random.default_rng(asked.tissue.seed)
    drawn = np.sort(rng.permutation(len(peers))[:MOST_NODES])
    ground = Ground(peers=(np.cumsum(rows) - 1)[peers[drawn]], centre=target[scene.train][:, genes].mean(axis=0))
    told = expected(asked.model, left, level, rows)
    depths = _depths(asked, level, rows, scene, rng)
    draws = drawn_log_expression(asked.model, told, depths, level, genes, DRAWS, asked.tissue.seed)

    def some(answers: dict[str, Answers]) -> dict[str, Answers]:
        return {who: _columns(answer, genes) for who, answer in answers.items()}

    joint = run_baselines(dataclasses.replace(scene, target=scene.target[:, genes]), "environment")
    restricted = dataclasses.replace(
        scored,
        measured=scored.measured[:, genes],
        model=draws,
        baselines=some(scored.baselines) | joint,
        ceilings=some(scored.ceilings),
        ablations={},
        similarity={},
    )
    shown = np.zeros(len(rows), bool)
    shown[np.flatnonzero(rows)[drawn]] = True
    return [read_out(restricted, "neighbourhood", ground, units=asked.units(level, shown))]


def _depths(asked: Asked, level: str, rows: Mask, scene: Scene, rng: np.random.Generator) -> Floats:
    """Return depths of `rows` (row, draw) of the nearest visible nodes; of training nodes where a section has few."""
    counts = asked.totals(level)
    near = nearest_visible(scene, NEAREST)
    if near is None:
        return rng.choice(counts[scene.train], (int(rows.sum()), DRAWS))
    return rng.permuted(counts[near], axis=1)[:, np.arange(DRAWS) % NEAREST]


def _columns(answer: Answers, genes: NDArray[np.integer]) -> Answers:
    if isinstance(answer, Halves):
        return Halves(answer.one[:, genes], answer.other[:, genes])
    return answer[:, genes]
