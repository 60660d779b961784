"""The contract of measurement operators: from an observation to the state, and back to its distribution."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, cast

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

    `first` says whether the level's state is made of it: of counts before features, of RNA before other counts; of
    types where nothing else was measured.
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
    log_precision: Tensor

    def __init__(self, plan: MeasurementPlan) -> None:
        super().__init__(plan)
        self.hold("log_precision", torch.zeros(plan.latent))

    @classmethod
    def serves(cls, graph: TissueGraph, shape: Shape) -> list[MeasurementPlan]:
        """Return a plan for each observation that this member was chosen for."""
        return [
            plan_of(graph, *key, shape.latent, shape.options(cls.kind, key[1]))
            for key in observed(graph)
            if shape.picks(cls, usual(key[1]), key[1])
        ]

    @property
    def slot(self) -> tuple[str, ...]:
        """Level and modality."""
        return (self.plan.level, self.plan.modality)

    @property
    def key(self) -> tuple[str, str]:
        """Level and modality."""
        return (self.plan.level, self.plan.modality)

    @property
    def seen(self) -> bool:
        """Whether it takes part in the state; otherwise it is only told by it."""
        return True

    @property
    def width(self) -> int:
        """Number of values that its likelihood is of, a node."""
        return len(self.plan.names)

    @property
    def counts(self) -> bool:
        """Whether it measures counts of molecules."""
        return self.plan.modality in names.MOLECULE_OF

    def begin(self, graph: TissueGraph) -> None:
        """Take over what the graph knows of its training nodes before anything is fitted; nothing by default."""

    @abstractmethod
    def encode(self, data: Any, shown: Tensor | None = None) -> Tensor:
        """Return what the observation alone says of each node (node, latent); hidden features by `shown` (feature,)."""

    def precision(self, data: Any, shown: Tensor | None = None) -> Tensor:
        """Return how surely `encode` tells the state (latent,), or of each node (node, latent)."""
        return self.log_precision.exp()

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


def plan_of(graph: TissueGraph, level: str, modality: str, latent: int, options: dict[str, Any]) -> MeasurementPlan:
    """Return what is measured by `modality` at `level`."""
    counted = [m for m in names.MOLECULE_OF if m in graph.modalities(level)]
    return MeasurementPlan(
        level=level,
        modality=modality,
        names=panel(graph, level, modality),
        latent=latent,
        depth=float(graph[level].get(f"{modality}_depth", 1.0)),
        first=counted[:1] == [modality],
        options=options,
    )
