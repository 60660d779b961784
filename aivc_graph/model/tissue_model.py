"""The first virtual tissue: encode observations, pass messages between levels, measure what comes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from aivc_graph import names
from aivc_graph.model.inputs import Inputs, covered
from aivc_graph.model.plan import ModelPlan
from aivc_graph.operators.intervention.component_shift import ComponentShift
from aivc_graph.operators.lateral.ring_mean import RingMeanLateral
from aivc_graph.operators.lift.set_summary import SetSummaryLift
from aivc_graph.operators.measurement.direct_readout import DirectReadout, log_shares
from aivc_graph.operators.measurement.gaussian import GaussianMeasurement
from aivc_graph.operators.measurement.negative_binomial import NegativeBinomialMeasurement
from aivc_graph.operators.measurement.neighbour_readout import NeighbourReadout, ring_sums
from aivc_graph.operators.project.broadcast import BroadcastProject
from aivc_graph.operators.project.composition import CompositionProject


@dataclass
class State:
    """Latent state of every level.

    `z` (node, latent); `own` and `counted` (node,), 1 where a node was measured itself, and sequenced; `known` (node,),
    from 0 (no state) to 1;
    `context` (node, latent), what neighbours alone say.
    """

    z: dict[str, Tensor] = field(default_factory=dict)
    own: dict[str, Tensor] = field(default_factory=dict)
    counted: dict[str, Tensor] = field(default_factory=dict)
    known: dict[str, Tensor] = field(default_factory=dict)
    context: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Expected:
    """Shares of each molecule, and log1p of scaled counts (node, molecule): what is expected where `looked_at`.

    Elsewhere the logarithm of what is expected. `looked_at` (node,): something tells expression directly; `around`
    (node,): the counts of neighbours do.
    """

    shares: Tensor
    logs: Tensor
    looked_at: Tensor
    around: Tensor


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
            known, rings = state.known[level], inputs.rings[level]
            operator = self.lateral_of(level)
            state.z[level], state.context[level], state.known[level] = operator(state.z[level], known, rings)
        return state

    def lift(self, state: State, inputs: Inputs) -> State:
        """Pass messages from children to parents, fine to coarse."""
        for child, parent in self.withins:
            overlap = inputs.lift[child, parent]
            known = (overlap @ state.known[child][:, None]).ravel()
            reached = (known > 0).float()
            operator = self.lift_of(child, parent)
            state.z[parent] = operator(state.z[child], state.z[parent], state.own[parent], overlap, reached)
            state.known[parent] = torch.where(state.known[parent] > 0, state.known[parent], known)
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
        reached = {"_".join(key): len(plan.shared_columns(*key)[0]) for key in plan.pools}
        reached |= {"_".join(key): len(counts[key[0], key[2]]) for key in plan.tiles}
        self.readouts = nn.ModuleDict({key: DirectReadout(n) for key, n in reached.items()})
        rings = len(plan.config.rings)
        self.neighbours = nn.ModuleDict(
            {f"{v}_{m}": NeighbourReadout(len(counts[v, m]), rings) for v, m in plan.neighbours}
        )
        sizes = {"_".join(k): (len(features[k[0], k[1]]), len(counts[k[0], k[2]])) for k in plan.tiles}
        self.tile_maps = nn.ParameterDict({key: nn.Parameter(torch.zeros(size)) for key, size in sizes.items()})
        self.compositions = nn.ModuleDict(
            {
                f"{s}_{t}": CompositionProject(len(plan.labels[s]), len(plan.shared_columns(s, t, names.RNA)[0]))
                for s, t in plan.compositions
            }
        )
        keys = [f"{v}_{m}" for v, m in (*counts, *features)]
        self.log_precision = nn.ParameterDict({key: nn.Parameter(torch.zeros(plan.latent)) for key in keys})
        self.blocks = nn.ModuleList(Block(plan) for _ in range(plan.config.depth))
        self.interventions = _component_shift(plan)

    def count_operator(self, level: str, modality: str) -> NegativeBinomialMeasurement:
        """Return the measurement of counts of `modality` at `level`."""
        return cast(NegativeBinomialMeasurement, self.counts[f"{level}_{modality}"])

    def feature_operator(self, level: str, modality: str) -> GaussianMeasurement:
        """Return the measurement of dense features of `modality` at `level`."""
        return cast(GaussianMeasurement, self.features[f"{level}_{modality}"])

    def composition_operator(self, child: str, parent: str) -> CompositionProject:
        """Return the projection from `parent` to the types of its `child` nodes."""
        return cast(CompositionProject, self.compositions[f"{child}_{parent}"])

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
        counted = {level: torch.zeros(n, device=inputs.device) for level, n in inputs.n_nodes.items()}
        for (level, modality), mask, value in self._experts(inputs, hidden):
            seen = (mask * (1 - hidden.nodes.get((level, modality), torch.zeros_like(mask))))[:, None]
            precision = seen * self.log_precision[f"{level}_{modality}"].exp()
            total[level] = total[level] + precision * value
            weight[level] = weight[level] + precision
            if (level, modality) in inputs.counts:
                counted[level] = torch.maximum(counted[level], seen[:, 0])
        own = {level: (w.sum(dim=1) > 0).float() for level, w in weight.items()}
        known = {level: own[level] * self._relative_precision(level, w) for level, w in weight.items()}
        z = {level: total[level] / weight[level].clamp_min(1e-12) for level in total}
        return State(
            z=z, own=own, counted=counted, known=known, context={level: torch.zeros_like(t) for level, t in z.items()}
        )

    def _relative_precision(self, level: str, weight: Tensor) -> Tensor:
        """Return how well each node is known (node,): 1 with counts of its own, down to 0.02 with features alone."""
        counted = [self.log_precision[f"{level}_{m}"].exp() for m in self.plan.counts.get(level, {})]
        if not counted:
            return torch.ones_like(weight[:, 0])
        return (weight / torch.stack(counted).sum(dim=0)).mean(dim=1).clamp(0.02, 1.0).detach()

    def _experts(self, inputs: Inputs, hidden: Hidden) -> list[tuple[tuple[str, str], Tensor, Tensor]]:
        found = []
        for key, counted in inputs.counts.items():
            section, shown = inputs.section[key[0]], hidden.shown.get(key)
            value = self.count_operator(*key).encode(counted.scaled, counted.section_mean, section, shown)
            found.append((key, counted.mask, value))
        for key, data in inputs.features.items():
            found.append((key, data.mask, self.feature_operator(*key).encode(self.standard_features(inputs, key))))
        return found

    def composition(self, state: State, inputs: Inputs, child: str, parent: str) -> Tensor:
        """Return the share of each type of `child` under every `parent` node (parent, type).

        From the parent's own counts; where those were not seen, from the expression predicted for it.
        """
        shared = self.plan.shared_columns(child, parent, names.RNA)[1]
        measured = inputs.counts[parent, names.RNA].counts.to_dense()[:, shared]
        depth = self.count_operator(parent, names.RNA).target_depth
        predicted = self.expression(state, inputs, parent)[:, shared] * depth
        answered = (state.known[parent] > 0).float()[:, None] * predicted
        counts = torch.where(state.counted[parent][:, None] > 0, measured, answered)
        nearest = inputs.rings[parent][0] if parent in inputs.rings else None
        return self.composition_operator(child, parent)(counts, nearest)

    def counted_state(self, inputs: Inputs, level: str, modality: str) -> Tensor:
        """Return what a node's own counts alone say of it (node, latent)."""
        data, section = inputs.counts[level, modality], inputs.section[level]
        return self.count_operator(level, modality).encode(data.scaled, data.section_mean, section)

    def readout(self, key: tuple[str, str, str]) -> DirectReadout:
        """Return the direct readout of (child, parent, modality) or (level, features, modality)."""
        return cast(DirectReadout, self.readouts["_".join(key)])

    def neighbour_readout(self, level: str, modality: str) -> NeighbourReadout:
        """Return the readout of the counts of neighbours of `modality` at `level`."""
        return cast(NeighbourReadout, self.neighbours[f"{level}_{modality}"])

    def expression(self, state: State, inputs: Inputs, level: str, modality: str = names.RNA) -> Tensor:
        """Return expected shares of each molecule (node, molecule) at `level`; rows sum to one, or nearly.

        A node whose own counts were not seen is predicted from its state and from what else was seen: its tile, the
        counts of the cells beneath it where there are any, and those of its neighbours.
        """
        return self.expected(state, inputs, level, modality).shares

    def expected(self, state: State, inputs: Inputs, level: str, modality: str = names.RNA) -> Expected:
        """Return what is expected of the nodes of `level`, as shares and as log counts."""
        depth = self._depth(level, modality)
        if (level, modality) not in self.plan.neighbours:
            shares, looked_at = self.apart(state, inputs, level, modality)
            return Expected(shares, torch.log1p(depth * shares), looked_at, torch.zeros_like(looked_at))
        readout = self.neighbour_readout(level, modality)
        mean, seen = readout.mean(*self.around(state, inputs, level, modality))
        # A readout that follows no neighbour leaves the state, or the tile, its own word.
        heard = seen & (readout.neighbour_share > 0)
        shares, looked_at = self.apart(state, inputs, level, modality, near=heard)
        logs = torch.log1p(depth * shares)
        mixed, here = readout(logs, mean), (state.counted[level] == 0) & heard
        shares = torch.where(here[:, None], readout.shares(mixed, depth), shares)
        return Expected(shares, torch.where(here[:, None], mixed, logs), looked_at | here, here)

    def apart(
        self, state: State, inputs: Inputs, level: str, modality: str = names.RNA, near: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return shares of each molecule (node, molecule) by all but the counts of neighbours.

        And of which nodes a tile, or counted cells beneath, tell them directly (node,). Tiles speak for sections that
        nobody sequenced: how far they are trusted is fitted there, so a node with counted neighbours, `near` (node,),
        is told by its state.
        """
        shares, depth = self.decoded(state, inputs, level, modality), self._depth(level, modality)
        looked_at = torch.zeros_like(state.counted[level], dtype=torch.bool)
        far = torch.ones_like(looked_at) if near is None else ~near
        tiles = [k for k in self.plan.tiles if (k[0], k[2]) == (level, modality) and (k[0], k[1]) in inputs.features]
        pools = [key for key in inputs.pools if key[1:] == (level, modality)]
        looks = [
            *((key, self.tile_look(inputs, key), far) for key in tiles),
            *((key, self.pooled(inputs, key), torch.ones_like(far)) for key in pools),
        ]
        for key, (direct, columns, seen), where in looks:
            here = (state.counted[level] == 0) & (seen > 0) & where
            shares = torch.where(here[:, None], self.readout(key)(shares, direct, columns, depth), shares)
            looked_at = looked_at | here
        return shares, looked_at

    def around(
        self, state: State, inputs: Inputs, level: str, modality: str = names.RNA
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return, a ring of neighbours, the sum of their log counts (node, molecule) and their number (node,)."""
        data = inputs.counts[level, modality]
        return ring_sums(data.scaled, data.mask * state.counted[level], inputs.rings[level])

    def _depth(self, level: str, modality: str) -> float:
        return float(self.count_operator(level, modality).target_depth)

    def pooled(self, inputs: Inputs, key: tuple[str, str, str]) -> tuple[Tensor, Tensor, Tensor]:
        """Return log shares of pooled counts of the cells beneath, the columns they reach, and who has cells."""
        data = inputs.pools[key]
        depth = float(self.count_operator(key[1], key[2]).target_depth)
        return log_shares(data.pooled, depth), data.columns, data.covered

    def tile_look(self, inputs: Inputs, key: tuple[str, str, str]) -> tuple[Tensor, Tensor, Tensor]:
        """Return what ridge on the features says of each molecule, the columns it reaches, and who has features."""
        level, feature, _ = key
        direct = self.standard_features(inputs, (level, feature)) @ self.tile_maps["_".join(key)]
        return direct, torch.arange(direct.shape[1], device=direct.device), inputs.features[level, feature].mask

    def standard_features(self, inputs: Inputs, key: tuple[str, str]) -> Tensor:
        """Return dense features (node, feature), standardised within their section."""
        data, section = inputs.features[key], inputs.section[key[0]]
        return self.feature_operator(*key).standardise(data.features, data.section_mean, data.section_spread, section)

    def decoded(self, state: State, inputs: Inputs, level: str, modality: str = names.RNA) -> Tensor:
        """Return what the state alone says of the shares of each molecule (node, molecule)."""
        data = inputs.counts[level, modality]
        return self.count_operator(level, modality).shares(state.z[level], data.section_offset, inputs.section[level])


def _component_shift(plan: ModelPlan) -> ComponentShift | None:
    if (done := plan.interventions) is None:
        return None
    molecules = len(plan.counts[done.level][done.modality])
    sizes = (len(done.keys), len(done.pairs), done.components, plan.latent, molecules, 1 + len(done.donors))
    return ComponentShift(*sizes)
