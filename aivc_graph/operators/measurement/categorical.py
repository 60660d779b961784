"""The type of a node, as its label says it: one of several classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar
from zlib import crc32

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.panels import labels, panel, types_of
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.counts import CountInput
from aivc_graph.operators.intensities import IntensityInput
from aivc_graph.operators.measurement import type_fit
from aivc_graph.operators.measurement.distribution import Categorical
from aivc_graph.operators.measurement.measurement import AbstractMeasurement, MeasurementPlan, state_maker
from aivc_graph.operators.part import DECODERS, ENCODERS, FURTHER_ENCODERS, KINDS, LAST_ANSWERS, Device, Fitting, Shape
from aivc_graph.operators.state import Inputs, State
from aivc_graph.settings import Settings

# What says of which type a node is, in this order; the first is known of every node.
RULES = (
    *("prior", "place", "nearest ring", "all rings", "state", "state and labels around"),
    *("own measurement", "nearest mean of own measurement"),
)
# In how many turns nodes are told without their label.
TURNS = 4
# Neighbours that the class prior counts for.
PRIOR_NODES = 1.0


class CategoricalOptions(Settings):
    """How labels are used.

    Parameters
    ----------
    encode
        Whether the label of a node takes part in its state. By default only where nothing else was measured: elsewhere
        what niches are found from would hold the labels that they are then compared with.
    """

    encode: bool = False


class TypePlan(MeasurementPlan):
    """Beside the types, by what modality else nodes of the level are told, and how many features that has."""

    maker: str = ""
    n_own: int = 0


@dataclass(frozen=True)
class TypeInput:
    """Labels of nodes (node, …): `onehot` classes, zero without; `section`; `mask`, who has one; and `index`, names."""

    onehot: Tensor
    section: Tensor
    mask: Tensor
    index: pd.Index

    @cached_property
    def turn(self) -> Tensor:
        """When each node is told without its label (node,): that hangs on its name alone."""
        return torch.tensor([crc32(name.encode()) % TURNS for name in self.index], device=self.mask.device)


@KINDS["measurement"].register("categorical", modalities=(names.TYPE,))
class CategoricalMeasurement(AbstractMeasurement):
    r"""The type of a node as one of several classes.

    Encoding is a class's place in the state. Where nothing else was measured at the level it is the one-hot label in
    its principal axes, :math:`u_v = (e_{c(v)} - \pi)\,V`, so that the mean of neighbours is what a place is made of;
    elsewhere, if labels take part, the mean state of the class, as surely as states of one class are alike.

    Its likelihood given the state is multinomial logistic, :math:`p_c = \mathrm{softmax}_c(z \cdot w_c + b_c)`, the
    class prior at the start. What is told of a node without a label of its own mixes rules,

    .. math:: p_v = \sum_r w_{r,\,s(v)}\, p_{r,v}

    the class prior; the labels in its region, in its nearest ring and in all rings, each beside the prior of one more
    node; the state; the state together with the logarithms of these; and what was measured of the node itself, which
    knows more than a state of few axes, by regression and by the nearest mean of a class. Weights are fitted for each
    situation s, whether anything else was seen of the node and whether any neighbour bears a label, on groups that the
    rules were not fitted on: a rule that does not help there gets none. Where one donor is all there is, groups are
    stretches of it, which cannot show what another donor costs. Invariant to the order of nodes and of classes.

    Shapes
    ------
    labels
        (node, class), one-hot
    latent
        (node, latent)

    References
    ----------
    Yao et al. 2018, doi:10.1214/17-BA1091 (stacking of predictive distributions).
    """

    Options = CategoricalOptions
    Plan = TypePlan
    plan: TypePlan
    stages: ClassVar[Mapping[str, str]] = {
        ENCODERS: "fit_encoder",
        FURTHER_ENCODERS: "fit_further_encoder",
        DECODERS: "fit_decoder",
        LAST_ANSWERS: "fit_rules",
    }
    rank: ClassVar[int] = 2
    prior: Tensor
    loading: Tensor
    weight: Tensor
    bias: Tensor
    around_weight: Tensor
    around_bias: Tensor
    own_weight: Tensor
    own_bias: Tensor
    nearest_weight: Tensor
    nearest_bias: Tensor
    rule_share: Tensor

    def __init__(self, plan: TypePlan) -> None:
        super().__init__(plan)
        n = len(plan.names)
        self.hold("prior", torch.full((n,), 1.0 / n))
        self.hold("loading", torch.zeros(n, plan.latent))
        # By whether anything but a label was seen of the node: 0 or 1.
        self.hold("weight", torch.zeros(2, plan.latent, n))
        self.hold("bias", torch.full((2, n), -float(np.log(n))))
        self.hold("around_weight", torch.zeros(2, plan.latent + 3 * n, n))
        self.hold("around_bias", torch.full((2, n), -float(np.log(n))))
        # None where nothing else was measured.
        for rule in ("own", "nearest"):
            self.hold(f"{rule}_weight", torch.zeros(plan.n_own, n))
            self.hold(f"{rule}_bias", torch.full((n,), -float(np.log(n))))
        start = torch.zeros(2, 2, len(RULES))
        start[..., 0] = 1.0
        self.hold("rule_share", start)

    @classmethod
    def serves(cls, graph: TissueGraph, shape: Shape) -> list[MeasurementPlan]:
        """Return a plan for each level whose training nodes bear labels."""
        plans: list[MeasurementPlan] = []
        for level in graph.levels:
            if types := labels(graph, level):
                maker = state_maker(graph, level, shape)
                told_by = maker if maker in (*names.MOLECULE_OF, names.INTENSITY) else None
                facts = {"maker": told_by or "", "n_own": len(panel(graph, level, told_by)) if told_by else 0}
                facts |= {"first": maker == names.TYPE, "options": shape.options(cls.kind, names.TYPE)}
                plans.append(TypePlan(level=level, modality=names.TYPE, names=types, latent=shape.latent, **facts))
        return plans

    @property
    def seen(self) -> bool:
        """Whether labels take part in the state."""
        return self.plan.first or CategoricalOptions(**self.plan.options).encode

    @property
    def width(self) -> int:
        """A label is one value."""
        return 1

    def begin(self, graph: TissueGraph) -> None:
        """Take over how many training nodes are of each type."""
        level = self.plan.level
        kind = types_of(graph, level, self.plan.names)
        number = np.bincount(kind[(kind >= 0) & graph.in_split(level, names.TRAIN).numpy()], minlength=self.n_types)
        prior = (number + 1.0 / self.n_types) / (number.sum() + 1.0)
        self.prior.copy_(torch.from_numpy(prior))
        self.bias.copy_(self.prior.log())
        self.around_bias.copy_(self.prior.log())

    @property
    def n_types(self) -> int:
        """Number of classes."""
        return len(self.plan.names)

    def prepare(self, graph: TissueGraph, device: Device) -> TypeInput:
        """Return the labels of a window."""
        kind = torch.from_numpy(types_of(graph, self.plan.level, self.plan.names)).to(device)
        onehot = torch.zeros(len(kind), self.n_types, device=device)
        there = torch.nonzero(kind >= 0).ravel()
        onehot[there, kind[there]] = 1.0
        section, index = graph[self.plan.level].section_index.to(device), graph.obs(self.plan.level).index
        return TypeInput(onehot, section, (kind >= 0).float(), index)

    def observation(self, data: TypeInput) -> Tensor:
        """Return the labels, one-hot."""
        return data.onehot

    def encode(self, data: TypeInput, shown: Tensor | None = None) -> Tensor:
        """Return where the class of each node lies (node, latent)."""
        return data.onehot @ self.loading

    def likelihood(self, z: Tensor, data: TypeInput) -> Categorical:
        """Return the distribution of the label, given the state alone."""
        head = int(not self.plan.first)
        return Categorical(z @ self.weight[head] + self.bias[head])

    def situation(self, state: State, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Return of whom anything but a label was seen, and who has a neighbour with a label, both 0 or 1 (node,)."""
        level, data = self.plan.level, inputs.measured(*self.slot)
        others = [seen for (where, modality), seen in state.seen.items() if where == level and modality != names.TYPE]
        own = torch.stack([torch.zeros_like(data.mask), *others]).amax(dim=0)
        visible = (data.mask * state.seen[self.key])[:, None]
        number = sum((ring @ visible for ring in inputs.rings(level)), torch.zeros_like(visible))
        return (own > 0).long(), (number.ravel() > 0).long()

    def shares_around(self, state: State, inputs: Inputs) -> list[Tensor]:
        """Return the shares of types (node, class) in the region of a node, in its nearest ring and in all rings.

        Of labels that may be seen, never a node's own; each is drawn towards the wider one by one node, as far as
        labels are few.
        """
        level, data = self.plan.level, inputs.measured(*self.slot)
        visible = data.onehot * state.seen[self.key][:, None]
        place = inputs.place[level]
        place = torch.unique(place, return_inverse=True)[1]
        total = torch.zeros(int(place.max()) + 1 if len(place) else 0, self.n_types, device=visible.device)
        there = self._towards(total.index_add(0, place, visible)[place] - visible, self.prior)
        rings = [ring @ visible for ring in inputs.rings(level)]
        every = self._towards(sum(rings, torch.zeros_like(visible)), there)
        nearest = self._towards(rings[0] if rings else torch.zeros_like(visible), every)
        return [there, nearest, every]

    @staticmethod
    def _towards(number: Tensor, shares: Tensor) -> Tensor:
        return (number + PRIOR_NODES * shares) / (number.sum(dim=1, keepdim=True) + PRIOR_NODES)

    def told(self, state: State, inputs: Inputs) -> Tensor:
        """Return the probability of each type (node, class), told without the label of the node itself.

        Where labels take part in the state, it is as good as that only for nodes whose label was hidden.
        """
        own, around = self.situation(state, inputs)
        shares = self.shares_around(state, inputs)
        share = self.rule_share[own, around]
        z = state.z[self.plan.level]
        logs = torch.cat([z, *(one.log() for one in shares)], dim=1)
        learnt = [
            torch.stack([torch.softmax(x @ weight[head] + bias[head], dim=1) for head in (0, 1)])[
                own, torch.arange(len(own), device=own.device)
            ]
            for x, weight, bias in ((z, self.weight, self.bias), (logs, self.around_weight, self.around_bias))
        ]
        rules = [self.prior.expand_as(shares[0]), *shares, *learnt, *self._own(state, inputs)]
        return sum((share[:, r, None] * rule for r, rule in enumerate(rules)), torch.zeros_like(shares[0]))

    def _own(self, state: State, inputs: Inputs) -> list[Tensor]:
        """Return what the counts or intensities of each node say, by regression and by the nearest mean (node, class).

        The prior where these were not seen, or not whole.
        """
        prior = self.prior.expand(inputs.n_nodes[self.plan.level], -1)
        if not self.plan.n_own:
            return [prior, prior]
        own = self.weighed_own(inputs, torch.cat([self.own_weight, self.nearest_weight], dim=1))
        seen = (state.seen[self.plan.level, self.plan.maker] > 0)[:, None] & torch.isfinite(own).all(dim=1)[:, None]
        logits = (own.nan_to_num() + torch.cat([self.own_bias, self.nearest_bias])).split(self.n_types, dim=1)
        return [torch.where(seen, torch.softmax(one, dim=1), prior) for one in logits]

    def weighed_own(self, inputs: Inputs, weight: Tensor) -> Tensor:
        """Return the log counts of each node at one depth times `weight` (molecule, k): (node, k).

        Of intensities their arcsinh, standardised within the section. Not a number for a node of a section in which a
        part of the panel was measured.
        """
        data: CountInput | IntensityInput = inputs.measured(self.plan.level, self.plan.maker)
        if isinstance(data, IntensityInput):
            return data.observed @ weight
        whole = (data.panels > 0).all(dim=1)[data.panel_of[data.section]]
        return torch.where(whole[:, None], data.scaled @ weight, torch.nan)

    def fit_encoder(self, fitting: Fitting) -> None:
        """Lay classes along the principal axes of one-hot labels, where the state is made of nothing else."""
        if self.plan.first:
            type_fit.fit_places(self)

    def fit_further_encoder(self, fitting: Fitting) -> None:
        """Lay each class at the mean state of its nodes, where the state is made of other measurements."""
        if not self.plan.first:
            type_fit.fit_class_means(self, fitting)

    def fit_decoder(self, fitting: Fitting) -> None:
        """Fit the likelihood of labels that the state has not seen, for messages to be learnt by."""
        if self.seen:
            type_fit.fit_likelihood(self, fitting)

    def fit_rules(self, fitting: Fitting) -> dict[str, float]:
        """Fit what the state says of labels, and how far each rule is followed."""
        return type_fit.fit_rules(self, fitting)
