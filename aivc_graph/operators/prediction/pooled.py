"""Expression of a parent from the pooled counts of the children beneath it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.panels import measured_molecules, panel_columns
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.operators.part import KINDS, Device, Shape
from aivc_graph.operators.prediction.shared_counts import AbstractShared, Sayings, SharedCountsPlan
from aivc_graph.operators.state import Expected, Inputs, State


@dataclass(frozen=True)
class PoolInput:
    """Counts of children summed by overlap (parent, molecule), and who has any (parent,)."""

    pooled: Tensor
    covered: Tensor


@dataclass(frozen=True)
class PoolTerms:
    """What is said of parents, and what was counted beneath them, by their platform; who is `borne_out` (parent, 1)."""

    sayings: Sayings
    counts: Tensor
    borne_out: Tensor


@KINDS["prediction"].register("pooled")
class PooledPrediction(AbstractShared):
    r"""Tell a parent that was not counted by the counts of the children beneath it; see `AbstractShared`.

    These are pooled by overlap, each molecule divided by :math:`\kappa_g`, how much better the children's platform
    catches it. Molecules that children do not share keep what the state says.

    Shapes
    ------
    said, pooled, out
        (parent, molecule)

    References
    ----------
    Kleshchevnikov et al. 2022, doi:10.1038/s41587-021-01139-4 (spots as sums of cells).
    """

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

    def speaks(self, state: State, inputs: Inputs, *, fitted: bool = True) -> Tensor:
        """Return the parents that were not counted over children that were."""
        data: PoolInput = inputs["prediction", *self.slot]
        heard = not fitted or bool((self.count_share > 0) | self.scatter.isfinite().any())
        return (state.counted[self.plan.parent] == 0) & (data.covered > 0) & heard

    def terms(self, told: Expected, state: State, inputs: Inputs, here: Tensor) -> PoolTerms:
        """Return what is said of parents and what was counted beneath them."""
        data: PoolInput = inputs["prediction", *self.slot]
        sayings = Sayings.of(told.shares[:, list(self.columns)], self.profile)
        counts = data.pooled / self.log_capture.exp()
        borne_out = self.borne_out(sayings, counts, here, inputs)
        return PoolTerms(sayings, counts, borne_out[inputs.section[self.plan.parent]][:, None])

    def rates(self, terms: PoolTerms) -> Tensor:
        """Return what is expected of parents given the counts beneath them (parent, molecule)."""
        said, weight = self.way_of(terms.borne_out)
        base = terms.sayings.alike + said * terms.sayings.said
        return base.sum(dim=1, keepdim=True) * self.rate(base, terms.counts, weight)
