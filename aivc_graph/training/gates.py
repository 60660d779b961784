"""Corrections stay open only as far as held-out nodes support it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from aivc_graph.model.tissue_model import TissueModel

OPENINGS = (0.0, 0.5, 1.0)


def gates_of(model: TissueModel) -> dict[str, nn.Parameter]:
    """Return every gate of the model: the scalar before each learned correction, zero at the start."""
    return {name: p for name, p in model.named_parameters() if name.endswith(".gate")}


@torch.no_grad()
def choose_gates(model: TissueModel, held_out_loss: Callable[[], float]) -> dict[str, float]:
    """Scale each gate by 0, ½ or 1, one after the other, keeping what gives the least held-out loss; ties close it.

    Returns the opening chosen for each gate.
    """
    chosen: dict[str, float] = {}
    for name, gate in gates_of(model).items():
        learned = gate.clone()
        if float(learned.abs()) == 0.0:
            chosen[name] = 0.0
            continue
        losses = []
        for opening in OPENINGS:
            gate.copy_(learned * opening)
            losses.append(held_out_loss())
        best = min(range(len(OPENINGS)), key=lambda i: (losses[i], OPENINGS[i]))
        gate.copy_(learned * OPENINGS[best])
        chosen[name] = OPENINGS[best]
    return chosen
