"""Expression of a node that was not sequenced, straight from the counts of its neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.panels import observed, panel, same_level
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.part import KINDS, LAST_ANSWERS, Fitting, Shape
from aivc_graph.operators.prediction import neighbour_fit
from aivc_graph.operators.prediction.prediction import AbstractPrediction
from aivc_graph.operators.product import SparseOperator
from aivc_graph.operators.residual_scores import ResidualScores
from aivc_graph.operators.state import Expected, Inputs, State
from aivc_graph.settings import Settings


class NeighbourPlan(Settings):
    """A level with counts and neighbours; `n_rings` of them, counted to a usual `depth` [counts]."""

    level: str
    modality: str
    n_molecules: int
    n_rings: int
    depth: float


@KINDS["prediction"].register("neighbours")
class NeighbourPrediction(AbstractPrediction):
    r"""Mix what is said of a node otherwise with the mean of its visible neighbours, molecule by molecule.

    The state knows neighbours by a few components alone; what one molecule does beside these only its own counts tell.
    In :math:`v = \log(1 + c\,y/\ell)`, with weight :math:`w_r` for each visible neighbour u in ring r,

    .. math::

        \bar v_{pg} = \frac{\sum_r w_r \sum_{u \in r(p)} v_{ug}}{\sum_r w_r n_r(p)}, \qquad
        v_{pg} = o_g + f_g\,(a\,v^{\mathrm{said}}_{pg} + b\,\bar v_{pg})

    With a = f = 1, b = o = 0, the start, it is what was said already. With a = 0, b = 1 it is the mean of neighbours:
    those of the first ring for w = (1, 0, …), all of them for w = (1, 1, …). Invariant to the order of nodes and to
    moving and rotating the section. Counts are negative binomial around it as in `NegativeBinomialMeasurement`, with a
    dispersion of their own: less is known of such a node than of one that was counted; how molecules depart from it
    together is kept of training nodes.

    Shapes
    ------
    said, mean
        (node, molecule), log1p of scaled counts

    References
    ----------
    Fan & Gijbels 1996, Local Polynomial Modelling and Its Applications (the kernel mean is the local constant fit).
    """

    Plan = NeighbourPlan
    plan: NeighbourPlan
    rank: ClassVar[int] = 2
    looks_around: ClassVar[bool] = True
    stages: ClassVar[Mapping[str, str]] = {LAST_ANSWERS: "fit"}
    ring_weight: Tensor
    said_share: Tensor
    neighbour_share: Tensor
    factor: Tensor
    offset: Tensor
    log_rate: Tensor
    log_dispersion: Tensor

    def __init__(self, plan: NeighbourPlan) -> None:
        super().__init__(plan)
        self.hold("ring_weight", torch.ones(plan.n_rings))
        self.hold("said_share", torch.ones(()))
        self.hold("neighbour_share", torch.zeros(()))
        self.hold("factor", torch.ones(plan.n_molecules))
        for name in ("offset", "log_rate", "log_dispersion"):
            self.hold(name, torch.zeros(plan.n_molecules))
        self.residuals = ResidualScores(plan.n_molecules)

    @classmethod
    def serves(cls, graph: TissueGraph, shape: Shape) -> list[NeighbourPlan]:
        """Return a plan for each count modality of a level whose nodes have neighbours."""
        near = {r[0] for r in same_level(graph) if r[1] == names.NEAR}
        return [
            NeighbourPlan(
                level=level, modality=m, n_molecules=len(panel(graph, level, m)),
                n_rings=len(shape.rings), depth=float(graph[level][f"{m}_depth"]),
            )
            for level, m in observed(graph)
            if level in near and m in names.MOLECULE_OF
        ]  # fmt: skip

    @property
    def slot(self) -> tuple[str, ...]:
        """Level and modality."""
        return (self.plan.level, self.plan.modality)

    @property
    def target(self) -> tuple[str, str]:
        """Level and modality."""
        return (self.plan.level, self.plan.modality)

    def around(self, state: State, inputs: Inputs) -> tuple[list[Tensor], list[Tensor]]:
        """Return, a ring of neighbours, the sum of their log counts (node, molecule) and their number (node,)."""
        data = inputs.measured(*self.target)
        return ring_sums(data.scaled, data.mask * state.counted[self.plan.level], inputs.rings(self.plan.level))

    def speaks(self, state: State, inputs: Inputs, *, fitted: bool = True) -> Tensor:
        """Return the nodes with a counted neighbour; nobody, where neighbours are not followed."""
        data = inputs.measured(*self.target)
        visible = data.mask * state.counted[self.plan.level] * data.scaled.reached
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
        """Return what is expected, mixed with the mean of visible neighbours for nodes that were not counted."""
        mean, _ = self.mean(*self.around(state, inputs))
        mixed, here = self(told.logs, mean), here & (state.counted[self.plan.level] == 0)
        # Of molecules that its section did not measure neighbours know nothing.
        data = inputs.measured(*self.target)
        there = here[:, None] & (data.panels[data.panel_of[data.section]] > 0)
        shares = torch.where(there, self.shares(mixed), told.shares)
        logs = torch.where(there, mixed, told.logs)
        return Expected(shares, logs, told.looked_at | here, told.around | here)

    def fit(self, fitting: Fitting) -> None:
        """Fit rings, shares and levels on nodes whose own counts are hidden by turns."""
        neighbour_fit.fit_neighbours(self, fitting)

    def mean(self, sums: list[Tensor], numbers: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the mean of visible neighbours (node, molecule), and who has any (node,), from `ring_sums`."""
        total = sum((w * s for w, s in zip(self.ring_weight, sums, strict=True)), torch.zeros_like(sums[0]))
        weight = sum((w * n for w, n in zip(self.ring_weight, numbers, strict=True)), torch.zeros_like(numbers[0]))
        return total / weight.clamp_min(1e-6)[:, None], weight > 1e-6

    def forward(self, said: Tensor, mean: Tensor) -> Tensor:
        """Return expected log1p of scaled counts (node, molecule)."""
        return self.offset + self.factor * (self.said_share * said + self.neighbour_share * mean)

    def shares(self, expected: Tensor) -> Tensor:
        """Return the shares of molecules (node, molecule) that go with an expected logarithm; rows sum to about one.

        A mean of logarithms says less than the logarithm of the mean: `log_rate` makes up for it on average.
        """
        return self.log_rate.exp() * torch.expm1(expected.clamp(1e-6, 20.0)) / self.plan.depth


def ring_sums(
    scaled: SparseOperator, visible: Tensor, rings: list[SparseOperator]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return, a ring, the sum over its visible members (node, molecule), and their number (node,).

    Parameters
    ----------
    scaled
        log1p of scaled counts (node, molecule).
    visible
        Whose counts may be looked at (node,), 1 or 0; a node without a single count says nothing.
    rings
        Neighbours of each ring (node, node).
    """
    visible = visible * scaled.reached
    values = scaled.forward_csr.to_dense() * visible[:, None]
    return [ring @ values for ring in rings], [(ring @ visible[:, None]).ravel() for ring in rings]
