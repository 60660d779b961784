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

LEAST_SCALE = 1e-3


@KINDS["prediction"].register("intensity_neighbours")
class IntensityNeighbourPrediction(AbstractKernelMean):
    r"""Mix what is said of a node otherwise with the mean arcsinh of its visible neighbours.

    See `AbstractKernelMean`, with :math:`v = \operatorname{arcsinh}(y / c)`. What is measured departs from it by scores
    times a scale of their own: less is known of such a node than of one that was measured.
    """

    log_scale: Tensor

    def __init__(self, plan: NeighbourPlan) -> None:
        super().__init__(plan)
        self.hold("log_scale", torch.zeros(plan.n_molecules))

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
        """Fit the scale of what is left, and keep how nodes depart in units of it."""
        left = np.concatenate([part.measured - levelled(self, part).cpu().numpy() for part in seen])
        scale = np.maximum(np.sqrt((left.astype(float) ** 2).mean(axis=0)), LEAST_SCALE)
        self.log_scale.copy_(torch.from_numpy(np.log(scale)).float())
        rows = self.residuals.kept(len(trained.measured))
        told = levelled(self, trained, rows).cpu().numpy()
        place = told @ measurement.loading.detach().cpu().numpy()
        self.residuals.fit(place, (trained.measured[rows] - told) / scale)
