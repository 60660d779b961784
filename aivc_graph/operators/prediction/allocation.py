"""Expression of children that were not counted: the rate of the parent that was, shared out among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.tissue_graph import Relation, TissueGraph
from aivc_graph.operators.part import ANSWERS, KINDS, Fitting, Shape, Step
from aivc_graph.operators.prediction import allocation_fit
from aivc_graph.operators.prediction.prediction import AbstractPrediction
from aivc_graph.operators.prediction.shared_counts import SharedCountsPlan
from aivc_graph.operators.state import Expected, Inputs, State


@KINDS["prediction"].register("allocation")
class AllocationPrediction(AbstractPrediction):
    r"""Tell the children of a parent so that they add up to the parent's rate.

    With :math:`\rho_{cg}` what is said of a child, :math:`\mu_g` the mean profile of children, and
    :math:`b_{cg} = \mu_g + o\,(\rho_{cg} - \mu_g)` how far it tells them apart, :math:`q_{pg} = \sum_c w_{pc}\,b_{cg}`,
    weighed by how much of each lies there, and :math:`\kappa_g` how much better the children's platform captures
    molecule g: the parent's rate given its own counts y of Y in all is the mean of a Dirichlet around what its children
    make expected,

    .. math:: r_{pg} = \frac{e_{pg} + \tau\,y_{pg}}{1 + \tau\,Y_p}, \qquad e_{pg} \propto q_{pg} / \kappa_g, \qquad
              \rho'_{cg} = b_{cg}\,\frac{\kappa_g\,r_{pg}}{q_{pg}} \cdot
              \frac{\sum_h q_{ph}}{\sum_h \kappa_h\,r_{ph}}

    so that :math:`\sum_c w_{pc}\,\rho'_{cg} \propto \kappa_g\,r_{pg}`, exactly. With o = 0 every child has its share of
    the area of its parents and nothing else, with τ, the weight of one count, as parents themselves differ: the rule it
    begins at, which needs no child to have been counted. With o = 1 and τ = 0 nothing changes of what is said, the
    profiles of types where types are what is known; with o = 1 what tells children apart is kept. It departs from the
    rule as far as held-out children support. A child of several parents takes the mean of what each says, by how much
    of it lies there: mass is then kept over the parents together. Silent where a child of the parent was counted
    itself.

    ``scatter`` is the variance of a child's rate about what is told of it, over its square: what counts of held-out
    children have beyond counting.

    Shapes
    ------
    said, out
        (child, molecule)
    counts
        (parent, molecule)

    References
    ----------
    Kleshchevnikov et al. 2022, doi:10.1038/s41587-021-01139-4 (spots as sums of cells, with a capture of each gene);
    Wickramasuriya et al. 2019, doi:10.1080/01621459.2018.1448825 (forecasts that add up).
    """

    Plan = SharedCountsPlan
    plan: SharedCountsPlan
    rank: ClassVar[int] = 1
    stages: ClassVar[Mapping[str, str]] = {ANSWERS: "fit"}
    log_capture: Tensor
    profile: Tensor
    said_share: Tensor
    count_share: Tensor
    scatter: Tensor

    def __init__(self, plan: SharedCountsPlan) -> None:
        super().__init__(plan)
        n = len(plan.of_child)
        self.hold("log_capture", torch.zeros(n))
        self.hold("profile", torch.full((n,), 1.0 / n))
        self.hold("said_share", torch.ones(()))
        self.hold("count_share", torch.zeros(()))
        self.hold("scatter", torch.full((n,), torch.inf))

    @classmethod
    def serves(cls, graph: TissueGraph, shape: Shape) -> list[SharedCountsPlan]:
        """Return a plan for each pair of levels and modality with molecules in common."""
        return SharedCountsPlan.of(graph, of_child=True)

    @property
    def slot(self) -> tuple[str, ...]:
        """Parent, child and modality: the way its answers go."""
        return (self.plan.parent, self.plan.child, self.plan.modality)

    @property
    def target(self) -> tuple[str, str]:
        """The children's counts."""
        return (self.plan.child, self.plan.modality)

    @property
    def columns(self) -> tuple[int, ...]:
        """The molecules that both levels measured."""
        return self.plan.of_child

    @property
    def relation(self) -> Relation:
        """Who lies in whom."""
        return (self.plan.child, names.WITHIN, self.plan.parent)

    def steps(self) -> list[Step]:
        """Return that a parent looks at all its children before a child looks at it."""
        return [(self.relation, False), (self.relation, True)]

    def serving(self, state: State, inputs: Inputs) -> Tensor:
        """Return the parents that share out their rate (parent,), 1 or 0: counted, as no child of theirs was."""
        parent, child, modality = self.slot
        counted = state.seen[parent, modality] * self._whole(inputs, parent, self.plan.of_parent)
        beneath = inputs["relation", *self.relation].up @ state.seen[child, modality][:, None]
        return counted * (self.counts(inputs).sum(dim=1) > 0) * (beneath.ravel() == 0)

    def speaks(self, state: State, inputs: Inputs, *, fitted: bool = True) -> Tensor:
        """Return the children of parents that share out their rate."""
        down = inputs["relation", *self.relation].down
        reached = (down @ self.serving(state, inputs)[:, None]).ravel() > 0
        # What is said and counts do not change is spoken too where it is known how far rates lie from it.
        heard = not fitted or bool((self.count_share > 0) | self.scatter.isfinite().any())
        return reached & heard & (self._whole(inputs, self.plan.child, self.plan.of_child) > 0)

    def tell(self, told: Expected, state: State, inputs: Inputs, here: Tensor) -> Expected:
        """Return what is expected, made to add up to what the parents of the children `here` were counted."""
        columns = torch.tensor(self.plan.of_child, device=inputs.device)
        base = self.base(told.shares[:, columns].double())
        factor, serving = self.factor(base, inputs), self.serving(state, inputs)[:, None].double()
        down = inputs["relation", *self.relation].down
        scale = down.exactly(factor * serving) / down.exactly(serving).clamp_min(1e-12)
        shares = told.shares.clone()
        shares[:, columns] = torch.where(here[:, None], (base * scale).float(), shares[:, columns])
        # A rate, as the state tells one: not the mean of log counts that a direct look tells.
        return Expected(shares, torch.log1p(self.plan.depth * shares), told.looked_at, told.around)

    def base(self, said: Tensor) -> Tensor:
        """Return what tells children apart (child, molecule) of what is `said` of them; rows keep their sums."""
        alike = said.sum(dim=1, keepdim=True) * self.profile
        return alike + self.said_share * (said - alike)

    def factor(self, base: Tensor, inputs: Inputs) -> Tensor:
        """Return what the children of each parent are scaled by (parent, molecule), in doubles."""
        before = inputs["relation", *self.relation].up.exactly(base)
        wanted = self.log_capture.double().exp() * self.rate(before, self.counts(inputs).double())
        wanted = wanted * (before.sum(dim=1) / wanted.sum(dim=1).clamp_min(1e-12))[:, None]
        return torch.where(before > 0, wanted / before.clamp_min(1e-12), 1.0)

    def rate(self, before: Tensor, counts: Tensor) -> Tensor:
        """Return the rate of each parent given its counts, and what its children make expected (parent, molecule)."""
        expected = before / self.log_capture.double().exp()
        expected = expected / expected.sum(dim=1, keepdim=True).clamp_min(1e-12)
        total = counts.sum(dim=1, keepdim=True)
        return (expected + self.count_share * counts) / (1 + self.count_share * total)

    def counts(self, inputs: Inputs) -> Tensor:
        """Return the counts of the molecules that both levels measured (parent, molecule)."""
        return inputs.measured(self.plan.parent, self.plan.modality).counts.to_dense()[:, list(self.plan.of_parent)]

    def _whole(self, inputs: Inputs, level: str, columns: tuple[int, ...]) -> Tensor:
        """Return whose section measured all of these molecules (node,), 1 or 0."""
        data = inputs.measured(level, self.plan.modality)
        if data.there is None:
            return torch.ones_like(data.mask)
        return data.there[data.section][:, list(columns)].all(dim=1).float()

    def fit(self, fitting: Fitting) -> None:
        """Fit the rule on training nodes, then how far to depart from it, and the scatter, on held-out children."""
        allocation_fit.set_rule(self, fitting.training)
        allocation_fit.set_departure(self, fitting)
