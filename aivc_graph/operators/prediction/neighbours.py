"""Expression of a node that was not sequenced, straight from the counts of its neighbours."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.tissue_graph import to_scipy_csr
from aivc_graph.operators.counts import CountInput
from aivc_graph.operators.part import KINDS
from aivc_graph.operators.prediction import count_law
from aivc_graph.operators.prediction.kernel_mean import AbstractKernelMean, NeighbourPlan
from aivc_graph.operators.prediction.neighbour_fit import Seen


@KINDS["prediction"].register("neighbours")
class NeighbourPrediction(AbstractKernelMean):
    r"""Mix what is said of a node otherwise with the mean log counts of its visible neighbours.

    See `AbstractKernelMean`, with :math:`v = \log(1 + c\,y/\ell)`. Counts are negative binomial around it as in
    `NegativeBinomialMeasurement`, with a dispersion of their own: less is known of such a node than of one that was
    counted.
    """

    modalities: ClassVar[Collection[str]] = names.MOLECULE_OF
    log_rate: Tensor
    log_dispersion: Tensor

    def __init__(self, plan: NeighbourPlan) -> None:
        super().__init__(plan)
        for name in ("log_rate", "log_dispersion"):
            self.hold(name, torch.zeros(plan.n_molecules))

    def values(self, data: CountInput) -> Tensor:
        """Return log1p of scaled counts."""
        return data.scaled.forward_csr.to_dense()

    def measured(self, data: CountInput, rows: NDArray[np.int64]) -> Tensor:
        """Return log1p of scaled counts of some `rows`, the others of which are never made dense."""
        return torch.from_numpy(to_scipy_csr(data.scaled.forward_csr.cpu())[rows].toarray())

    def reached(self, data: CountInput) -> Tensor:
        """Return who has any count: a node without a single one says nothing."""
        return data.scaled.reached

    def total(self, data: CountInput) -> Tensor:
        """Return all counts of each node (node,), those that the whole panel would have had."""
        starts = data.counts.crow_indices().long()
        return (
            torch.segment_reduce(data.counts.values(), "sum", offsets=starts, initial=0.0) / data.covered[data.section]
        )

    def there(self, data: CountInput) -> Tensor:
        """Return which molecules each node's section measured: of others neighbours know nothing."""
        return data.panels[data.panel_of[data.section]] > 0

    def shares(self, expected: Tensor) -> Tensor:
        """Return the shares of molecules (node, molecule) that go with an expected logarithm; rows sum to about one.

        A mean of logarithms says less than the logarithm of the mean: `log_rate` makes up for it on average.
        """
        return self.log_rate.exp() * torch.expm1(expected.clamp(1e-6, 20.0)) / self.depth

    @property
    def depth(self) -> float:
        """The depth that counts are scaled to."""
        return cast(float, self.plan.depth)

    def fit_law(self, seen: list[Seen], trained: Seen, measurement: Any) -> None:
        """Fit the rate and dispersion of hidden counts, and keep normal scores of how they depart."""
        count_law.set_rate(self, seen)
        count_law.set_dispersion(self, seen, measurement.dispersion().detach().double().cpu().numpy())
        count_law.keep_residuals(self, trained, measurement.loading.detach().double().cpu().numpy())
