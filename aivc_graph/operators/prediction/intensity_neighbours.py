"""Intensities of a cell that was not imaged, straight from those of its neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.panels import observed, panel
from aivc_graph.graph.terms import depth_of
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.expected_terms import amounts_of
from aivc_graph.operators.intensities import IntensityInput
from aivc_graph.operators.part import KINDS, Shape
from aivc_graph.operators.prediction.kernel_mean import AbstractKernelMean, NeighbourPlan, levels_with_neighbours
from aivc_graph.operators.prediction.neighbour_fit import Seen, levelled
from aivc_graph.operators.quantile_law import QuantileLaw


@KINDS["prediction"].register("intensity_neighbours")
class IntensityNeighbourPrediction(AbstractKernelMean):
    r"""Mix what is said of a node otherwise with the mean arcsinh of its visible neighbours.

    See `AbstractKernelMean`, with :math:`v = \operatorname{arcsinh}(y / c)`. What is measured scatters around it by the
    law of training nodes of which as much was expected.
    """

    def __init__(self, plan: NeighbourPlan) -> None:
        super().__init__(plan)
        self.law = QuantileLaw(plan.n_molecules)

    @classmethod
    def serves(cls, graph: TissueGraph, shape: Shape) -> list[NeighbourPlan]:
        """Return a plan for the intensities of each level whose nodes have neighbours."""
        near = levels_with_neighbours(graph)
        return [
            NeighbourPlan(
                level=level, modality=m, n_molecules=len(panel(graph, level, m)),
                n_rings=len(shape.rings), depth=depth_of(graph, level, m),
            )
            for level, m in observed(graph)
            if level in near and m == names.INTENSITY
        ]  # fmt: skip

    def values(self, data: IntensityInput) -> Tensor:
        """Return the arcsinh of intensities; a marker that was not measured is the mean of its section."""
        return data.terms(data.standard)

    def there(self, data: IntensityInput) -> Tensor:
        """Return all markers."""
        return torch.ones(1, self.plan.n_molecules, dtype=torch.bool, device=data.mask.device)

    def shares(self, expected: Tensor) -> Tensor:
        """Return the intensities (node, marker), in the file's units, that go with an expected arcsinh."""
        return amounts_of(expected, self.plan.depth)

    def fit_law(self, seen: list[Seen], trained: Seen, measurement: Any) -> None:
        """Fit the law of what is measured where so much is expected, and keep normal scores of how nodes depart."""
        said = np.concatenate([levelled(self, part).double().cpu().numpy() for part in seen])
        self.law.fit(said, np.concatenate([part.measured for part in seen]).astype(float))
        rows = self.residuals.kept(len(trained.measured))
        told = levelled(self, trained, rows).double().cpu().numpy()
        score = self.law.scores(trained.measured[rows].astype(float), told, np.random.default_rng(1))
        self.residuals.fit(told @ measurement.loading.detach().double().cpu().numpy(), score)
