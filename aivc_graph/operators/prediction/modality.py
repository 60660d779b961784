"""One modality of a node told from another that was seen of it: protein from RNA, RNA from chromatin, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from aivc_graph import names
from aivc_graph.graph.panels import measured_molecules, panel, panel_columns
from aivc_graph.graph.profiles import measured_share
from aivc_graph.graph.terms import Depth, dense, depth_of, in_terms, raw_values, shares_of, told_apart
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.expected_terms import terms_of
from aivc_graph.operators.gate import shut
from aivc_graph.operators.measured import mean_there
from aivc_graph.operators.part import FURTHER_ENCODERS, KINDS, LAST_ANSWERS, Device, Fitting, Shape
from aivc_graph.operators.prediction.modality_map import MapPlan, ModalityMap
from aivc_graph.operators.prediction.modality_rules import LEAST_TRAINED, folds
from aivc_graph.operators.prediction.prediction import AbstractPrediction
from aivc_graph.operators.state import Expected, Fold, Hidden, Inputs, State
from aivc_graph.settings import Settings
from aivc_graph.tissue.evenly import evenly

Floats = NDArray[np.floating[Any]]
# Cells that anything is fitted to, evenly taken.
MOST_CELLS = 10_000
# Share of training nodes that are hidden to see how well they are told by what surrounds them.
HIDDEN = 0.25


class ModalityPlan(Settings):
    """A level and the modality that is told there, from which others; the depth its counts are scaled to."""

    level: str
    modality: str
    depth: Depth
    sources: tuple[MapPlan, ...]


@dataclass(frozen=True)
class ModalityInput:
    """What was measured of a window's nodes by modality (node, molecule), shared with the graph.

    And, where sections measured a part of the panel alone, which part (section, molecule), and how much of all counts
    that makes up (section,).
    """

    raw: dict[str, Any]
    measured: dict[str, NDArray[np.bool_]]
    covered: dict[str, Floats]


@KINDS["prediction"].register("modality")
class ModalityPrediction(AbstractPrediction):
    """Tells one modality of nodes from another; where several were seen, from the one with the least error left out.

    What it learns from are training nodes with both, all but the one hidden from the state. Of nodes whose section
    measured a part of the panel the rest is told from that part as well; nodes of which all of the target was seen are
    left as they are told otherwise. With fewer than forty such nodes it is silent: the nested baseline,
    the mean, then stands alone. Nodes that neighbours tell of are left to them where these err less than it does.
    """

    around_error: Tensor

    Plan = ModalityPlan
    plan: ModalityPlan
    stages: ClassVar[Mapping[str, str]] = {LAST_ANSWERS: "fit"}
    rank: ClassVar[int] = 3

    def __init__(self, plan: ModalityPlan) -> None:
        super().__init__(plan)
        self.maps = nn.ModuleDict({one.modality: ModalityMap(one) for one in plan.sources})
        self.register_buffer("around_error", torch.tensor(torch.inf))

    @classmethod
    def serves(cls, graph: TissueGraph, shape: Shape) -> list[ModalityPlan]:
        """Return a plan for each modality that stands beside another at its level."""
        found = []
        for level in graph.levels:
            there = told_apart(graph, level)
            train = graph.in_split(level, names.TRAIN)
            seen = {one: graph[level][names.mask_name(one)] & train for one in there}
            for target in there:
                sources = tuple(
                    MapPlan(
                        modality=one, n_features=len(panel(graph, level, one)), depth=depth_of(graph, level, one),
                        n_cells=int((seen[one] & seen[target]).sum()), n_targets=len(panel(graph, level, target)),
                        latent=shape.latent, free=target == names.ADT,
                    )
                    for one in there
                    if one != target
                )  # fmt: skip
                if sources:
                    depth = depth_of(graph, level, target)
                    found.append(ModalityPlan(level=level, modality=target, depth=depth, sources=sources))
        return found

    @property
    def slot(self) -> tuple[str, ...]:
        """Level, what tells it, and modality: what neighbours tell of the same stands beside it."""
        return (self.plan.level, "others", self.plan.modality)

    @property
    def target(self) -> tuple[str, str]:
        """Level and modality."""
        return (self.plan.level, self.plan.modality)

    def prepare(self, graph: TissueGraph, device: Device) -> ModalityInput:
        """Return what was measured of a window."""
        level = self.plan.level
        there = [one for one in (self.plan.modality, *self.maps) if one in graph.modalities(level)]
        raw = {one: raw_values(graph, level, one) for one in there}
        counted = [one for one in there if one in names.MOLECULE_OF]
        known = {
            one: measured_molecules(graph, level, one)[:, panel_columns(graph, level, one)].numpy() for one in counted
        }
        partly = {one: mask for one, mask in known.items() if not mask.all()}
        return ModalityInput(raw, partly, {one: measured_share(graph, level, one) for one in partly})

    def fit(self, fitting: Fitting) -> None:
        """Fit each map to training nodes with both modalities, weights chosen on donors left out in turn.

        They are chosen by states that nothing learnt by gradient has a part in: it was taught by the targets of these
        very nodes, left out or not. A state is about the mean of its section, so that of another donor it does not tell
        the level; where one donor trains, no other can be left out to see what that costs, and the state is not heard.
        """
        donor = fitting.donor
        for source in self.plan.sources:
            pieces = [self._cells(fold, source, donor) for fold in fitting.training]
            x, y = (_stacked([piece[i] for piece in pieces]) for i in (0, 1))
            group = np.concatenate([piece[2] for piece in pieces])
            state = self._states(fitting, source, group)
            with shut(cast(nn.Module, fitting.model)):
                unlearnt = self._states(fitting, source, group)
            if len(np.unique(group)) == 1 and (fitting.new_donor >= 0).any():
                state, unlearnt = np.zeros_like(state), np.zeros_like(unlearnt)
            some = evenly(len(group), MOST_CELLS)
            self._map(source.modality).fit(x[some], state[some], y[some], group[some], unlearnt[some])
        self.around_error.fill_(self._error_around(fitting))

    def _error_around(self, fitting: Fitting) -> float:
        """Return the squared error of what is told without this part of hidden training nodes that have neighbours.

        As a share of the mean's, as `ModalityMap.error` is; infinite where nobody has neighbours.
        """
        left = size = 0.0
        rng = np.random.default_rng(fitting.seed)
        for fold in fitting.training:
            rows = np.unique(np.concatenate([self._both(fold, one) for one in self.plan.sources]))
            hidden = torch.zeros(fold.inputs.n_nodes[self.plan.level], device=fold.inputs.device)
            hidden[torch.from_numpy(rows[rng.random(len(rows)) < HIDDEN])] = 1.0
            state = fitting.model(fold.inputs, Hidden(nodes={self.target: hidden}))
            told = fitting.model.expected(state, fold.inputs, *self.target, without=self)
            asked = torch.nonzero(told.around & (hidden > 0))[:, 0].cpu().numpy()
            if asked.size:
                known = self._known(fold.inputs, self.plan.modality, asked)
                true = _known_only(dense(self._values(fold.inputs, self.plan.modality, self.plan.depth, asked)), known)
                left += float(np.nansum((told.logs[asked].cpu().numpy() - true) ** 2))
                size += float(np.nansum((true - self._map(self.plan.sources[0].modality).mean.cpu().numpy()) ** 2))
        return left / size if size > 0 else float("inf")

    def _states(self, fitting: Fitting, source: MapPlan, group: NDArray[np.int64]) -> Floats:
        """Return the states of all training nodes with both modalities, of which the source alone is seen."""
        state = np.concatenate(
            [self._state(fitting, fold, source)[self._both(fold, source)] for fold in fitting.training]
        )
        if len(group) >= LEAST_TRAINED and self._leads_into_target(fitting, source):
            return self._state_apart(fitting, source, folds(group) % 2, state)
        return state

    def _leads_into_target(self, fitting: Fitting, source: MapPlan) -> bool:
        """Say whether what the state makes of a source was fitted to the target itself."""
        of_target, of_source = (
            fitting.model.part("measurement", self.plan.level, one) for one in (self.plan.modality, source.modality)
        )
        return bool(of_target.plan.first and of_source.fits(FURTHER_ENCODERS) and not of_source.plan.first)

    def _state_apart(self, fitting: Fitting, source: MapPlan, half: NDArray[np.integer[Any]], state: Floats) -> Floats:
        """Return states that each half of the cells (cell,) has by an encoder fitted to the other half.

        One fitted to all would know the targets of cells that are left out, and get more of the word than it is worth.
        """
        level = self.plan.level
        part = fitting.model.part("measurement", level, source.modality)
        rows, found = [self._both(fold, source) for fold in fitting.training], state.copy()
        kept = {name: value.clone() for name, value in part.named_buffers()}
        for own in (0, 1):
            learners, ends = [], np.cumsum([0, *map(len, rows)])
            for fold, mine, start in zip(fitting.training, rows, ends, strict=False):
                weight = torch.zeros_like(fold.rows[level])
                weight[torch.from_numpy(mine[half[start : start + len(mine)] != own])] = 1.0
                learners.append(Fold(fold.inputs, {**fold.rows, level: weight}))
            part.fits(FURTHER_ENCODERS)(replace(fitting, training=learners))
            told = [self._state(fitting, one, source)[at] for one, at in zip(learners, rows, strict=True)]
            found[half == own] = np.concatenate(told)[half == own]
        for name, value in kept.items():
            part.get_buffer(name).copy_(value)
        return found

    def told(self, state: State, inputs: Inputs, here: Tensor | None = None) -> tuple[Floats, NDArray[np.bool_]] | None:
        """Return what is told of the nodes `here` in the terms of the modality (node, molecule), and of whom (node,).

        All nodes of which another modality was seen, if not given. None where nothing was learned.
        """
        source = self._source(state)
        if source is None:
            return None
        rows = source >= 0 if here is None else (source >= 0) & here.cpu().numpy()
        found = np.zeros((len(rows), self.plan.sources[0].n_targets), np.float32)
        z = state.z[self.plan.level].detach().double().cpu().numpy()
        for i, one in enumerate(self.plan.sources):
            if (mine := np.flatnonzero(rows & (source == i))).size:
                x, known = self._values(inputs, one.modality, one.depth, mine), self._known(inputs, one.modality, mine)
                found[mine] = self._map(one.modality)(x, z[mine], known)
                part = mine[self._partly(state, inputs).cpu().numpy()[mine]]
                if part.size:
                    found[part] = self._completed(self._map(one.modality), found[part], inputs, part)
        return found, rows

    def _completed(self, by: ModalityMap, told: Floats, inputs: Inputs, rows: NDArray[np.int64]) -> Floats:
        """Return what is told of nodes of which a part of the panel was measured, told from that part as well."""
        data: ModalityInput = inputs["prediction", *self.slot]
        target, known = self.plan.modality, self._known(inputs, self.plan.modality, rows)
        assert known is not None
        values = data.raw[target][rows] if target == names.ADT else self._values(inputs, target, self.plan.depth, rows)
        return by.completed(told, dense(values), known)

    def speaks(self, state: State, inputs: Inputs, *, fitted: bool = True) -> Tensor:
        """Return the nodes of which another modality was seen, and this one was not, or a part of the panel alone."""
        source = self._source(state, fitted=fitted)
        nobody = torch.zeros_like(state.counted[self.plan.level], dtype=torch.bool)
        if source is None:
            return nobody
        open_ = ~self._seen(state) | self._partly(state, inputs)
        return torch.from_numpy(source >= 0).to(nobody.device) & open_

    def tell(self, told: Expected, state: State, inputs: Inputs, here: Tensor) -> Expected:
        """Return what is expected, told from the other modality for the nodes `here`."""
        source = self._source(state)
        if source is None:
            return told
        error = torch.stack([self._map(one.modality).error for one in self.plan.sources]).to(self.around_error)
        better_told = told.around & (error >= self.around_error)[torch.from_numpy(source).to(here.device)]
        here = here & ~better_told
        found = self.told(state, inputs, here)
        if found is None or not found[1].any():
            return told
        shares = told.shares.clone()
        said = shares_of(found[0][found[1]], self.plan.modality, self.plan.depth)
        shares[torch.from_numpy(found[1])] = torch.from_numpy(said).to(shares)
        logs = torch.where(here[:, None], terms_of(shares, self.plan.depth), told.logs)
        return Expected(shares, logs, told.looked_at | here, told.around)

    def _map(self, source: str) -> ModalityMap:
        return cast(ModalityMap, self.maps[source])

    def _seen(self, state: State) -> Tensor:
        return state.seen[self.target] > 0

    def _partly(self, state: State, inputs: Inputs) -> Tensor:
        """Return of whom a part of the panel was seen that the rest can be told from (node,)."""
        data: ModalityInput = inputs["prediction", *self.slot]
        if self.plan.modality not in data.measured or all(self._map(one).rest is None for one in self.maps):
            return torch.zeros_like(self._seen(state))
        part = ~torch.from_numpy(data.measured[self.plan.modality]).all(dim=1).to(inputs.device)
        return self._seen(state) & part[inputs.section[self.plan.level]]

    def _source(self, state: State, *, fitted: bool = True) -> NDArray[np.int64] | None:
        """Return which source tells each node (node,), -1 where none was seen; None where nothing was learned."""
        able = [i for i, one in enumerate(self.plan.sources) if self._map(one.modality).fitted or not fitted]
        if not able:
            return None
        source = np.full(len(state.counted[self.plan.level]), -1)
        for i in sorted(able, key=lambda i: -float(self._map(self.plan.sources[i].modality).error)):
            seen = state.seen.get((self.plan.level, self.plan.sources[i].modality))
            if seen is not None:
                source[seen.cpu().numpy() > 0] = i
        return source

    def _values(self, inputs: Inputs, modality: str, depth: Depth, rows: NDArray[np.int64]) -> Any:
        data: ModalityInput = inputs["prediction", *self.slot]
        section = inputs.section[self.plan.level].cpu().numpy()[rows]
        own = cast(float, depth) * data.covered[modality][section] if modality in data.covered else depth
        return in_terms(data.raw[modality][rows], modality, own, self._known(inputs, modality, rows))

    def _known(self, inputs: Inputs, modality: str, rows: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """Return which molecules were measured of each row (row, molecule); None where all of the panel were."""
        data: ModalityInput = inputs["prediction", *self.slot]
        if modality not in data.measured:
            return None
        return data.measured[modality][inputs.section[self.plan.level].cpu().numpy()[rows]]

    def _cells(self, fold: Fold, source: MapPlan, donor: NDArray[np.int64]) -> tuple[Any, Any, NDArray[np.int64]]:
        """Return features, target and donor of the training nodes of a window that have both modalities."""
        level, inputs, rows = self.plan.level, fold.inputs, self._both(fold, source)
        x, y = (
            _known_only(self._values(inputs, one, depth, rows), self._known(inputs, one, rows))
            for one, depth in ((source.modality, source.depth), (self.plan.modality, self.plan.depth))
        )
        return x, y, donor[inputs.section[level].cpu().numpy()[rows]]

    def _both(self, fold: Fold, source: MapPlan) -> NDArray[np.int64]:
        """Return the training nodes of a window that have source and target."""
        masks = [fold.inputs.measured(self.plan.level, one).mask for one in (source.modality, self.plan.modality)]
        return fold.training(self.plan.level, masks[0] * masks[1])

    def _state(self, fitting: Fitting, fold: Fold, source: MapPlan) -> Floats:
        """Return the state of every node of a window (node, latent) of which nothing but the source is seen."""
        level = self.plan.level
        others = {self.plan.modality, *self.maps} - {source.modality}
        nobody = torch.ones(fold.inputs.n_nodes[level], device=fold.inputs.device)
        state = fitting.model(fold.inputs, Hidden(nodes={(level, one): nobody for one in others}))
        return np.asarray(state.z[level].double().cpu().numpy())


def _known_only(values: Any, known: NDArray[np.bool_] | None) -> Any:
    """Return values (row, molecule), NaN where a molecule was not measured."""
    return values if known is None else np.where(known, dense(values), np.nan)


def _stacked(pieces: list[Any]) -> Any:
    """Return all rows; what was not measured of one is as on average over the others."""
    if all(sparse.issparse(piece) for piece in pieces):
        return sparse.vstack(pieces, format="csr")
    values = np.concatenate([dense(piece) if sparse.issparse(piece) else piece for piece in pieces])
    known = np.isfinite(values)
    return values if known.all() else np.where(known, values, mean_there(values, known))
