"""The contract of measurement operators: from an observation to the state, and back to its distribution."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.panels import observed, panel
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.measurement.distribution import AbstractDistribution
from aivc_graph.operators.part import KINDS, AbstractPart, Shape
from aivc_graph.settings import Settings

COUNTS, FEATURES = "negative_binomial", "gaussian"


class MeasurementPlan(Settings):
    """What is measured: `names` are those of molecules or features; `depth` [counts] that counts are scaled to.

    `first` says whether the level's state is made of it, see `AbstractMeasurement.makes_state`.
    """

    level: str
    modality: str
    names: tuple[str, ...]
    latent: int
    depth: float = 1.0
    first: bool = False
    options: dict[str, Any] = Field(default_factory=dict)


class AbstractMeasurement(AbstractPart):
    """Encode an observation into the state, and say what the state expects of it.

    A member serves the modalities of its fact ``modalities``, and by default all counts or all dense features are
    served by ``negative_binomial`` and ``gaussian``; a configuration may choose another by modality.
    """

    kind: ClassVar[str] = "measurement"
    Plan = MeasurementPlan
    plan: MeasurementPlan
    # Whether single features are hidden and predicted from the others, as well as whole nodes.
    hides_features: ClassVar[bool] = False
    # Its place among what the state of a level may be made of, least first; of None no state is made.
    makes_state: ClassVar[int | None] = None
    log_precision: Tensor

    def __init__(self, plan: MeasurementPlan) -> None:
        super().__init__(plan)
        self.hold("log_precision", torch.zeros(plan.latent))

    @classmethod
    def serves(cls, graph: TissueGraph, shape: Shape) -> list[MeasurementPlan]:
        """Return a plan for each observation that this member was chosen for."""
        return [plan_of(graph, *key, shape) for key in observed(graph) if shape.picks(cls, usual(key[1]), key[1])]

    @property
    def slot(self) -> tuple[str, ...]:
        """Level and modality."""
        return (self.plan.level, self.plan.modality)

    @property
    def key(self) -> tuple[str, str]:
        """Level and modality."""
        return (self.plan.level, self.plan.modality)

    @property
    def measures(self) -> bool:
        """Whether a node that it saw was measured; what makes no state and hides no feature is a look alone."""
        return self.plan.first or self.hides_features

    def begin(self, graph: TissueGraph) -> None:
        """Take over what the graph knows of its training nodes before anything is fitted; nothing by default."""

    @abstractmethod
    def encode(self, data: Any, shown: Tensor | None = None) -> Tensor:
        """Return what the observation alone says of each node (node, latent); hidden features by `shown` (feature,)."""

    def precision(self, data: Any, shown: Tensor | None = None) -> Tensor:
        """Return how surely `encode` tells the state (latent,), or of each node (node, latent)."""
        return self.log_precision.exp()

    def parted(
        self, data: Any, training: Tensor, share: float, generator: np.random.Generator
    ) -> tuple[Tensor, Tensor] | None:
        """Return what two independent parts of the observation say of each node, both (node, latent).

        The first holds about a `share` of what was measured of `training` nodes (node,), the second the rest. None
        where an observation has no parts.
        """
        return None

    @abstractmethod
    def observation(self, data: Any) -> Tensor:
        """Return what its distribution is of (node, feature)."""

    @abstractmethod
    def likelihood(self, z: Tensor, data: Any) -> AbstractDistribution:
        """Return the distribution of the observation, given the state (node, latent)."""


def usual(modality: str) -> str:
    """Return the member that serves a modality where the configuration names none."""
    registry = KINDS["measurement"]
    own = [name for name in registry if modality in cast(tuple[str, ...], registry.facts[name].get("modalities", ()))]
    return own[0] if own else COUNTS if modality in names.MOLECULE_OF else FEATURES


def state_maker(graph: TissueGraph, level: str, shape: Shape) -> str | None:
    """Return the modality that the state of a level is made of: RNA before other counts, counts before what follows.

    None where the level has features alone, or nothing.
    """
    order = list(names.MOLECULE_OF)
    ranked = [
        (rank, order.index(one) if one in order else len(order), one)
        for one in graph.modalities(level)
        if (rank := shape.member("measurement", usual(one), one).makes_state) is not None
    ]
    return min(ranked)[-1] if ranked else None


def plan_of(graph: TissueGraph, level: str, modality: str, shape: Shape) -> MeasurementPlan:
    """Return what is measured by `modality` at `level`."""
    return MeasurementPlan(
        level=level,
        modality=modality,
        names=panel(graph, level, modality),
        latent=shape.latent,
        depth=float(graph[level].get(f"{modality}_depth", 1.0)),
        first=state_maker(graph, level, shape) == modality,
        options=shape.options("measurement", modality),
    )
