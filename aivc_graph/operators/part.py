"""What every part of the model says of itself: what it serves, how its input is made, how it is fitted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from aivc_graph.graph.tissue_graph import Relation, TissueGraph
from aivc_graph.operators.gate import STATE
from aivc_graph.operators.intervention_plan import donor_of_sections
from aivc_graph.operators.state import Expected, Fold, Hidden, Inputs, State
from aivc_graph.registry import Registry
from aivc_graph.settings import Settings

Device = torch.device | str
Fit = Callable[["Fitting"], dict[str, float] | None]
Step = tuple[Relation, bool]

# The stages of a fit in closed form, in order. Gradient training follows the decoders.
ENCODERS, FURTHER_ENCODERS, MESSAGES, DECODERS = "encoders", "further encoders", "messages", "decoders"
ANSWERS, LAST_ANSWERS = "answers", "last answers"
BEFORE_TRAINING = (ENCODERS, FURTHER_ENCODERS, MESSAGES, DECODERS)
AFTER_TRAINING = (ANSWERS, LAST_ANSWERS)


@dataclass(frozen=True)
class Shape:
    """What parts are made after: sizes they share, and by kind which member and options a configuration chose."""

    latent: int
    rings: tuple[int, ...]
    chosen: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def picks(self, member: type[AbstractPart], usual: str, key: str | None = None) -> bool:
        """Say whether the configuration chose `member` for its kind, or for the `key` within; else the usual one."""
        return self.member(member.kind, usual, key) is member

    def member(self, kind: str, usual: str, key: str | None = None) -> Any:
        """Return the member that the configuration chose for a kind, or for the `key` within; else the usual one."""
        return KINDS[kind].get(self._given(kind, key).get("kind", usual))

    def options(self, kind: str, key: str | None = None) -> dict[str, Any]:
        """Return the options given for a kind of part, or for the `key` within."""
        return {name: value for name, value in self._given(kind, key).items() if name != "kind"}

    def _given(self, kind: str, key: str | None) -> Mapping[str, Any]:
        given = self.chosen.get(kind, {})
        return given if key is None else given.get(key, {})


class Model(Protocol):
    """What a fit may ask of the model it is part of, as far as that is fitted already."""

    @property
    def latent(self) -> int:
        """Size of the state."""

    @property
    def steps(self) -> list[Step]:
        """The message-passing steps in order."""

    def __call__(self, inputs: Inputs, hidden: Hidden | None = None, /) -> State:
        """Return the state of every node after messages."""

    def to(self, device: Device, /) -> Any:
        """Move to a device."""

    def encode(self, inputs: Inputs, hidden: Hidden) -> State:
        """Return each node's own state."""

    def prepare(self, graph: TissueGraph, device: Device = "cpu") -> Inputs:
        """Return the inputs of a window."""

    def parts_of(self, kind: str) -> Iterator[Any]:
        """Yield the parts of a kind."""

    def part(self, kind: str, *slot: str) -> Any:
        """Return the part of a kind at a slot."""

    def state_maker(self, level: str) -> Any:
        """Return the measurement that the state of a level is made of, if it has any."""

    def expected(self, state: State, inputs: Inputs, level: str, modality: str, without: Any = None) -> Expected:
        """Return what is expected of the nodes of a level, without one of the predictions."""


@dataclass(frozen=True)
class Fitting:
    """What a fit may look at.

    Parameters
    ----------
    model
        The model, as far as it is fitted.
    training, held_out
        Windows, and who of them is fitted on, or judged by; one and the same where nothing is held out.
    generator, seed
        Of random choices.
    source, window_nodes
        The graph, or its store, and how many nodes a window of it has.
    new_donor
        Code of the donor of each section, -1 for one that was trained on (section,).
    """

    model: Model
    training: list[Fold]
    held_out: list[Fold]
    generator: np.random.Generator
    seed: int
    source: Any
    window_nodes: int
    new_donor: np.ndarray

    @property
    def everyone(self) -> list[Fold]:
        """Training and held-out windows."""
        return self.training if self.held_out is self.training else [*self.training, *self.held_out]

    @property
    def donor(self) -> np.ndarray:
        """Code of the donor of each section, of the section itself where none is named (section,)."""
        return np.unique(donor_of_sections(self.source.structure), return_inverse=True)[1].reshape(-1).astype(np.int64)


class AbstractPart(nn.Module, ABC):
    """A module that serves one slot of a graph, prepares its own input and owns its fit.

    What learns by gradient is a parameter; what is fitted in closed form is a buffer. ``plan`` holds the facts of the
    graph that it was made for, and is written beside the weights.

    A member is registered with its kind; `serves` says where in a graph it is needed, so that a graph with a new
    modality or relation gets its part without an edit elsewhere.
    """

    kind: ClassVar[str]
    Plan: ClassVar[type[Settings]]
    # What a configuration may set beside ``kind``; given to the part as ``plan.options``.
    Options: ClassVar[type[Settings]] = Settings
    # Its place among the parts of its kind, and what its answers are asked for, as far as it gives any.
    rank: ClassVar[int] = 0
    question: ClassVar[str] = STATE
    # Stages of the closed form and the method that does each, by its name.
    stages: ClassVar[Mapping[str, str]] = {}

    def __init__(self, plan: Any) -> None:
        super().__init__()
        self.plan = plan

    @classmethod
    @abstractmethod
    def serves(cls, graph: TissueGraph, shape: Shape) -> list[Any]:
        """Return a plan for each slot of `graph` that this member serves."""

    @property
    @abstractmethod
    def slot(self) -> tuple[str, ...]:
        """Where it stands, such as ``("cell", "rna")``."""

    @property
    def name(self) -> str:
        """The slot as one word."""
        return "_".join(self.slot)

    def prepare(self, graph: TissueGraph, device: Device) -> Any:
        """Return what the part reads of a window of the graph; nothing by default."""
        return None

    def fits(self, stage: str) -> Fit | None:
        """Return what is to be done in a stage of the closed form, if anything."""
        method = self.stages.get(stage)
        return None if method is None else getattr(self, method)

    def steps(self) -> list[Step]:
        """Return the relations messages travel along, as (relation, reverse), for the halo of a window."""
        return []

    def hold(self, name: str, start: Tensor) -> None:
        """Keep what is fitted in closed form and never by gradient."""
        self.register_buffer(name, start)


# Kind of part → its members, in the order in which a model is put together.
KINDS: dict[str, Registry[Any]] = {
    kind: Registry(kind, f"aivc_graph.operators.{kind}")
    for kind in (
        "relation",
        "measurement",
        "lateral",
        "lift",
        "project",
        "prediction",
        "composition",
        "propagator",
        "intervention",
    )
}
