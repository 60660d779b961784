"""The contract of a term of the objective, what it looks at and what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.product import SparseOperator
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


@dataclass(frozen=True)
class Anchored:
    """Two levels of a window that were both measured, with what leads from one to the other.

    `child`, `parent` (node, latent), what their own measurements tell, hidden ones too: it is lift and project that
    learn to agree with them, never they that give way. `rows` (parent,), 1 for those that are learnt from and were
    measured, as were all of their children.
    """

    lift: Any
    project: Any
    up: SparseOperator
    down: SparseOperator
    child: Tensor
    parent: Tensor
    rows: Tensor

    @property
    def key(self) -> tuple[str, str]:
        """What losses are told by: the parent, and which of its children."""
        return (self.lift.plan.parent, f"{self.lift.plan.child} within")


def anchored(one: Pass) -> Iterator[Anchored]:
    """Yield the pairs of levels of a window that were both measured."""
    with torch.no_grad():
        own = one.model.encode(one.inputs, Hidden())
    for lift in one.model.parts_of("lift"):
        child, parent = lift.slot
        makers = [one.model.state_maker(level) for level in lift.slot]
        if None in makers:
            continue
        of_child, of_parent = (own.seen[part.key] for part in makers)
        overlaps = one.inputs["relation", *lift.relation]
        whole = (overlaps.up @ of_child[:, None]).ravel() > 0.99
        rows = one.counted.get(parent, torch.zeros_like(of_parent)) * of_parent * whole
        project = one.model.part("project", child, parent)
        yield Anchored(lift, project, overlaps.up, overlaps.down, own.z[child], own.z[parent], rows)


TERMS: Registry[type[AbstractTerm]] = Registry("term of the objective", "aivc_graph.training.terms")


def prior_variance(model: TissueModel, level: str) -> Tensor:
    """Return the variance of the prior of states at a level (latent,)."""
    first = model.state_maker(level)
    return torch.ones(model.latent) if first is None else first.variance
