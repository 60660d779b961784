"""Two levels of one tissue that count some of the same molecules, one of which is told by the counts of the other."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import ClassVar, Self

import torch
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.panels import is_observed, labels, panel, shared_columns, withins
from aivc_graph.graph.tissue_graph import Relation, TissueGraph
from aivc_graph.operators.part import ANSWERS, Fitting
from aivc_graph.operators.prediction import shared_fit
from aivc_graph.operators.prediction.prediction import AbstractPrediction
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


class AbstractShared(AbstractPrediction):
    r"""Tell the rates of one level by what is said of them and by the counts y of the other, of Y in all.

    With :math:`\mu_g` the mean profile and :math:`\rho_{vg}` what is said of node v, both as shares,

    .. math:: b_{vg} = \mu_g + o\,(\rho_{vg} - \mu_g), \qquad r_{vg} = \frac{b_{vg} + \tau\,y_{vg}}{1 + \tau\,Y_v}

    the mean of a Dirichlet around what is expected. With o = 0 and τ, the weight of one count, as nodes themselves
    differ, counts alone set a node apart from the mean: the rule it begins at. With o = 1 and τ = 0 nothing changes
    of what is said; with τ large counts alone are left. It departs from the rule as far as held-out nodes support.

    ``scatter`` is the variance of a node's rate about what is told of it, over its square: what counts of held-out
    nodes have beyond counting. ``log_capture`` is how much better the children's platform catches each molecule.
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

    def go(self, way: Way, weight: float) -> None:
        """Take one of `ways`, in the `weight` of a count by which parents differ."""
        self.said_share.fill_(way[0])
        self.count_share.fill_(way[-1] * weight)

    def base(self, said: Tensor) -> Tensor:
        """Return what is kept of what is `said` (node, molecule); rows keep their sums."""
        alike = said.sum(dim=1, keepdim=True) * self.profile
        return alike + self.said_share * (said - alike)

    def rate(self, expected: Tensor, counts: Tensor) -> Tensor:
        """Return the rates of nodes given counts and what is `expected`, of any sum, (node, molecule)."""
        expected = expected / expected.sum(dim=1, keepdim=True).clamp_min(1e-12)
        return (expected + self.count_share * counts) / (1 + self.count_share * counts.sum(dim=1, keepdim=True))

    def fit(self, fitting: Fitting) -> None:
        """Fit the rule on training nodes, then how far to depart from it, and the scatter, on held-out ones."""
        shared_fit.set_rule(self, fitting.training)
        shared_fit.set_departure(self, fitting)
