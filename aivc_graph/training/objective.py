"""The objective: likelihood of what was hidden, a node and a feature."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.gate import EXPRESSION
from aivc_graph.operators.state import Hidden, Inputs, State


@dataclass
class Loss:
    """Sum, number of terms and weight by (level, modality); `mean` weighs modalities and divides by their numbers."""

    total: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    number: dict[tuple[str, str], float] = field(default_factory=dict)
    weight: dict[tuple[str, str], float] = field(default_factory=dict)

    def mean(self) -> Tensor:
        """Return the weighted mean negative log-likelihood a node and feature."""
        counted = [key for key in self.total if self.number[key] > 0]
        return sum((self.weight[k] * self.total[k] / self.number[k] for k in counted), torch.zeros(()))

    def add(self, other: Loss) -> None:
        """Add the (detached) sums of another window."""
        self.weight |= other.weight
        for key, value in other.total.items():
            self.total[key] = self.total.get(key, torch.zeros((), dtype=torch.float64)) + value.detach().double().cpu()
            self.number[key] = self.number.get(key, 0.0) + other.number[key]


def likelihood(
    model: TissueModel,
    inputs: Inputs,
    state: State,
    hidden: Hidden,
    counted: dict[str, Tensor],
    feature_weight: float,
    question: str | None = None,
) -> Loss:
    """Return the negative log-likelihood of what was hidden, for the nodes in `counted` (node,), 1 or 0, by level.

    Where single features are hidden, of every node given the others; of a hidden node nothing but its context was seen.
    Elsewhere, of the nodes that were hidden.

    Parameters
    ----------
    feature_weight
        Weight of measurements that are a look alone, as of a tile.
    question
        Only of hidden nodes for ``expression``, only of the others for ``state``; of both if not given.
    """
    loss = Loss()
    for part in model.parts_of("measurement"):
        key, data = part.key, inputs.measured(*part.slot)
        node = counted[part.plan.level] * data.mask
        shown = hidden.shown.get(key)
        if shown is None:
            node = node * hidden.nodes[key] * (question != EXPRESSION)
        elif question is not None:
            node = node * (hidden.nodes[key] if question == EXPRESSION else 1 - hidden.nodes[key])
        feature = (
            torch.ones(len(part.plan.names), device=inputs.device) if shown is None or shown.min() == 1 else 1 - shown
        )
        said = part.likelihood(state.z[part.plan.level], data)
        loss.total[key] = said.nll(part.observation(data), node, feature)
        loss.number[key] = float(node.sum() * feature.sum())
        loss.weight[key] = 1.0 if part.measures else feature_weight
    return loss
