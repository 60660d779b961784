"""What of an intervention lies within what training has seen: its dose and time, and the kinds of node it reaches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from aivc_graph.errors import QueryError, unknown_name
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.gate import RESPONSE
from aivc_graph.operators.intervention.exposure import Field
from aivc_graph.query.states import run_windows
from aivc_graph.tissue.intervention import Intervention

SLACK = 1e-6


def reached_by(fields: dict[int, Field]) -> np.ndarray:
    """Return whom any of the interventions reaches (node,), by what is done to it or near it."""
    return np.any([(one.strength > 0).numpy() | (one.exposure > 0).numpy() for one in fields.values()], axis=0)


def as_trained(plan: Any, part: Intervention) -> Intervention:
    """Return a part that lasts as long as the longest in training, unless it says how long."""
    if part.key not in plan.keys:
        raise unknown_name(QueryError, "intervene", "trained intervention", part.key, plan.keys)
    if "hours" in part.model_fields_set:
        return part
    return part.model_copy(update={"hours": plan.hours[plan.keys.index(part.key)][1]})


def kinds_known(graph: TissueGraph, model: TissueModel) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest component of every node (node,), and who lies where training has been."""
    plan = model.plan.interventions
    assert plan is not None and model.interventions is not None
    n = int(graph[plan.level].num_nodes)
    nearest, known = np.zeros(n, np.int64), np.zeros(n, bool)
    counted = model.count_operator(plan.level, plan.modality)
    with torch.no_grad():
        for inputs, _, core, rows in run_windows(model, graph, question=RESPONSE):
            mask = core[plan.level]
            data = inputs.measured(plan.level, plan.modality)
            share, usual = model.interventions.components(counted.encode(data)[mask])
            measured = data.mask[mask] > 0
            nearest[rows[plan.level][mask].numpy()] = share.argmax(dim=1).numpy()
            known[rows[plan.level][mask].numpy()] = (usual & measured).numpy()
    return nearest, known


def outside_training(plan: Any, part: Intervention, row: int) -> list[str]:
    """Say what of a dose or time lies outside the trained range; nothing given, or for no time, is always inside."""
    found: list[str] = []
    if not part.dose or not part.hours:
        return found
    for what, value, (low, high) in (("dose", part.dose, plan.doses[row]), ("hours", part.hours, plan.hours[row])):
        # A little slack: the graph keeps doses and hours as float32.
        if not low * (1 - SLACK) <= value <= high * (1 + SLACK):
            trained = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            found.append(f"{part.key}: {what} {value:g} is outside the trained {trained}")
    return found
