"""What the four questions of `first_model` share: training, intervals, scaled counts, means of neighbours."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from aivc_graph.config import Config
from aivc_graph.evaluation import intervals
from aivc_graph.graph.profiles import scale_counts
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.training.fit import fit

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
BOOTSTRAPS = 1000
log = logging.getLogger("first_model")


def trained(graph: TissueGraph, config: Config) -> tuple[TissueModel, dict[str, float]]:
    """Return a trained model and its label-free diagnostics."""
    with tempfile.TemporaryDirectory() as folder:
        model = fit(graph, config.model, config.training, Path(folder))
        return model, json.loads((Path(folder) / "training.json").read_text())["diagnostics"]


def interval(values: np.ndarray) -> dict[str, Any]:
    """Return the mean of one value a unit and its 95 % bootstrap interval over units."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (BOOTSTRAPS, len(values)))].mean(axis=1)
    low, high = intervals.interval(means, len(values))
    return {"mean": r(values.mean()), "lower": r(low), "upper": r(high), "n_units": len(values)}


def r(value: float) -> float:
    return round(float(value), 4)


def scaled_counts(graph: TissueGraph, level: str) -> np.ndarray:
    """Return log1p counts at the training median depth (node, gene)."""
    return scale_counts(to_scipy_csr(graph.counts(level, "rna")), graph[level].rna_depth).toarray()


def neighbour_mean(x: np.ndarray, pos: np.ndarray, group: np.ndarray, k: int, *, own: bool) -> np.ndarray:
    """Return the mean over the k nearest nodes of the same group, with or without the node itself."""
    out = np.zeros_like(x)
    for g in np.unique(group):
        rows = np.flatnonzero(group == g)
        near = cKDTree(pos[rows]).query(pos[rows], k=min(k + 1, len(rows)))[1]
        out[rows] = x[rows][near if own else near[:, 1:]].mean(axis=1)
    return out
