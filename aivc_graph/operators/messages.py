"""The contract of messages between a level and the next one above it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from aivc_graph import names
from aivc_graph.graph.panels import withins
from aivc_graph.graph.tissue_graph import Relation, TissueGraph
from aivc_graph.operators.part import AbstractPart, Fitting, Shape
from aivc_graph.operators.state import Hidden
from aivc_graph.settings import Settings

Floats = NDArray[np.floating[Any]]


class PairPlan(Settings):
    """A level, the next one above it, and the size of the state."""

    child: str
    parent: str
    latent: int
    options: dict[str, Any] = Field(default_factory=dict)


class AbstractVertical(AbstractPart):
    """Messages between children and parents."""

    Plan = PairPlan
    plan: PairPlan

    @property
    def slot(self) -> tuple[str, ...]:
        """Child and parent."""
        return (self.plan.child, self.plan.parent)

    @property
    def relation(self) -> Relation:
        """The relation that its messages travel along."""
        return (self.plan.child, names.WITHIN, self.plan.parent)


def pair_plans(graph: TissueGraph, shape: Shape, kind: str) -> list[PairPlan]:
    """Return a plan for each pair of levels of `graph`, finest first."""
    given = {"latent": shape.latent, "options": shape.options(kind)}
    return [PairPlan(child=child, parent=parent, **given) for child, parent in withins(graph)]


def measured_pairs(
    part: AbstractVertical, fitting: Fitting, lift: Any = None
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Return own state and pooled states of the children (parent, latent) of training parents, and their sections.

    Of parents that were measured, as were all of their children; given a `lift`, what it says of them is their state.
    """
    child, parent = part.slot
    own, pooled, group = [], [], []
    for fold in fitting.training:
        state = fitting.model.encode(fold.inputs, Hidden())
        overlap = fold.inputs["relation", *part.relation].up
        both = fold.rows[parent] * state.own[parent] * ((overlap @ state.own[child][:, None]).ravel() > 0.99)
        rows = torch.nonzero(both).ravel()
        pooled.append((overlap @ state.z[child])[rows].cpu().numpy())
        told = state.z[parent] if lift is None else lift.alone(state.z[child], overlap).detach()
        own.append(told[rows].cpu().numpy())
        group.append(fold.inputs.section[parent][rows].cpu().numpy())
    return np.concatenate(own), np.concatenate(pooled), np.concatenate(group)
