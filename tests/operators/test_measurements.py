"""What measurements make of counts and features: hidden molecules are made up for, noise is known as noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.model.settings import ModelConfig
from aivc_graph.operators.part import BEFORE_TRAINING
from tests.fitting import fit_stages, fitting_of, fold_of, model_of

EDGES = GraphConfig(edges={"patch": {"kind": "knn", "k": 6}})


def test_shown_molecules_stand_in_for_hidden_ones(striped_section: Callable[..., Any]) -> None:
    graph = build_graph([striped_section("a", levels=("patch",))], EDGES)
    model = model_of(graph, ModelConfig(latent=3))
    part = model.part("measurement", "patch", "rna")
    fit_stages(fitting_of(graph, model, [fold_of(graph, model)]), BEFORE_TRAINING[:1])
    data, generator = model.prepare(graph).measured("patch", "rna"), np.random.default_rng(0)
    with torch.no_grad():
        whole, sizes = part.encode(data), []
        for _ in range(40):
            shown = torch.from_numpy((generator.random(30) < 0.4).astype(np.float32))
            sizes.append(float((part.encode(data, shown) * whole).sum() / whole.square().sum()))
    assert abs(np.mean(sizes) - 1) < 0.1  # 0.4 if they were merely left out


def test_noisy_features_are_known_to_be_noisy(striped_section: Callable[..., Any]) -> None:
    sureness = []
    for noise in (0.1, 3.0):
        section = striped_section("a", n=2000, levels=("patch",))
        table = section.tables["patch_histology"]
        table.X = table.X + np.random.default_rng(1).normal(0, noise, table.X.shape).astype(np.float32)
        graph = build_graph([section], EDGES)
        model = model_of(graph, ModelConfig(latent=2))
        fit_stages(fitting_of(graph, model, [fold_of(graph, model)]), BEFORE_TRAINING[:2])
        sureness.append(model.part("measurement", "patch", "histology").log_precision.mean().item())
    assert sureness[0] > sureness[1] + 0.5
