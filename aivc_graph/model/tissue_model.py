"""The virtual tissue: encode observations, pass messages between levels, say what comes out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from aivc_graph import names
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.plan import MESSAGES, ModelPlan
from aivc_graph.operators.gate import QUESTIONS, Gate
from aivc_graph.operators.part import KINDS, AbstractPart, Device, Step
from aivc_graph.operators.state import Expected, Hidden, Inputs, State


class TissueModel(nn.Module):
    """Measurement operators around blocks of message passing.

    Parameters
    ----------
    plan
        The parts, and what each was made after.
    """

    def __init__(self, plan: ModelPlan) -> None:
        super().__init__()
        self.plan = plan
        self.kinds = nn.ModuleDict({kind: nn.ModuleDict() for kind in KINDS if kind not in MESSAGES})
        self.blocks = nn.ModuleList(
            nn.ModuleDict({kind: nn.ModuleDict() for kind in MESSAGES}) for _ in range(plan.config.depth)
        )
        for spec in plan.parts:
            for place in self.blocks if spec.kind in MESSAGES else [self.kinds]:
                part = spec.make()
                cast(nn.ModuleDict, cast(nn.ModuleDict, place)[spec.kind])[part.name] = part

    @property
    def latent(self) -> int:
        """Size of the state."""
        return self.plan.latent

    @property
    def steps(self) -> list[Step]:
        """The message-passing steps in order."""
        return self.plan.steps

    def parts(self) -> Iterator[AbstractPart]:
        """Yield the parts that are fitted in closed form: all but those of later blocks, which start silent."""
        for kind in KINDS:
            yield from self.parts_of(kind)

    def parts_of(self, kind: str) -> Iterator[Any]:
        """Yield the parts of a kind, those of the first block where it passes messages."""
        place = self.blocks[0] if kind in MESSAGES else self.kinds
        yield from cast(nn.ModuleDict, cast(nn.ModuleDict, place)[kind]).values()

    def part(self, kind: str, *slot: str) -> Any:
        """Return the part of a kind at a slot."""
        return next(part for part in self.parts_of(kind) if part.slot == slot)

    def count_operator(self, level: str, modality: str) -> Any:
        """Return the measurement of counts of `modality` at `level`."""
        return self.part("measurement", level, modality)

    def state_maker(self, level: str) -> Any:
        """Return the measurement that the state of `level` is made of; None where it has features alone, or nothing."""
        return next((one for one in self.parts_of("measurement") if one.plan.level == level and one.plan.first), None)

    @property
    def interventions(self) -> Any:
        """The operator of what was done to the tissue; None where nothing was."""
        return next((one for one in self.parts_of("intervention") if one.plan == self.plan.interventions), None)

    @contextmanager
    def asked(self, question: str) -> Iterator[TissueModel]:
        """Let every correction through as far as it helps one of `QUESTIONS`."""
        gates = [module for module in self.modules() if isinstance(module, Gate)]
        before = [gate.question for gate in gates]
        for gate in gates:
            gate.question = QUESTIONS.index(question)
        try:
            yield self
        finally:
            for gate, old in zip(gates, before, strict=True):
                gate.question = old

    def prepare(self, graph: TissueGraph, device: Device = "cpu") -> Inputs:
        """Return the inputs of a graph or a window of it; the graph itself is not changed."""
        levels = [level for level in self.plan.levels if level in graph.node_types]
        return Inputs(
            n_nodes={level: int(graph[level].num_nodes) for level in levels},
            section={level: graph[level].section_index.to(device) for level in levels},
            split={level: graph[level].split.to(device) for level in levels},
            place={level: _place(graph, level).to(device) for level in levels},
            by_part={
                (part.kind, *part.slot): data
                for part in self.parts()
                if (data := part.prepare(graph, device)) is not None
            },
        )

    def forward(self, inputs: Inputs, hidden: Hidden | None = None, generator: torch.Generator | None = None) -> State:
        """Return the state of every node given what is not hidden; with a `generator` own states are drawn."""
        state = self.encode(inputs, hidden or Hidden())
        if generator is not None:
            state.z = {level: _drawn(mean, state.precision[level], generator) for level, mean in state.mean.items()}
        for block in self.blocks:
            for kind in MESSAGES:
                for part in cast(nn.ModuleDict, cast(nn.ModuleDict, block)[kind]).values():
                    cast(Any, part).pass_on(state, inputs)
        return state

    def encode(self, inputs: Inputs, hidden: Hidden) -> State:
        """Return each node's own state: a product of experts over the modalities it was measured by."""
        total = {level: torch.zeros(n, self.latent, device=inputs.device) for level, n in inputs.n_nodes.items()}
        weight = {level: torch.zeros_like(t) for level, t in total.items()}
        counted = {level: torch.zeros(n, device=inputs.device) for level, n in inputs.n_nodes.items()}
        seen_by: dict[tuple[str, str], Tensor] = {}
        for part in self.parts_of("measurement"):
            level, data = part.plan.level, inputs.measured(*part.slot)
            seen, shown = hidden.seen(part.key, data.mask), hidden.shown.get(part.key)
            seen_by[part.key] = seen
            if not part.seen:
                continue
            precision = seen[:, None] * part.precision(data, shown)
            total[level] = total[level] + precision * part.encode(data, shown)
            weight[level] = weight[level] + precision
            if part.measures:
                counted[level] = torch.maximum(counted[level], seen)
        own = {level: (w.sum(dim=1) > 0).float() for level, w in weight.items()}
        known = {level: own[level] * self._relative_precision(level, w) for level, w in weight.items()}
        z = {level: total[level] / weight[level].clamp_min(1e-12) for level in total}
        context = {level: torch.zeros_like(t) for level, t in z.items()}
        return State(z, own, counted, known, context, seen=seen_by, mean=dict(z), precision=weight)

    def _relative_precision(self, level: str, weight: Tensor) -> Tensor:
        """Return how well each node is known (node,): 1 if measured itself, down to 0.02 with features alone."""
        parts = [one for one in self.parts_of("measurement") if one.plan.level == level and one.measures]
        if not parts:
            return torch.ones_like(weight[:, 0])
        full = torch.stack([one.log_precision.exp() for one in parts]).sum(dim=0)
        return (weight / full).mean(dim=1).clamp(0.02, 1.0).detach()

    def composition(self, state: State, inputs: Inputs, child: str, parent: str) -> Tensor:
        """Return the share of each type of `child` under every `parent` node (parent, type)."""
        depth = float(self.count_operator(parent, names.RNA).target_depth)
        return self.part("composition", child, parent).of(state, inputs, self.expected(state, inputs, parent), depth)

    def expression(self, state: State, inputs: Inputs, level: str, modality: str = names.RNA) -> Tensor:
        """Return expected shares of each molecule (node, molecule) at `level`; rows sum to one, or nearly.

        Of intensities, what is expected of each marker in the units of the file.

        A node whose own counts were not seen is predicted from its state and from what else was seen: its tile, the
        counts of the cells beneath it where there are any, and those of its neighbours.
        """
        return self.expected(state, inputs, level, modality).shares

    def decoded(self, state: State, inputs: Inputs, level: str, modality: str = names.RNA) -> Tensor:
        """Return what the state alone says of the shares of each molecule, or of intensities (node, molecule)."""
        return self._decoded(state, inputs, level, modality)[0]

    def _decoded(self, state: State, inputs: Inputs, level: str, modality: str) -> tuple[Tensor, Tensor]:
        part = self.part("measurement", level, modality)
        return cast(tuple[Tensor, Tensor], part.expected(state.z[level], inputs.measured(level, modality)))

    def expected(
        self, state: State, inputs: Inputs, level: str, modality: str = names.RNA, without: Any = None
    ) -> Expected:
        """Return what is expected of the nodes of `level`, in units and in terms; `without` one prediction."""
        nobody = torch.zeros_like(state.counted[level], dtype=torch.bool)
        told = Expected(*self._decoded(state, inputs, level, modality), nobody, nobody)
        parts = sorted(
            (part for part in self.parts_of("prediction") if part.target == (level, modality)), key=lambda p: p.rank
        )
        speaks = {part: part.speaks(state, inputs, fitted=part is not without) for part in parts}
        around = torch.stack([nobody, *(speaks[part] for part in parts if part.looks_around)]).any(dim=0)
        for part in parts:
            if part is not without:
                here = speaks[part] & ~around if part.yields else speaks[part]
                told = part.tell(told, state, inputs, here)
        return told

    def spoken_of(self, state: State, inputs: Inputs, level: str, modality: str) -> Tensor:
        """Return the nodes of `level` that any prediction tells of from what else was seen, boolean (node,)."""
        spoken = torch.zeros_like(state.counted[level], dtype=torch.bool)
        for part in self.parts_of("prediction"):
            if part.target == (level, modality):
                spoken = spoken | part.speaks(state, inputs)
        return spoken


def _drawn(mean: Tensor, precision: Tensor, generator: torch.Generator) -> Tensor:
    """Return a draw of what measurements tell of each node (node, latent); the mean, nothing, where there are none."""
    noise = torch.randn(mean.shape, generator=generator).to(mean)
    return torch.where(precision > 0, mean + noise * precision.clamp_min(1e-12).rsqrt(), mean)


def _place(graph: TissueGraph, level: str) -> Tensor:
    """Return the region each node of a level lies in (node,)."""
    store = graph[level]
    return store.region_index if "region_index" in store else torch.arange(store.num_nodes)
