"""Niches of a simulated tissue against the true ones."""

from __future__ import annotations

import numpy as np
import pandas as pd

from aivc_graph.evaluation.baselines.baseline import run_baselines
from aivc_graph.evaluation.scoring import Scored
from aivc_graph.pipeline.tasks.task import TASKS, Asked
from aivc_graph.query.predictions import measured_log_expression


@TASKS.register("niches", needs="truth: the niche of every cell, or of every spot")
def niches(asked: Asked) -> list[Scored]:
    """Find as many niches as there truly are, without labels, and compare; baselines are told the same number.

    Niches are found on all nodes, since no label is used, and scored on the held-out ones.
    """
    level = asked.tissue.base_level
    name = "cells" if level == "cell" else "spots"
    table = None if asked.truth is None else asked.truth.of_nodes(asked.graph, level, name)
    if table is None or "niche" not in table:
        return []
    true = pd.Categorical(table["niche"])
    rows = asked.scored(level) & (true.codes >= 0)
    k = len(np.unique(true.codes[rows]))
    if k < 2:
        return []
    answer = asked.tissue.niches(k=k, level=level)
    counted = asked.counted(level)
    everywhere = asked.scene(
        level,
        np.asarray(true.codes),
        train=np.zeros(len(rows), bool),
        visible=counted,
        asked=rows,
        features=measured_log_expression(asked.model, asked.graph, level),
    )
    return [
        Scored(
            task="niches",
            axis="scale",
            split=asked.split,
            scale=level,
            modality="rna",
            readout="niche",
            measured=np.asarray(true.codes)[rows],
            # A node of no niche is in one of its own.
            model=answer.obs["niche"].cat.codes.to_numpy()[rows] + 1,
            baselines=run_baselines(everywhere, "domains"),
            metrics=("ari",),
            units=asked.units(level, rows),
            leakage=asked.leakage(level, rows)["any"],
            ceilings={"truth": np.asarray(true.codes)[rows]},
        )
    ]
