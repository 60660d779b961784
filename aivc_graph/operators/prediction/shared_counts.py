"""Two levels of one tissue that count some of the same molecules, one of which is told by the counts of the other."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.panels import is_observed, labels, panel, shared_columns, withins
from aivc_graph.graph.tissue_graph import Relation, TissueGraph
from aivc_graph.operators.gate import LEAST_LEFT_OUT
from aivc_graph.operators.part import ANSWERS, Fitting
from aivc_graph.operators.prediction import shared_fit
from aivc_graph.operators.prediction.prediction import AbstractPrediction
from aivc_graph.operators.state import Expected, Inputs, State
from aivc_graph.settings import Settings

# How much of what is said, or of what types say, is kept; the weight of a count, in that by which parents differ.
SHARES, WEIGHTS = (0.0, 0.5, 1.0), (0.0, 0.03, 0.1, 0.3, 1.0, 3.0)
Way = tuple[float, ...]


class SharedCountsPlan(Settings):
    """A child and a parent with molecules in common: their columns in either panel, and the depth of what is told.

    And the types of children, and whether they have neighbours, where it is they who are told.
    """

    child: str
    parent: str
    modality: str
    of_child: tuple[int, ...]
    of_parent: tuple[int, ...]
    depth: float
    types: tuple[str, ...] = ()
    near: bool = False

    @classmethod
    def of(cls, graph: TissueGraph, *, of_child: bool) -> list[Self]:
        """Return a plan for each pair of levels and modality with molecules in common, by which one of them is told."""
        return [
            cls(
                child=child, parent=parent, modality=m, of_child=tuple(own), of_parent=tuple(shared),
                depth=float(graph[child if of_child else parent][f"{m}_depth"]),
                types=tuple(labels(graph, child)) if of_child else (),
                near=of_child and (child, names.NEAR, child) in graph.edge_types,
            )
            for child, parent in withins(graph)
            for m in names.MOLECULE_OF
            if is_observed(graph, child, m) and is_observed(graph, parent, m)
            for own, shared in [shared_columns(panel(graph, child, m), panel(graph, parent, m))]
            if own
        ]  # fmt: skip


@dataclass(frozen=True)
class Sayings:
    """Rates of nodes were all `alike`, and what is `said` of them beyond that, both (node, molecule)."""

    alike: Tensor
    said: Tensor

    @classmethod
    def of(cls, said: Tensor, profile: Tensor) -> Self:
        """Part what is `said` (node, molecule) from the mean `profile` (molecule,) of the same sum."""
        alike = said.sum(dim=1, keepdim=True) * profile
        return cls(alike, said - alike)


class AbstractShared(AbstractPrediction):
    r"""Tell the rates of one level by what is said of them and by the counts y of the other, of Y in all.

    With :math:`\mu_g` the mean profile and :math:`\rho_{vg}` what is said of node v, both as shares,

    .. math:: b_{vg} = \mu_g + o\,(\rho_{vg} - \mu_g), \qquad r_{vg} = \frac{b_{vg} + \tau\,y_{vg}}{1 + \tau\,Y_v}

    the mean of a Dirichlet around what is expected. With o = 0 and τ, the weight of one count, as nodes themselves
    differ, counts alone set a node apart from the mean: the rule it begins at. With o = 1 and τ = 0 nothing changes
    of what is said; with τ large counts alone are left. It departs from the rule as far as held-out nodes support, and
    goes back to it in a section whose own counts are less likely by what is said than by the mean profile: what
    training donors taught, of their tiles say, does not hold there.

    ``scatter`` is the variance of a node's rate about what is told of it, over its square: what counts of held-out
    nodes have beyond counting; ``rule_scatter`` is that about the rule. ``log_capture`` is how much better the
    children's platform catches each molecule, and ``weight`` that of a count by which parents differ.
    """

    Plan = SharedCountsPlan
    plan: SharedCountsPlan
    rank: ClassVar[int] = 1
    stages: ClassVar[Mapping[str, str]] = {ANSWERS: "fit"}
    log_capture: Tensor
    profile: Tensor
    said_share: Tensor
    count_share: Tensor
    weight: Tensor
    scatter: Tensor
    rule_scatter: Tensor

    def __init__(self, plan: SharedCountsPlan) -> None:
        super().__init__(plan)
        n = len(plan.of_child)
        self.hold("log_capture", torch.zeros(n))
        self.hold("profile", torch.full((n,), 1.0 / n))
        self.hold("said_share", torch.ones(()))
        self.hold("count_share", torch.zeros(()))
        self.hold("weight", torch.zeros(()))
        self.hold("scatter", torch.full((n,), torch.inf))
        self.hold("rule_scatter", torch.full((n,), torch.inf))

    @property
    def relation(self) -> Relation:
        """Who lies in whom."""
        return (self.plan.child, names.WITHIN, self.plan.parent)

    @property
    def ways(self) -> list[Way]:
        """How it may depart: the share of what is said and the weight of a count."""
        return list(product(SHARES, WEIGHTS))

    @property
    def rule(self) -> Way:
        """The way it begins at: nothing of what is said, counts as parents differ."""
        return (0.0, 1.0)

    @property
    def taken(self) -> tuple[Tensor, ...]:
        """The way taken, its last in the units of counts."""
        return (self.said_share, self.count_share)

    def go(self, way: Way) -> None:
        """Take one of `ways`."""
        self.said_share.fill_(way[0])
        self.count_share.fill_(way[-1] * self.weight)

    @abstractmethod
    def terms(self, told: Expected, state: State, inputs: Inputs, here: Tensor) -> Any:
        """Return what no way changes of what is told in a window of the nodes `here`."""

    @abstractmethod
    def rates(self, terms: Any) -> Tensor:
        """Return what the way taken makes of `terms` (node, molecule)."""

    def tell(self, told: Expected, state: State, inputs: Inputs, here: Tensor) -> Expected:
        """Return what is expected of the nodes `here`, given the counts of the other level."""
        return self.replaced(told, self.rates(self.terms(told, state, inputs, here)), here)

    def replaced(self, told: Expected, rates: Tensor, here: Tensor) -> Expected:
        """Return what is `told` with other `rates` (node, molecule) of the nodes `here`."""
        columns, shares = list(self.columns), told.shares.clone()
        shares[:, columns] = torch.where(here[:, None], rates.float(), shares[:, columns])
        # A rate, as the state tells one: not the mean of log counts that a direct look tells.
        return Expected(shares, torch.log1p(self.plan.depth * shares), told.looked_at, told.around)

    def borne_out(self, sayings: Sayings, counts: Tensor, asked: Tensor, inputs: Inputs) -> Tensor:
        """Return which sections' counts bear out what is said, boolean (section,).

        They do not where they are less likely by it than by the mean, by more than the error of that over the nodes
        `asked`, boolean (node,). `counts` and `sayings` (node, molecule) are those of parents.
        """
        alike, said = (one[asked].clamp_min(1e-12) for one in (sayings.alike, sayings.alike + sayings.said))
        gain = (counts[asked] * torch.log(said / alike)).sum(dim=1).double()
        sums = gain.new_zeros(1 + max(int(one.max()) for one in inputs.section.values() if len(one)), 3)
        sums.index_add_(0, inputs.section[self.plan.parent][asked], torch.stack([gain**k for k in range(3)], dim=1))
        number = sums[:, 0].clamp_min(1)
        mean, square = sums[:, 1] / number, sums[:, 2] / number
        error = ((square - mean.square()).clamp_min(0) / (number - 1).clamp_min(1)).sqrt()
        return (number < LEAST_LEFT_OUT) | (mean + error >= 0)

    def at_rule(self, told: Expected, state: State, inputs: Inputs, here: Tensor) -> Tensor:
        """Return who of the nodes told lies in a section that goes back to the rule, boolean (node,)."""
        if self.said_share == 0:
            return torch.zeros_like(here)
        return ~self.terms(told, state, inputs, here).borne_out.ravel()

    def way_of(self, borne_out: Tensor) -> tuple[Tensor, ...]:
        """Return the way of nodes (node, 1) each: that taken, or the rule where what is said is not `borne_out`."""
        heard = borne_out | (self.said_share == 0)
        rule = (*self.weight.new_tensor(self.rule[:-1]), self.rule[-1] * self.weight)
        return tuple(torch.where(heard, way, other) for way, other in zip(self.taken, rule, strict=True))

    def rate(self, expected: Tensor, counts: Tensor, weight: Tensor) -> Tensor:
        """Return the rates given counts of some `weight` (node, 1) and what is `expected`, of any sum."""
        expected = expected / expected.sum(dim=1, keepdim=True).clamp_min(1e-12)
        return (expected + weight * counts) / (1 + weight * counts.sum(dim=1, keepdim=True))

    def fit(self, fitting: Fitting) -> None:
        """Fit the rule on training nodes, then how far to depart from it, and the scatter, on held-out ones."""
        shared_fit.set_rule(self, fitting.training)
        shared_fit.set_departure(self, fitting)
