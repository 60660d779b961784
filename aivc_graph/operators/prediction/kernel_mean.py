"""What is expected of a node that was not measured, straight from what was measured of its neighbours."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.panels import observed, panel, same_level
from aivc_graph.graph.terms import Depth, depth_of
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.part import LAST_ANSWERS, Fitting, Shape
from aivc_graph.operators.prediction import neighbour_fit
from aivc_graph.operators.prediction.prediction import AbstractPrediction
from aivc_graph.operators.product import SparseOperator
from aivc_graph.operators.residual_scores import ResidualScores
from aivc_graph.operators.state import Expected, Inputs, State
from aivc_graph.settings import Settings


class NeighbourPlan(Settings):
    """A level with neighbours, `n_rings` of them, and a modality counted to a usual `depth`, or with cofactors."""

    level: str
    modality: str
    n_molecules: int
    n_rings: int
    depth: Depth


class AbstractKernelMean(AbstractPrediction):
    r"""Mix what is said of a node otherwise with the mean of its visible neighbours, molecule by molecule.

    The state knows neighbours by a few components alone; what one molecule does beside these only its own values tell.
    With v in the terms of the modality, and weight :math:`w_r` for each visible neighbour u in ring r,

    .. math::

        \bar v_{pg} = \frac{\sum_r w_r \sum_{u \in r(p)} v_{ug}}{\sum_r w_r n_r(p)}, \qquad
        v_{pg} = o_g + f_g\,(a\,v^{\mathrm{said}}_{pg} + b\,\bar v_{pg})

    With a = f = 1, b = o = 0, the start, it is what was said already. With a = 0, b = 1 it is the mean of neighbours:
    those of the first ring for w = (1, 0, …), all of them for w = (1, 1, …). Invariant to the order of nodes and to
    moving and rotating the section. How molecules depart from it together is kept of training nodes.

    Shapes
    ------
    said, mean
        (node, molecule), in the terms of the modality

    References
    ----------
    Fan & Gijbels 1996, Local Polynomial Modelling and Its Applications (the kernel mean is the local constant fit).
    """

    Plan = NeighbourPlan
    plan: NeighbourPlan
    rank: ClassVar[int] = 2
    looks_around: ClassVar[bool] = True
    # The modalities it is for.
    modalities: ClassVar[Collection[str]]
    stages: ClassVar[Mapping[str, str]] = {LAST_ANSWERS: "fit"}
    ring_weight: Tensor
    said_share: Tensor
    neighbour_share: Tensor
    factor: Tensor
    offset: Tensor

    def __init__(self, plan: NeighbourPlan) -> None:
        super().__init__(plan)
        self.hold("ring_weight", torch.ones(plan.n_rings))
        self.hold("said_share", torch.ones(()))
        self.hold("neighbour_share", torch.zeros(()))
        self.hold("factor", torch.ones(plan.n_molecules))
        self.hold("offset", torch.zeros(plan.n_molecules))
        self.residuals = ResidualScores(plan.n_molecules)

    @classmethod
    def serves(cls, graph: TissueGraph, shape: Shape) -> list[NeighbourPlan]:
        """Return a plan for each modality that it tells of a level whose nodes have neighbours."""
        near = {relation[0] for relation in same_level(graph) if relation[1] == names.NEAR}
        return [
            NeighbourPlan(
                level=level, modality=m, n_molecules=len(panel(graph, level, m)),
                n_rings=len(shape.rings), depth=depth_of(graph, level, m),
            )
            for level, m in observed(graph)
            if level in near and m in cls.modalities
        ]  # fmt: skip

    @property
    def slot(self) -> tuple[str, ...]:
        """Level and modality."""
        return (self.plan.level, self.plan.modality)

    @property
    def target(self) -> tuple[str, str]:
        """Level and modality."""
        return (self.plan.level, self.plan.modality)

    @abstractmethod
    def values(self, data: Any) -> Tensor:
        """Return what was measured, in its terms, or less what sections differ by (node, molecule)."""

    def within(self, terms: Tensor, data: Any) -> Tensor:
        """Return terms (node, molecule) as `values` are: by default the same."""
        return terms

    def without(self, values: Tensor, data: Any) -> Tensor:
        """Return what is told as `values` are in its terms again (node, molecule)."""
        return values

    def measured(self, data: Any, rows: NDArray[np.int64]) -> Tensor:
        """Return what was measured of some `rows`, in its terms (row, molecule)."""
        return self.values(data)[rows]

    def reached(self, data: Any) -> Tensor:
        """Return who of the measured has anything to say (node,), 1 or 0."""
        return torch.ones_like(data.mask)

    def total(self, data: Any) -> Tensor:
        """Return how much was counted of each node (node,); one where nothing is counted."""
        return torch.ones_like(data.mask)

    @abstractmethod
    def there(self, data: Any) -> Tensor:
        """Return of which molecules neighbours may know anything, boolean, (node, molecule) or (1, molecule)."""

    @abstractmethod
    def shares(self, expected: Tensor) -> Tensor:
        """Return what goes with expected terms in the units of `Expected.shares` (node, molecule)."""

    @abstractmethod
    def fit_law(self, seen: list[neighbour_fit.Seen], trained: neighbour_fit.Seen, measurement: Any) -> None:
        """Fit how hidden nodes scatter around what is expected of them; keep of `trained` ones how they depart."""

    def around(self, state: State, inputs: Inputs) -> tuple[list[Tensor], list[Tensor]]:
        """Return, a ring of neighbours, the sum of their values (node, molecule) and their number (node,)."""
        data = inputs.measured(*self.target)
        visible = state.seen[self.target] * self.reached(data)
        return ring_sums(self.values(data), visible, inputs.rings(self.plan.level))

    def speaks(self, state: State, inputs: Inputs, *, fitted: bool = True) -> Tensor:
        """Return the nodes with a measured neighbour; nobody, where neighbours are not followed."""
        visible = state.seen[self.target] * self.reached(inputs.measured(*self.target))
        weight = self.ring_weight if fitted else torch.ones_like(self.ring_weight)
        number = sum(
            (
                w * (ring @ visible[:, None]).ravel()
                for w, ring in zip(weight, inputs.rings(self.plan.level), strict=True)
            ),
            torch.zeros_like(visible),
        )
        # A readout that follows no neighbour leaves the state, or the tile, its own word.
        return (number > 1e-6) & (self.neighbour_share > 0 if fitted else torch.ones_like(self.neighbour_share) > 0)

    def tell(self, told: Expected, state: State, inputs: Inputs, here: Tensor) -> Expected:
        """Return what is expected, mixed with the mean of visible neighbours for nodes that were not measured."""
        (mean, _), data = self.mean(*self.around(state, inputs)), inputs.measured(*self.target)
        mixed = self.without(self(self.within(told.logs, data), mean), data)
        here = here & (state.seen[self.target] == 0)
        there = here[:, None] & self.there(data)
        shares = torch.where(there, self.shares(mixed), told.shares)
        logs = torch.where(there, mixed, told.logs)
        return Expected(shares, logs, told.looked_at | here, told.around | here)

    def fit(self, fitting: Fitting) -> None:
        """Fit rings, shares and levels on nodes whose own values are hidden by turns."""
        neighbour_fit.fit_neighbours(self, fitting)

    def mean(self, sums: list[Tensor], numbers: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the mean of visible neighbours (node, molecule), and who has any (node,), from `ring_sums`."""
        total = sum((w * s for w, s in zip(self.ring_weight, sums, strict=True)), torch.zeros_like(sums[0]))
        weight = sum((w * n for w, n in zip(self.ring_weight, numbers, strict=True)), torch.zeros_like(numbers[0]))
        return total / weight.clamp_min(1e-6)[:, None], weight > 1e-6

    def forward(self, said: Tensor, mean: Tensor) -> Tensor:
        """Return what is expected in the terms of the modality (node, molecule)."""
        return self.offset + self.factor * (self.said_share * said + self.neighbour_share * mean)


def ring_sums(values: Tensor, visible: Tensor, rings: list[SparseOperator]) -> tuple[list[Tensor], list[Tensor]]:
    """Return, a ring, the sum over its visible members (node, molecule), and their number (node,).

    Parameters
    ----------
    values
        What was measured (node, molecule).
    visible
        Whose values may be looked at (node,), 1 or 0.
    rings
        Neighbours of each ring (node, node).
    """
    values = values * visible[:, None]
    return [ring @ values for ring in rings], [(ring @ visible[:, None]).ravel() for ring in rings]
