"""The objective: likelihood of what was hidden, a node and a feature."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from aivc_graph.model.inputs import Inputs, hidden_nodes
from aivc_graph.model.tissue_model import Hidden, State, TissueModel
from aivc_graph.training.settings import TrainingConfig

UNSEQUENCED_WINDOWS = 0.25


@dataclass
class Loss:
    """Sum and number of terms by (level, modality); `mean` weighs modalities and divides by what was counted."""

    total: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    number: dict[tuple[str, str], float] = field(default_factory=dict)

    def mean(self, feature_weight: float, features: set[tuple[str, str]]) -> Tensor:
        """Return the weighted mean negative log-likelihood a node and feature."""
        weights = {key: feature_weight if key in features else 1.0 for key in self.total}
        counted = [key for key in self.total if self.number[key] > 0]
        return sum((weights[k] * self.total[k] / self.number[k] for k in counted), torch.zeros(()))

    def add(self, other: Loss) -> None:
        """Add the (detached) sums of another window."""
        for key, value in other.total.items():
            self.total[key] = self.total.get(key, torch.zeros((), dtype=torch.float64)) + value.detach().double().cpu()
            self.number[key] = self.number.get(key, 0.0) + other.number[key]


def draw_hidden(inputs: Inputs, config: TrainingConfig, generator: np.random.Generator) -> Hidden:
    """Choose which nodes and molecules the model may not see.

    A hidden node loses its counts and keeps its features in three of four cases, so that both the neighbourhood and the
    image learn to stand in for the counts. Where a level has features, every node of every fourth window loses its
    counts: a section that was never sequenced has no sequenced neighbours either.
    """
    hidden = Hidden()
    for key, data in inputs.counts.items():
        unsequenced = generator.random() < UNSEQUENCED_WINDOWS and any(level == key[0] for level, _ in inputs.features)
        share = 1.0 if unsequenced else config.hidden_nodes
        hidden.nodes[key] = hidden_nodes(inputs, key[0], share, generator)
        shown = (generator.random(data.counts.shape[1]) >= config.hidden_molecules).astype(np.float32)
        hidden.shown[key] = torch.from_numpy(shown if 0 < shown.sum() < len(shown) else np.ones_like(shown)).to(
            inputs.device
        )
    for key in inputs.features:
        hidden.nodes[key] = hidden_nodes(inputs, key[0], 0.25, generator)
    return hidden


def likelihood(model: TissueModel, inputs: Inputs, state: State, hidden: Hidden, counted: dict[str, Tensor]) -> Loss:
    """Return the negative log-likelihood of what was hidden, for the nodes in `counted` (node,), 1 or 0, by level.

    Counts: hidden molecules of every node, given the others; of a hidden node nothing but its context was seen.
    Features: nodes whose features were hidden.
    """
    loss = Loss()
    for key, measured in inputs.counts.items():
        level = key[0]
        weight = counted[level] * measured.mask
        shown = hidden.shown[key]
        molecule = 1 - shown if shown.min() < 1 else shown
        section = inputs.section[level]
        operator = model.count_operator(*key)
        loss.total[key] = operator.nll(
            state.z[level], measured.section_offset, section, measured.counts, weight, molecule
        )
        loss.number[key] = float(weight.sum() * molecule.sum())
    for key, data in inputs.features.items():
        level, features = key[0], model.feature_operator(*key)
        weight = counted[level] * data.mask * hidden.nodes[key]
        standard = features.standardise(data.features, data.section_mean, data.section_spread, inputs.section[level])
        loss.total[key] = features.nll(state.z[level], standard, weight)
        loss.number[key] = float(weight.sum() * standard.shape[1])
    return loss
