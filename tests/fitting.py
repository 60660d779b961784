"""A model of a graph, and what its parts are fitted to, without training."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.plan import ModelPlan
from aivc_graph.model.settings import ModelConfig
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.part import Fitting
from aivc_graph.operators.state import Fold


def model_of(graph: TissueGraph, config: ModelConfig) -> TissueModel:
    """Return a model of `graph` that knows the profile of its training nodes and nothing else."""
    torch.manual_seed(0)
    model = TissueModel(ModelPlan.of(graph, config)).eval()
    with torch.no_grad():
        for part in model.parts_of("measurement"):
            part.begin(graph)
    return model


def fold_of(graph: TissueGraph, model: TissueModel, rows: dict[str, np.ndarray] | None = None) -> Fold:
    """Return the whole graph as one window, of which some rows by level are fitted on; all that train by default."""
    chosen = {v: graph.in_split(v, "train").numpy() for v in graph.levels} if rows is None else rows
    nobody = {level: torch.zeros(int(graph[level].num_nodes)) for level in graph.levels}
    return Fold(model.prepare(graph), nobody | {v: torch.from_numpy(r).float() for v, r in chosen.items()})


def fitting_of(
    graph: TissueGraph, model: TissueModel, training: list[Fold], held_out: list[Fold] | None = None
) -> Fitting:
    """Return what parts of `model` may look at."""
    sections = np.arange(graph["section"].num_nodes)
    apart = training if held_out is None else held_out
    return Fitting(model, training, apart, np.random.default_rng(0), 0, graph, 40_000, np.full(len(sections), -1))


@torch.no_grad()
def fit_stages(fitting: Fitting, stages: Iterable[str]) -> None:
    """Run stages of the closed form, each part by its own fit."""
    for stage in stages:
        for part in fitting.model.parts():
            if (fit := part.fits(stage)) is not None:
                fit(fitting)
