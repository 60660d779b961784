"""Expression of children that were not counted: the rate of the parent that was, shared out among them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.part import KINDS, Fitting, Shape, Step
from aivc_graph.operators.prediction import shared_fit
from aivc_graph.operators.prediction.shared_counts import (
    SHARES,
    WEIGHTS,
    AbstractShared,
    Sayings,
    SharedCountsPlan,
    Way,
)
from aivc_graph.operators.product import SparseOperator
from aivc_graph.operators.state import Expected, Inputs, State

# Steps towards the likeliest mixture of types.
STEPS = 30


@dataclass(frozen=True)
class AllocationTerms:
    """What is said of children, the sums of it over parents, and their counts, for one `part`.

    `serving` (parent, 1), 1 where a parent shares out its rate; `borne_out` and `parents_borne_out` (node, 1), whether
    what is said of their section is.
    """

    part: AllocationPrediction
    up: SparseOperator
    down: SparseOperator
    children: Sayings
    parents: Sayings
    counts: Tensor
    serving: Tensor
    borne_out: Tensor
    parents_borne_out: Tensor

    @cached_property
    def reached(self) -> Tensor:
        """How much of each child lies in parents that share out (child, 1)."""
        return self.down.exactly(self.serving)

    def over_parents(self, of_parents: Tensor) -> Tensor:
        """Return the mean over the parents of each child that share out (child, molecule)."""
        return self.down.exactly(of_parents * self.serving) / self.reached.clamp_min(1e-12)

    @cached_property
    def types(self) -> tuple[Tensor, Tensor]:
        """What the types in the parents' counts say of children beyond the mean, and its sums (node, molecule)."""
        mean = self.over_parents(self.part.of_types(self.counts))
        apart = self.children.alike.sum(dim=1, keepdim=True) * (mean - self.part.profile) * (self.reached > 0)
        return apart, self.up.exactly(apart)


@KINDS["prediction"].register("allocation")
class AllocationPrediction(AbstractShared):
    r"""Tell the children of a parent so that they add up to the parent's rate.

    With :math:`\rho_{cg}` what is said of a child, :math:`\mu_g` the mean profile of children, :math:`\phi_{tg}` that
    of type t, each as shares, and :math:`a_{pt}` the likeliest shares of types in the counts y, Y in all, of parent p,
    with :math:`a_{ct}` the mean over the parents of c, what sets children apart is

    .. math:: m_{cg} = \mu_g + s\,(\textstyle\sum_t a_{ct}\,\phi_{tg} - \mu_g), \qquad
              b_{cg} = m_{cg} + o\,(\rho_{cg} - m_{cg})

    With :math:`q_{pg} = \sum_c w_{pc}\,b_{cg}`, weighed by how much of each lies there, and :math:`\kappa_g` how much
    better the children's platform captures molecule g, the parent's rate given its own counts is the mean of a
    Dirichlet around what its children make expected,

    .. math:: r_{pg} = \frac{e_{pg} + \tau\,y_{pg}}{1 + \tau\,Y_p}, \qquad e_{pg} \propto q_{pg} / \kappa_g, \qquad
              \rho'_{cg} = b_{cg}\,\frac{\kappa_g\,r_{pg}}{q_{pg}} \cdot
              \frac{\sum_h q_{ph}}{\sum_h \kappa_h\,r_{ph}}

    so that :math:`\sum_c w_{pc}\,\rho'_{cg} \propto \kappa_g\,r_{pg}`, exactly. With o = s = 0 every child has its
    share of the area of its parents and nothing else, with τ, the weight of one count, as parents themselves differ:
    the rule it begins at, which needs no child to have been counted. With s = 1 and o = τ = 0 a child is of the types
    of its spot; with o = 1 and τ = 0 nothing changes of what is said. It departs from the rule as far as held-out
    children support. A child of several parents takes the mean of what each says, by how much of it lies there: mass is
    then kept over the parents together. One between parents takes the mean of what is told of its nearest neighbours.
    Silent where a child of the parent was counted itself.

    Shapes
    ------
    said, out
        (child, molecule)
    counts
        (parent, molecule)
    type_profiles
        (type, molecule); rows sum to one

    References
    ----------
    Kleshchevnikov et al. 2022, doi:10.1038/s41587-021-01139-4 (spots as sums of cells, with a capture of each gene);
    Wickramasuriya et al. 2019, doi:10.1080/01621459.2018.1448825 (forecasts that add up).
    """

    type_share: Tensor
    type_profiles: Tensor

    def __init__(self, plan: SharedCountsPlan) -> None:
        super().__init__(plan)
        n = len(plan.of_child)
        self.hold("type_share", torch.zeros(()))
        self.hold("type_profiles", torch.full((len(plan.types), n), 1.0 / n))

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
    def ways(self) -> list[Way]:
        """How it may depart: the shares of what is said and of what types say, and the weight of a count."""
        every = product(SHARES, (0.0, 1.0) if self.plan.types else (0.0,), WEIGHTS)
        return [way for way in every if way[:2] != (1.0, 1.0)]  # what is said leaves nothing to types

    @property
    def rule(self) -> Way:
        """The way it begins at: shares of area."""
        return (0.0, 0.0, 1.0)

    @property
    def taken(self) -> tuple[Tensor, ...]:
        """The way taken, its last in the units of counts."""
        return (self.said_share, self.type_share, self.count_share)

    def go(self, way: Way) -> None:
        """Take one of `ways`."""
        super().go(way)
        self.type_share.fill_(way[1])

    def steps(self) -> list[Step]:
        """Return that a parent looks at all its children before a child, and then its neighbours, look at it."""
        near: list[Step] = [((self.plan.child, names.NEAR, self.plan.child), False)] if self.plan.near else []
        return [(self.relation, False), (self.relation, True), *near]

    def serving(self, state: State, inputs: Inputs) -> Tensor:
        """Return the parents that share out their rate (parent,), 1 or 0: counted, as no child of theirs was."""
        parent, child, modality = self.slot
        counted = state.seen[parent, modality] * self._whole(inputs, parent, self.plan.of_parent)
        beneath = inputs["relation", *self.relation].up @ state.seen[child, modality][:, None]
        return counted * (self.counts(inputs).sum(dim=1) > 0) * (beneath.ravel() == 0)

    def speaks(self, state: State, inputs: Inputs, *, fitted: bool = True) -> Tensor:
        """Return the children of parents that share out their rate, and those beside them."""
        down, child = inputs["relation", *self.relation].down, self.plan.child
        reached = (down @ self.serving(state, inputs)[:, None] > 0).float()
        if self.plan.near:
            uncounted = (state.seen[child, self.plan.modality] == 0).float()[:, None]
            around = torch.stack([ring @ reached for ring in inputs.rings(child)]).sum(dim=0)
            reached = reached + uncounted * around
        # What is said and counts do not change is spoken too where it is known how far rates lie from it.
        heard = not fitted or bool((self.count_share > 0) | self.scatter.isfinite().any())
        return (reached.ravel() > 0) & heard & (self._whole(inputs, child, self.plan.of_child) > 0)

    def tell(self, told: Expected, state: State, inputs: Inputs, here: Tensor) -> Expected:
        """Return what is expected, made to add up to what the parents of the children `here` were counted."""
        terms = self.terms(told, state, inputs, here)
        return self.replaced(told, self._beside(self.rates(terms), terms.reached > 0, here, inputs), here)

    def terms(self, told: Expected, state: State, inputs: Inputs, here: Tensor) -> AllocationTerms:
        """Return what is said of children, and so of their parents, and what these were counted."""
        overlaps, serving = inputs["relation", *self.relation], self.serving(state, inputs)
        children = Sayings.of(told.shares[:, list(self.columns)].double(), self.profile.double())
        parents = Sayings(*(overlaps.up.exactly(one) for one in (children.alike, children.said)))
        counts, capture = self.counts(inputs).double(), self.log_capture.double().exp()
        caught = Sayings(parents.alike / capture, parents.said / capture)
        borne_out = self.borne_out(caught, counts, serving > 0, inputs)
        where = [borne_out[inputs.section[level]][:, None] for level in (self.plan.child, self.plan.parent)]
        return AllocationTerms(
            self, overlaps.up, overlaps.down, children, parents, counts, serving[:, None].double(), *where
        )

    def rates(self, terms: AllocationTerms) -> Tensor:
        """Return what is expected of children (child, molecule), in doubles."""
        ways = self.way_of(terms.borne_out), self.way_of(terms.parents_borne_out)
        base, before = (
            one.alike + way[0] * one.said for one, way in zip((terms.children, terms.parents), ways, strict=True)
        )
        if self.type_share > 0:
            base, before = (
                one + (1 - way[0]) * way[1] * types
                for one, way, types in zip((base, before), ways, terms.types, strict=True)
            )
        factor = self.factor(before, terms.counts, ways[1][-1])
        return base * terms.over_parents(factor)

    def _beside(self, told: Tensor, reached: Tensor, here: Tensor, inputs: Inputs) -> Tensor:
        """Return what is `told` of children, of others `here` the mean of their nearest neighbours of whom it is."""
        if bool(reached.ravel()[here].all()):
            return told
        out, known = told, reached
        for ring in inputs.rings(self.plan.child):
            number = ring.exactly(reached.double())
            out = torch.where(known, out, ring.exactly(told * reached) / number.clamp_min(1e-12))
            known = known | (number > 0)
        return out

    def of_types(self, counts: Tensor) -> Tensor:
        """Return the mean profile of the cells beneath each parent (parent, molecule), by the types in its `counts`.

        The likeliest mixture, by expectation and maximisation (Dempster et al. 1977,
        doi:10.1111/j.2517-6161.1977.tb01600.x), with what the parents' platform captures of each molecule.
        """
        profiles = self.type_profiles.double()
        caught = profiles / self.log_capture.double().exp()
        size = caught.sum(dim=1)
        caught = caught / size[:, None]
        amounts = counts.new_full((len(counts), len(profiles)), 1.0 / len(profiles))
        for _ in range(STEPS):
            amounts = amounts * ((counts / (amounts @ caught).clamp_min(1e-12)) @ caught.T)
            amounts = amounts / amounts.sum(dim=1, keepdim=True).clamp_min(1e-12)
        amounts = amounts / size
        return amounts @ profiles / amounts.sum(dim=1, keepdim=True).clamp_min(1e-12)

    def factor(self, before: Tensor, counts: Tensor, weight: Tensor) -> Tensor:
        """Return what the children of each parent are scaled by (parent, molecule), from the sum they have `before`."""
        capture = self.log_capture.double().exp()
        wanted = capture * self.rate(before / capture, counts, weight)
        wanted = wanted * (before.sum(dim=1) / wanted.sum(dim=1).clamp_min(1e-12))[:, None]
        return torch.where(before > 0, wanted / before.clamp_min(1e-12), 1.0)

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
        """Fit the profiles of types as well, before all else."""
        if self.plan.types:
            shared_fit.set_types(self, fitting.training)
        super().fit(fitting)
