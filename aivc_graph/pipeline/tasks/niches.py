"""Niches against the true ones of a simulated tissue, else against the regions an expert named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aivc_graph.errors import QueryError, unknown_name
from aivc_graph.evaluation.baselines.baseline import run_baselines
from aivc_graph.evaluation.scoring import Scored
from aivc_graph.evaluation.settings import EvaluationConfig
from aivc_graph.pipeline.tasks.context_expression import OF_CONTEXT
from aivc_graph.pipeline.tasks.task import TASKS, Asked
from aivc_graph.query.ablations import FEATURES_ONLY
from aivc_graph.query.predictions import filled, measured_log_expression
from aivc_graph.query.virtual_tissue import VirtualTissue

# What annotators write where they do not know, in small letters.
UNDETERMINED = ("", "na", "nan", "none", "null", "unknown", "undetermined", "unassigned", "unlabelled", "unlabeled")
NO_REPLICATE = "an annotation, not the truth: regions were named once, so nobody knows how well a second look agrees"


@TASKS.register("niches", needs="truth: the niche of every cell, or of every spot; else regions that an expert named")
def niches(asked: Asked) -> list[Scored]:
    """Find as many niches as there truly are, without labels, and compare; baselines are told the same number.

    Niches are found on all nodes, since no label is used, and scored on the held-out ones. Where nothing was simulated
    they are compared with the regions of an annotation, as many as it has among the scored nodes; nodes it says nothing
    of are left out.
    """
    level = asked.tissue.base_level
    modality = asked.model.plan.expressed(level)
    if modality is None or modality not in OF_CONTEXT:
        return []
    true, annotated = _true(asked, level), False
    if true is None:
        true, annotated = _annotated(asked, level), True
    if true is None:
        return []
    placed = asked.placed(level)
    rows = asked.scored(level) & (true >= 0) & placed
    k = len(np.unique(true[rows]))
    if k < 2:
        return []

    def answer(tissue: VirtualTissue) -> NDArray[np.integer[Any]]:  # a node of no niche is in one of its own
        return np.asarray(tissue.niches(k=k, level=level).obs["niche"].cat.codes.to_numpy()[rows] + 1)

    counted = asked.counted(level) & placed
    everywhere = asked.scene(
        level,
        true,
        train=np.zeros(len(rows), bool),
        visible=counted,
        asked=rows,
        features=filled(measured_log_expression(asked.model, asked.graph, level)),
    )
    return [
        Scored(
            task="niches",
            axis="scale",
            modality=f"{modality} → annotation" if annotated else modality,
            readout="annotated region" if annotated else "niche",
            measured=true[rows],
            model=answer(asked.tissue),
            baselines=run_baselines(everywhere, "domains"),
            # Where a level has no features, a niche of them is none.
            ablations=asked.ablations(answer, *(() if level in asked.model.plan.features else (FEATURES_ONLY,))),
            metrics=("ari",),
            **asked.asked_of(level, rows),
            ceilings={} if annotated else {"truth": true[rows]},
            no_ceiling=NO_REPLICATE,
        )
    ]


def _true(asked: Asked, level: str) -> NDArray[np.integer[Any]] | None:
    name = "cells" if level == "cell" else "spots"
    table = None if asked.truth is None else asked.truth.of_nodes(asked.graph, level, name)
    return None if table is None or "niche" not in table else np.asarray(pd.Categorical(table["niche"]).codes)


def _annotated(asked: Asked, level: str) -> NDArray[np.integer[Any]] | None:
    """Return the code of the region each node was said to be in (node,), -1 where nothing is said; None without any.

    Labels from which the composition of patches is learned are kinds of cells, no regions.
    """
    column, obs = asked.config.evaluation.annotation, asked.graph.obs(level)
    if column is None or any(child == level for child, _ in asked.model.plan.compositions):
        return None
    if column not in obs:
        if column != EvaluationConfig().annotation:
            raise unknown_name(QueryError, "evaluation · annotation", f"column of {level}", column, obs.columns)
        return None
    said = obs[column].astype(object)
    known = said.notna() & ~said.astype(str).str.strip().str.lower().isin(UNDETERMINED)
    return np.asarray(pd.Categorical(said.where(known)).codes)
