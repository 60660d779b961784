"""Expression of a node from its image features, by ridge and what donors left out bear out beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.panels import observed, panel
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.feature_map import FeatureMap, learned_from, own_and_around
from aivc_graph.operators.part import ANSWERS, KINDS, Fitting, Shape
from aivc_graph.operators.prediction import direct_fit
from aivc_graph.operators.prediction.direct import AbstractDirect
from aivc_graph.operators.state import Inputs
from aivc_graph.settings import Settings

# Donors never trained on whose tiles must be held out for the state to have a say beside ridge.
LEAST_DONORS = 2


class TilePlan(Settings):
    """A level with features and counts, how many there are of each, and of nodes with both that are learned from."""

    level: str
    features: str
    modality: str
    n_features: int
    n_molecules: int
    n_nodes: int
    depth: float


@KINDS["prediction"].register("tile")
class TilePrediction(AbstractDirect):
    """Mix what the state says with what features say of expression, ridge at first; see `AbstractDirect`, `FeatureMap`.

    Tiles speak for sections that nobody sequenced: how far they are trusted is fitted there, so a node with counted
    neighbours is told by its state and by them.
    """

    Plan = TilePlan
    plan: TilePlan
    yields: ClassVar[bool] = True
    stages: ClassVar[Mapping[str, str]] = {ANSWERS: "fit"}

    def __init__(self, plan: TilePlan) -> None:
        super().__init__(plan)
        self.start(plan.n_molecules, plan.depth)
        self.map = FeatureMap(plan.n_features, plan.n_nodes, plan.n_molecules)

    @classmethod
    def serves(cls, graph: TissueGraph, shape: Shape) -> list[TilePlan]:
        """Return a plan for each dense modality beside each modality of counts."""
        keys = observed(graph)
        return [
            TilePlan(
                level=level, features=f, modality=m, n_features=len(panel(graph, level, f)),
                n_molecules=len(panel(graph, level, m)), depth=float(graph[level][f"{m}_depth"]),
                n_nodes=learned_from(graph, level, f, m),
            )
            for level, f in keys
            if f not in names.PANELS
            for other, m in keys
            if other == level and m in names.MOLECULE_OF
        ]  # fmt: skip

    @property
    def slot(self) -> tuple[str, ...]:
        """Level, features and counts."""
        return (self.plan.level, self.plan.features, self.plan.modality)

    @property
    def target(self) -> tuple[str, str]:
        """The counts."""
        return (self.plan.level, self.plan.modality)

    def look(self, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the features say of each molecule, the columns it reaches, and who has features."""
        x, mask = own_and_around(inputs, self.plan.level, [self.plan.features])
        return self.map(x), torch.arange(self.plan.n_molecules, device=inputs.device), mask

    def fit(self, fitting: Fitting) -> None:
        """Fit the map on training nodes, the shares on held-out ones, then map and level on all.

        What a tile's state adds to ridge is let in only if tiles of two donors never trained on were held out: within a
        donor it always looks well, one donor more is one scanner and one stain, and neither need travel.
        """
        direct_fit.fit_map(self, fitting, fitting.training)
        seen = direct_fit.seen(self, fitting, fitting.held_out)
        travels = seen is not None and len(set(fitting.new_donor[seen.section]) - {-1}) >= LEAST_DONORS
        direct_fit.set_shares(self, seen, state=travels)
        direct_fit.fit_map(self, fitting, fitting.everyone)
        level = direct_fit.mean_measured(fitting.everyone, self.target, self.depth)
        direct_fit.set_offset(self, direct_fit.seen(self, fitting, fitting.everyone), level)
