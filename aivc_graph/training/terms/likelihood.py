"""The likelihood of what was hidden, a node and a feature."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from aivc_graph import names
from aivc_graph.errors import ConfigError, unknown_name
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.gate import EXPRESSION
from aivc_graph.operators.state import Hidden, Inputs, State
from aivc_graph.training.terms.term import TERMS, AbstractTerm, Loss, Pass

if TYPE_CHECKING:
    from aivc_graph.training.settings import TrainingConfig


@TERMS.register("likelihood")
class LikelihoodTerm(AbstractTerm):
    """Negative log-likelihood of what was hidden, modality by modality; see `likelihood`.

    Raises
    ------
    ConfigError
        A weight of what is no modality.
    """

    def __init__(self, graph: TissueGraph, config: TrainingConfig) -> None:
        super().__init__(graph, config)
        known = {*names.MODALITIES, *(one for level in graph.levels for one in graph.modalities(level))}
        for name in config.modality_weight:
            if name not in known:
                raise unknown_name(ConfigError, "training.modality_weight", "modality", name, known)

    def forward(self, one: Pass) -> Loss:
        """Return the sums of a window, by level and modality."""
        weights = self.config.feature_weight, self.config.modality_weight
        return likelihood(one.model, one.inputs, one.state, one.hidden, one.counted, *weights)


def likelihood(
    model: TissueModel,
    inputs: Inputs,
    state: State,
    hidden: Hidden,
    counted: dict[str, Tensor],
    feature_weight: float,
    modality_weight: Mapping[str, float] = MappingProxyType({}),
    question: str | None = None,
) -> Loss:
    """Return the negative log-likelihood of what was hidden, for the nodes in `counted` (node,), 1 or 0, by level.

    Where single features are hidden, of every node given the others; of a hidden node nothing but its context was seen.
    Elsewhere, of the nodes that were hidden.

    Parameters
    ----------
    feature_weight
        Weight of measurements that are a look alone, as of a tile.
    modality_weight
        Weight of modalities by name, where it is another.
    question
        Only of hidden nodes for ``expression``, only of the others for ``state``; of both if not given.
    """
    loss = Loss()
    for part in model.parts_of("measurement"):
        if not part.seen:
            continue
        key, data = part.key, inputs.measured(*part.slot)
        node = counted[part.plan.level] * data.mask
        shown = hidden.shown.get(key)
        if shown is None:
            node = node * hidden.nodes[key] * (question != EXPRESSION)
        elif question is not None:
            node = node * (hidden.nodes[key] if question == EXPRESSION else 1 - hidden.nodes[key])
        feature = torch.ones(part.width, device=inputs.device) if shown is None or shown.min() == 1 else 1 - shown
        said = part.likelihood(state.z[part.plan.level], data)
        loss.total[key] = said.nll(part.observation(data), node, feature)
        loss.number[key] = said.number(node, feature)
        loss.weight[key] = modality_weight.get(key[1], 1.0 if part.measures else feature_weight)
    return loss
