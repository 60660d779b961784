"""The contract of a term of the objective, what it looks at and what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.state import Hidden, Inputs, State
from aivc_graph.registry import Registry

if TYPE_CHECKING:
    from aivc_graph.training.settings import TrainingConfig


@dataclass
class Loss:
    """Sum, number of summands and weight by what they are of, such as (level, modality); so windows add up."""

    total: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    number: dict[tuple[str, str], float] = field(default_factory=dict)
    weight: dict[tuple[str, str], float] = field(default_factory=dict)

    def mean(self) -> Tensor:
        """Return the weighted sum of the means."""
        counted = [key for key in self.total if self.number[key] > 0]
        return sum((self.weight[k] * self.total[k] / self.number[k] for k in counted), torch.zeros(()))

    def add(self, other: Loss) -> None:
        """Add the (detached) sums of another window."""
        self.weight |= other.weight
        for key, value in other.total.items():
            self.total[key] = self.total.get(key, torch.zeros((), dtype=torch.float64)) + value.detach().double().cpu()
            self.number[key] = self.number.get(key, 0.0) + other.number[key]

    @property
    def measured(self) -> bool:
        """Whether there is anything to take a mean of."""
        return any(self.number.values())


@dataclass(frozen=True)
class Pass:
    """One window and what the model made of it.

    Parameters
    ----------
    model, inputs, state, hidden
        The model, the window, its states given what was not hidden, and what was.
    counted
        Who is learnt from (node,), 1 or 0, by level.
    generator
        Of random choices, on the CPU.
    """

    model: TissueModel
    inputs: Inputs
    state: State
    hidden: Hidden
    counted: dict[str, Tensor]
    generator: torch.Generator


class AbstractTerm(nn.Module, ABC):
    """One term of the objective, made once for the graph that is trained on; it may have parameters of its own.

    Registered with the fact ``draws``: whether it asks for states drawn from what was measured, and not for their mean.
    """

    def __init__(self, graph: TissueGraph, config: TrainingConfig) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def forward(self, one: Pass) -> Loss:
        """Return the term of a window, as sums."""


TERMS: Registry[type[AbstractTerm]] = Registry("term of the objective", "aivc_graph.training.terms")


def prior_variance(model: TissueModel, level: str) -> Tensor:
    """Return the variance of the prior of states at a level (latent,)."""
    first = model.state_maker(level)
    return torch.ones(model.latent) if first is None else first.variance
