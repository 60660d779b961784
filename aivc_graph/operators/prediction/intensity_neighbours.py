"""Intensities of a cell that was not imaged, straight from those of its neighbours."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from aivc_graph import names
from aivc_graph.operators.expected_terms import amounts_of
from aivc_graph.operators.intensities import IntensityInput
from aivc_graph.operators.part import KINDS
from aivc_graph.operators.prediction.kernel_mean import AbstractKernelMean, NeighbourPlan
from aivc_graph.operators.prediction.neighbour_fit import Seen, levelled
from aivc_graph.operators.quantile_law import QuantileLaw


@KINDS["prediction"].register("intensity_neighbours")
class IntensityNeighbourPrediction(AbstractKernelMean):
    r"""Mix what is said of a node otherwise with the mean arcsinh of its visible neighbours.

    See `AbstractKernelMean`, with v the arcsinh standardised within the section. What is measured scatters around it
    by the law of training nodes of which as much was expected.
    """

    modalities: ClassVar[Collection[str]] = (names.INTENSITY,)

    def __init__(self, plan: NeighbourPlan) -> None:
        super().__init__(plan)
        self.law = QuantileLaw(plan.n_molecules)

    def values(self, data: IntensityInput) -> Tensor:
        """Return the standardised arcsinh; a marker that was not measured is the mean of its section."""
        return data.standard

    def within(self, terms: Tensor, data: IntensityInput) -> Tensor:
        """Return arcsinh standardised within the section."""
        return (terms - data.centre[data.section]) / data.spread[data.section]

    def without(self, values: Tensor, data: IntensityInput) -> Tensor:
        """Return the arcsinh that goes with standardised values."""
        return data.terms(values)

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
