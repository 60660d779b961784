"""Expression of a node from its image features, by ridge and what donors left out bear out beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.panels import observed, panel
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.counts import log_shares
from aivc_graph.operators.feature_map import FeatureMap, learned_from, own_and_around
from aivc_graph.operators.part import ANSWERS, KINDS, Fitting, Shape
from aivc_graph.operators.prediction import tile_fit
from aivc_graph.operators.prediction.prediction import AbstractPrediction, replaced
from aivc_graph.operators.state import Expected, Inputs, State
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
class TilePrediction(AbstractPrediction):
    r"""Mix what the state says of expression with what features say of it, ridge at first; see `FeatureMap`.

    In :math:`v = \log(1 + c\,\rho)` with :math:`\rho` shares of molecules and c the level's usual depth,

    .. math:: v_{pg} = o_g + a\,v^{\mathrm{state}}_{pg} + b\,v^{\mathrm{features}}_{pg}

    With a = 1, b = o = 0, the start, it is what the state says; with a = 0 and b = 1 it is the baseline, ridge from
    image to expression. Tiles speak for sections that nobody sequenced: how far they are trusted is fitted there, so a
    node with counted neighbours is told by its state and by them.
    """

    Plan = TilePlan
    plan: TilePlan
    yields: ClassVar[bool] = True
    stages: ClassVar[Mapping[str, str]] = {ANSWERS: "fit"}
    offset: Tensor
    state_share: Tensor
    direct_share: Tensor

    def __init__(self, plan: TilePlan) -> None:
        super().__init__(plan)
        self.depth = plan.depth
        self.hold("offset", torch.zeros(plan.n_molecules))
        self.hold("state_share", torch.ones(()))
        self.hold("direct_share", torch.zeros(()))
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

    def look(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Return what features say (node, molecule), as log1p of scaled shares, and who has any (node,)."""
        x, mask = own_and_around(inputs, self.plan.level, [self.plan.features])
        return self.map(x), mask

    def speaks(self, state: State, inputs: Inputs, *, fitted: bool = True) -> Tensor:
        """Return the nodes that were not counted but have features."""
        return (state.counted[self.target[0]] == 0) & (self.look(inputs)[1] > 0)

    def tell(self, told: Expected, state: State, inputs: Inputs, here: Tensor) -> Expected:
        """Return what is expected, mixed with what features say where there are any."""
        return replaced(told, here, self(told.shares, self.look(inputs)[0]), self.depth)

    def forward(self, decoded: Tensor, direct: Tensor) -> Tensor:
        """Return shares of all molecules (node, molecule).

        Rows sum to one only about: bringing each to one would spread the error of its few largest over all others.
        """
        mixed = self.offset + self.state_share * log_shares(decoded, self.depth) + self.direct_share * direct
        return torch.expm1(mixed.clamp(1e-6, 20.0)) / self.depth

    def fit(self, fitting: Fitting) -> None:
        """Fit the map on training nodes, the shares on held-out ones, then map and level on all.

        What a tile's state adds to ridge is let in only if tiles of two donors never trained on were held out: within a
        donor it always looks well, one donor more is one scanner and one stain, and neither need travel.
        """
        tile_fit.fit_map(self, fitting, fitting.training)
        seen = tile_fit.seen(self, fitting, fitting.held_out)
        travels = seen is not None and len(set(fitting.new_donor[seen.section]) - {-1}) >= LEAST_DONORS
        tile_fit.set_shares(self, seen, state=travels)
        tile_fit.fit_map(self, fitting, fitting.everyone)
        level = tile_fit.mean_measured(fitting.everyone, self.target, self.depth)
        tile_fit.set_offset(self, tile_fit.seen(self, fitting, fitting.everyone), level)
