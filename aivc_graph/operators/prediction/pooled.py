"""Expression of a parent from the pooled counts of the children beneath it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.panels import measured_molecules, panel_columns
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.operators.counts import log_shares
from aivc_graph.operators.part import ANSWERS, KINDS, Device, Fitting, Shape
from aivc_graph.operators.prediction import direct_fit
from aivc_graph.operators.prediction.direct import AbstractDirect
from aivc_graph.operators.prediction.scatter import judge, set_scatter
from aivc_graph.operators.prediction.shared_counts import SharedCountsPlan
from aivc_graph.operators.state import Inputs


@dataclass(frozen=True)
class PoolInput:
    """Counts of children summed by overlap (parent, molecule), and who has any (parent,)."""

    pooled: Tensor
    covered: Tensor


@KINDS["prediction"].register("pooled")
class PooledPrediction(AbstractDirect):
    """Mix what the state says with the pooled counts of the children beneath; see `AbstractDirect`.

    ``scatter`` is the variance of a parent's rate about what is told of it, over its square.
    """

    Plan = SharedCountsPlan
    plan: SharedCountsPlan
    rank: ClassVar[int] = 1
    stages: ClassVar[Mapping[str, str]] = {ANSWERS: "fit"}
    scatter: Tensor

    def __init__(self, plan: SharedCountsPlan) -> None:
        super().__init__(plan)
        self.start(len(plan.of_parent), plan.depth)
        self.hold("scatter", torch.full((len(plan.of_parent),), torch.inf))

    @classmethod
    def serves(cls, graph: TissueGraph, shape: Shape) -> list[SharedCountsPlan]:
        """Return a plan for each pair of levels and modality with molecules in common."""
        return SharedCountsPlan.of(graph, of_child=False)

    @property
    def slot(self) -> tuple[str, ...]:
        """Child, parent and modality."""
        return (self.plan.child, self.plan.parent, self.plan.modality)

    @property
    def target(self) -> tuple[str, str]:
        """The parent's counts."""
        return (self.plan.parent, self.plan.modality)

    @property
    def columns(self) -> tuple[int, ...]:
        """The molecules that both levels measured."""
        return self.plan.of_parent

    def prepare(self, graph: TissueGraph, device: Device) -> PoolInput:
        """Return the pooled counts of a window."""
        child, parent, modality = self.slot
        columns = panel_columns(graph, child, modality).numpy()[list(self.plan.of_child)]
        overlap = to_scipy_csr(graph[child, names.WITHIN, parent].adj_t)
        pooled = (overlap @ to_scipy_csr(graph.counts(child, modality))[:, columns]).toarray()
        # Cells of which a gene was not measured do not sum to their spot.
        whole = measured_molecules(graph, child, modality)[:, columns].all(dim=1)[graph[parent].section_index]
        covered = torch.from_numpy((pooled.sum(axis=1) > 0).astype(np.float32)) * whole
        return PoolInput(torch.from_numpy(pooled.astype(np.float32)).to(device), covered.to(device))

    def look(self, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
        """Return log shares of the pooled counts, the columns they reach, and who has cells."""
        data: PoolInput = inputs["prediction", *self.slot]
        columns = torch.tensor(self.plan.of_parent, device=inputs.device)
        return log_shares(data.pooled, self.depth), columns, data.covered

    def fit(self, fitting: Fitting) -> None:
        """Fit the shares of state and cells and the scatter on held-out nodes, the level of each molecule on all."""
        direct_fit.set_shares(self, direct_fit.seen(self, fitting, fitting.held_out), state=True)
        direct_fit.set_offset(self, direct_fit.seen(self, fitting, fitting.everyone))
        set_scatter(self, [judge(self, fitting, fold) for fold in fitting.held_out])
