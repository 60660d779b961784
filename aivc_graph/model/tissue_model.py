"""The first virtual tissue: encode observations, pass messages between levels, measure what comes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from aivc_graph import names
from aivc_graph.model.inputs import Inputs, covered, share_known
from aivc_graph.model.plan import ModelPlan
from aivc_graph.operators.lateral.ring_mean import RingMeanLateral
from aivc_graph.operators.lift.set_summary import SetSummaryLift
from aivc_graph.operators.measurement.cell_pool import CellPoolMeasurement
from aivc_graph.operators.measurement.gaussian import GaussianMeasurement
from aivc_graph.operators.measurement.negative_binomial import NegativeBinomialMeasurement
from aivc_graph.operators.project.broadcast import BroadcastProject


@dataclass
class State:
    """Latent state of every level.

    `z` (node, latent); `own` (node,), 1 where a node was measured itself; `known` (node,), 1 where it has any state;
    `context` (node, latent), what neighbours alone say.
    """

    z: dict[str, Tensor] = field(default_factory=dict)
    own: dict[str, Tensor] = field(default_factory=dict)
    known: dict[str, Tensor] = field(default_factory=dict)
    context: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Hidden:
    """What the model may not see: whole nodes (node,) a (level, modality), and molecules shown (molecule,), 0 or 1."""

    nodes: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    shown: dict[tuple[str, str], Tensor] = field(default_factory=dict)


class Block(nn.Module):
    """One round of messages: lateral within a level, lift from fine to coarse, project back."""

    def __init__(self, plan: ModelPlan) -> None:
        super().__init__()
        rings, latent = plan.config.rings, plan.latent
        self.withins = plan.withins
        self.laterals = nn.ModuleDict({level: RingMeanLateral(latent, rings) for level in plan.laterals})
        self.lifts = nn.ModuleDict({f"{s}_{t}": SetSummaryLift(latent) for s, t in plan.withins})
        self.projects = nn.ModuleDict({f"{s}_{t}": BroadcastProject(latent) for s, t in plan.withins})

    def lateral_of(self, level: str) -> RingMeanLateral:
        """Return the lateral operator of `level`."""
        return cast(RingMeanLateral, self.laterals[level])

    def lift_of(self, child: str, parent: str) -> SetSummaryLift:
        """Return the lift from `child` to `parent`."""
        return cast(SetSummaryLift, self.lifts[f"{child}_{parent}"])

    def lateral(self, state: State, inputs: Inputs) -> State:
        """Pass messages between neighbours of each level."""
        for level in self.laterals:
            z, context = self.lateral_of(level)(state.z[level], state.known[level], inputs.rings[level])
            reached = share_known(inputs.rings[level][0], state.known[level])
            state.z[level], state.context[level] = z, context
            state.known[level] = torch.maximum(state.known[level], reached)
        return state

    def lift(self, state: State, inputs: Inputs) -> State:
        """Pass messages from children to parents, fine to coarse."""
        for child, parent in self.withins:
            overlap = inputs.lift[child, parent]
            reached = share_known(overlap, state.known[child])
            operator = self.lift_of(child, parent)
            state.z[parent] = operator(state.z[child], state.z[parent], state.own[parent], overlap, reached)
            state.known[parent] = torch.maximum(state.known[parent], reached)
        return state

    def project(self, state: State, inputs: Inputs) -> State:
        """Pass messages from parents to children, coarse to fine."""
        for child, parent in reversed(self.withins):
            overlap = inputs.project[child, parent]
            operator = self.projects[f"{child}_{parent}"]
            state.z[child] = operator(state.z[child], state.known[child], state.z[parent], overlap, covered(overlap))
        return state


class TissueModel(nn.Module):
    """Measurement operators around blocks of message passing.

    Parameters
    ----------
    plan
        Levels, panels and relations of the graphs it will see.
    depths
        Target depth [counts] of each (level, modality) of counts.
    """

    def __init__(self, plan: ModelPlan, depths: dict[tuple[str, str], float] | None = None) -> None:
        super().__init__()
        self.plan = plan
        counts = {(v, m): panel for v, by in plan.counts.items() for m, panel in by.items()}
        features = {(v, m): columns for v, by in plan.features.items() for m, columns in by.items()}
        self.counts = nn.ModuleDict(
            {
                f"{v}_{m}": NegativeBinomialMeasurement(len(p), plan.latent, (depths or {}).get((v, m), 1.0))
                for (v, m), p in counts.items()
            }
        )
        self.features = nn.ModuleDict(
            {f"{v}_{m}": GaussianMeasurement(len(c), plan.latent) for (v, m), c in features.items()}
        )
        sizes = {"_".join(key): len(plan.shared_columns(*key)[0]) for key in plan.pools}
        self.pools = nn.ModuleDict({key: CellPoolMeasurement(n) for key, n in sizes.items()})
        keys = [f"{v}_{m}" for v, m in (*counts, *features)]
        self.log_precision = nn.ParameterDict({key: nn.Parameter(torch.zeros(plan.latent)) for key in keys})
        self.blocks = nn.ModuleList(Block(plan) for _ in range(plan.config.depth))

    def count_operator(self, level: str, modality: str) -> NegativeBinomialMeasurement:
        """Return the measurement of counts of `modality` at `level`."""
        return cast(NegativeBinomialMeasurement, self.counts[f"{level}_{modality}"])

    def feature_operator(self, level: str, modality: str) -> GaussianMeasurement:
        """Return the measurement of dense features of `modality` at `level`."""
        return cast(GaussianMeasurement, self.features[f"{level}_{modality}"])

    @property
    def first_block(self) -> Block:
        """The block whose shares and kernels are fitted in closed form; later blocks start silent."""
        return cast(Block, self.blocks[0])

    def forward(self, inputs: Inputs, hidden: Hidden | None = None) -> State:
        """Return the state of every node given what is not hidden."""
        state = self.encode(inputs, hidden or Hidden())
        for block in self.blocks:
            state = cast(Block, block).lateral(state, inputs)
            state = cast(Block, block).lift(state, inputs)
            state = cast(Block, block).project(state, inputs)
        return state

    def encode(self, inputs: Inputs, hidden: Hidden) -> State:
        """Return each node's own state: a product of experts over the modalities it was measured by."""
        total = {level: torch.zeros(n, self.plan.latent, device=inputs.device) for level, n in inputs.n_nodes.items()}
        weight = {level: torch.zeros_like(t) for level, t in total.items()}
        for (level, modality), mask, value in self._experts(inputs, hidden):
            seen = (mask * (1 - hidden.nodes.get((level, modality), torch.zeros_like(mask))))[:, None]
            precision = seen * self.log_precision[f"{level}_{modality}"].exp()
            total[level] = total[level] + precision * value
            weight[level] = weight[level] + precision
        own = {level: (w.sum(dim=1) > 0).float() for level, w in weight.items()}
        z = {level: total[level] / weight[level].clamp_min(1e-12) for level in total}
        return State(z=z, own=own, known=dict(own), context={level: torch.zeros_like(t) for level, t in z.items()})

    def _experts(self, inputs: Inputs, hidden: Hidden) -> list[tuple[tuple[str, str], Tensor, Tensor]]:
        found = []
        for key, counted in inputs.counts.items():
            section, shown = inputs.section[key[0]], hidden.shown.get(key)
            value = self.count_operator(*key).encode(counted.scaled, counted.section_mean, section, shown)
            found.append((key, counted.mask, value))
        for key, data in inputs.features.items():
            operator = self.feature_operator(*key)
            standard = operator.standardise(data.features, data.section_mean, inputs.section[key[0]])
            found.append((key, data.mask, operator.encode(standard)))
        return found

    def pool_operator(self, child: str, parent: str, modality: str) -> CellPoolMeasurement:
        """Return what predicts the parent's counts from the children's."""
        return cast(CellPoolMeasurement, self.pools[f"{child}_{parent}_{modality}"])

    def expression(self, state: State, inputs: Inputs, level: str, modality: str = names.RNA) -> Tensor:
        """Return expected shares of each molecule (node, molecule) at `level`; rows sum to one.

        A node whose own counts were not seen but those of its children were is predicted from both its state and them.
        """
        shares = self.decoded(state, inputs, level, modality)
        for key, data in inputs.pools.items():
            if key[1:] == (level, modality):
                from_cells = self.pool_operator(*key)(shares, data.pooled, data.columns, data.depth)
                shares = torch.where(((1 - state.own[level]) * data.covered)[:, None] > 0, from_cells, shares)
        return shares

    def decoded(self, state: State, inputs: Inputs, level: str, modality: str = names.RNA) -> Tensor:
        """Return what the state alone says of the shares of each molecule (node, molecule)."""
        data = inputs.counts[level, modality]
        return self.count_operator(level, modality).shares(state.z[level], data.section_offset, inputs.section[level])
