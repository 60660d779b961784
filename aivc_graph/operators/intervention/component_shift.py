"""Interventions as shifts of log expression: of the treated nodes, and of those near them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.gate import RESPONSE
from aivc_graph.operators.intervention import fit_interventions
from aivc_graph.operators.intervention.exposure import DIRECT, SPREAD, Field
from aivc_graph.operators.intervention_plan import InterventionPlan
from aivc_graph.operators.part import KINDS, LAST_ANSWERS, AbstractPart, Fitting, Shape


@KINDS["intervention"].register("component_shift")
class ComponentShift(AbstractPart):
    r"""Shift of each node's log expression by what was done to it and around it.

    With :math:`h_k(v)` the strength of intervention k at node v, told by the propagator, :math:`e_k(v)` its exposure
    (below), and :math:`r_j(v)` how far v belongs to component j of the untreated states,

    .. math:: \Delta_v = \sum_k \sum_j r_j(v)\,[h_k(v)\,D_{kj} + e_k(v)\,S_{kj}]
              + \sum_{k<l} h_k(v)\,h_l(v) \sum_j r_j(v)\,I_{klj}

    Each D, S, I is a step in the latent state, decoded as the state itself is, plus what of it the latent state cannot
    say. Components whose own effect held-out donors do not support share the mean effect, so with that shrinkage
    complete and I = 0 a combination is exactly the additive rule; at strength 0 nothing changes; what is given together
    commutes; nothing farther than the reach of the exposure moves. Invariant to the order of nodes and to moving and
    rotating the section.

    Shapes
    ------
    state
        (node, latent), each node's own encoding
    out
        (node, latent) and (node, molecule)

    References
    ----------
    Lotfollahi et al. 2023, doi:10.15252/msb.202211517 (additive perturbation effects in a latent space).
    """

    kind: ClassVar[str] = "intervention"
    question: ClassVar[str] = RESPONSE
    Plan = InterventionPlan
    plan: InterventionPlan
    stages: ClassVar[Mapping[str, str]] = {LAST_ANSWERS: "fit"}
    centre: Tensor
    log_spread: Tensor
    usual_distance: Tensor
    latent_effect: Tensor
    molecule_effect: Tensor
    latent_pair: Tensor
    molecule_pair: Tensor
    error: Tensor
    pair_error: Tensor
    reach: Tensor
    treated_nodes: Tensor

    def __init__(self, plan: InterventionPlan) -> None:
        super().__init__(plan)
        latent, n_molecules, n_components, n_keys = plan.latent, plan.n_molecules, plan.components, len(plan.keys)
        # The first copy of the effects is shrunken, what is predicted; the second is not, nor are the others, which are
        # each without one of the training donors: what has an interval.
        copies = 2 + len(plan.donors)
        one, two = (copies, n_keys, 2, n_components), (copies, len(plan.pairs), n_components)
        start = {
            "centre": torch.zeros(n_components, latent),
            "log_spread": torch.zeros(()),
            "usual_distance": torch.tensor(torch.inf),
            "latent_effect": torch.zeros(*one, latent),
            "molecule_effect": torch.zeros(*one, n_molecules),
            "latent_pair": torch.zeros(*two, latent),
            "molecule_pair": torch.zeros(*two, n_molecules),
            # Standard deviations of the first copy, of log expression.
            "error": torch.zeros(*one[1:], n_molecules),
            "pair_error": torch.zeros(*two[1:], n_molecules),
            # A row an intervention: the share of the exposure that each step hands on, and its sharpness.
            "reach": torch.zeros(n_keys, 2),
            "treated_nodes": torch.zeros(n_keys, n_components),
        }
        for name, value in start.items():
            self.hold(name, value)

    @classmethod
    def serves(cls, graph: TissueGraph, shape: Shape) -> list[InterventionPlan]:
        """Return the plan of a graph of which some training tissue was treated and some was not."""
        plan = InterventionPlan.of(graph, shape.latent)
        return [] if plan is None else [plan]

    @property
    def slot(self) -> tuple[str, ...]:
        """The level that is treated."""
        return (self.plan.level,)

    def fit(self, fitting: Fitting) -> None:
        """Fit to the treated training sections."""
        fit_interventions.fit_interventions(self, fitting)

    def components(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return shares of components (node, component) that sum to one, and who lies where training has been."""
        distance = torch.cdist(state, self.centre).square()
        share = torch.softmax(-0.5 * distance / self.log_spread.exp(), dim=1)
        return share, distance.min(dim=1).values <= self.usual_distance

    def forward(
        self, state: Tensor, fields: Mapping[int, Field], pairs: Mapping[tuple[int, int], int], replicate: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Return the shift of the state (node, latent) and of the log expression beside it (node, molecule).

        Parameters
        ----------
        fields
            Row of the intervention → its field.
        pairs
            Rows of two interventions → row of their interaction.
        """
        share, _ = self.components(state)
        latent = torch.zeros_like(state)
        molecule = state.new_zeros(len(state), self.molecule_effect.shape[-1])
        for key, field in fields.items():
            for part, amount in ((DIRECT, field.strength), (SPREAD, field.exposure)):
                weight = amount[:, None] * share
                latent = latent + weight @ self.latent_effect[replicate, key, part]
                molecule = molecule + weight @ self.molecule_effect[replicate, key, part]
        for row, strength in _together(fields, pairs):
            weight = strength[:, None] * share
            latent = latent + weight @ self.latent_pair[replicate, row]
            molecule = molecule + weight @ self.molecule_pair[replicate, row]
        return latent, molecule

    def uncertainty(self, state: Tensor, fields: Mapping[int, Field], pairs: Mapping[tuple[int, int], int]) -> Tensor:
        """Return the standard deviation of the predicted shift of log expression (node, molecule); see `forward`.

        Interventions err each by themselves, the components of one together.
        """
        share, _ = self.components(state)
        variance = state.new_zeros(len(state), self.error.shape[-1])
        for key, field in fields.items():
            direct, spread = (
                (amount[:, None] * share) @ self.error[key, part]
                for part, amount in ((DIRECT, field.strength), (SPREAD, field.exposure))
            )
            variance = variance + (direct + spread).square()
        for row, strength in _together(fields, pairs):
            variance = variance + ((strength[:, None] * share) @ self.pair_error[row]).square()
        return variance.sqrt()


def _together(fields: Mapping[int, Field], pairs: Mapping[tuple[int, int], int]) -> Iterator[tuple[int, Tensor]]:
    """Yield the row of each interaction whose interventions are both there, and how strongly they meet (node,)."""
    for (a, b), row in pairs.items():
        if a in fields and b in fields:
            yield row, fields[a].strength * fields[b].strength
