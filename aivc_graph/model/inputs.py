"""A graph (or one window of it) made ready for message passing: operators, scaled observations, masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.profiles import scale_counts
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr, to_torch_csr
from aivc_graph.model.plan import ModelPlan, panel_columns
from aivc_graph.operators.lateral.ring_mean import split_rings
from aivc_graph.operators.product import SparseOperator, row_mean


@dataclass(frozen=True)
class CountInput:
    """Counts of one modality at one level, restricted to its panel."""

    counts: Tensor
    scaled: SparseOperator
    section_mean: Tensor
    section_offset: Tensor
    mask: Tensor


@dataclass(frozen=True)
class FeatureInput:
    """Dense features of one modality at one level."""

    features: Tensor
    section_mean: Tensor
    section_spread: Tensor
    mask: Tensor


@dataclass(frozen=True)
class PoolInput:
    """Counts of children summed by overlap for each parent, for the molecules both measured."""

    pooled: Tensor
    columns: Tensor
    covered: Tensor


@dataclass(frozen=True)
class Inputs:
    """Everything the model reads, on one device. Keys are levels, (level, modality) or (child, parent)."""

    n_nodes: dict[str, int]
    section: dict[str, Tensor]
    split: dict[str, Tensor]
    counts: dict[tuple[str, str], CountInput]
    features: dict[tuple[str, str], FeatureInput]
    rings: dict[str, list[SparseOperator]]
    lift: dict[tuple[str, str], SparseOperator]
    project: dict[tuple[str, str], SparseOperator]
    pools: dict[tuple[str, str, str], PoolInput]

    @property
    def device(self) -> torch.device:
        """Device all tensors live on."""
        return next(iter(self.section.values())).device

    def in_training(self, level: str) -> Tensor:
        """Return who of `level` trains (node,), halo and core alike."""
        return self.split[level] == names.SPLITS.index(names.TRAIN)


def prepare(graph: TissueGraph, plan: ModelPlan, device: torch.device | str = "cpu") -> Inputs:
    """Return the inputs of `graph` for a model of `plan`; the graph itself is not changed."""
    levels = [level for level in plan.levels if level in graph.node_types]
    return Inputs(
        n_nodes={level: int(graph[level].num_nodes) for level in levels},
        section={level: graph[level].section_index.to(device) for level in levels},
        split={level: graph[level].split.to(device) for level in levels},
        counts={(v, m): _counts(graph, v, m, device) for v in plan.counts for m in plan.counts[v] if _has(graph, v, m)},
        features={
            (v, m): _features(graph, v, m, device) for v in plan.features for m in plan.features[v] if _has(graph, v, m)
        },
        rings={level: _rings(graph, level, plan.config.rings, device) for level in plan.laterals},
        lift={(s, t): _within(graph, s, t, device, lift=True) for s, t in plan.withins},
        project={(s, t): _within(graph, s, t, device, lift=False) for s, t in plan.withins},
        pools={key: _pool(graph, plan, key, device) for key in plan.pools if _has(graph, key[1], key[2])},
    )


def _has(graph: TissueGraph, level: str, modality: str) -> bool:
    return level in graph.node_types and names.mask_name(modality) in graph[level]


def _counts(graph: TissueGraph, level: str, modality: str, device: torch.device | str) -> CountInput:
    columns = panel_columns(graph, level, modality)
    csr = to_scipy_csr(graph.counts(level, modality))
    if len(columns) < csr.shape[1]:
        csr = csr[:, columns.numpy()]
    scaled = to_torch_csr(scale_counts(csr, graph[level][f"{modality}_depth"]))
    store = graph[names.SECTION]
    return CountInput(
        counts=to_torch_csr(csr).to(device),
        scaled=_operator(scaled, device),
        section_mean=store[f"{level}_{modality}_mean"][:, columns].to(device),
        section_offset=store[f"{level}_{modality}_offset"][:, columns].to(device),
        mask=graph[level][names.mask_name(modality)].float().to(device),
    )


def _features(graph: TissueGraph, level: str, modality: str, device: torch.device | str) -> FeatureInput:
    mean, spread = (graph[names.SECTION][f"{level}_{modality}_{what}"].to(device) for what in ("mean", "spread"))
    mask = graph[level][names.mask_name(modality)].float()
    return FeatureInput(graph[level][modality].to(device), mean, spread, mask.to(device))


def _pool(graph: TissueGraph, plan: ModelPlan, key: tuple[str, str, str], device: torch.device | str) -> PoolInput:
    child, parent, modality = key
    own, shared = plan.shared_columns(child, parent, modality)
    columns = panel_columns(graph, child, modality).numpy()[own]
    overlap = to_scipy_csr(graph[child, names.WITHIN, parent].adj_t)
    pooled = (overlap @ to_scipy_csr(graph.counts(child, modality))[:, columns]).toarray()
    return PoolInput(
        pooled=torch.from_numpy(pooled.astype(np.float32)).to(device),
        columns=torch.tensor(shared, device=device),
        covered=torch.from_numpy((pooled.sum(axis=1) > 0).astype(np.float32)).to(device),
    )


def _rings(graph: TissueGraph, level: str, rings: tuple[int, ...], device: torch.device | str) -> list[SparseOperator]:
    relation = graph[level, names.NEAR, level]
    return [_operator(part, device) for part in split_rings(relation.adj_t, relation.distance_um, rings)]


def _within(graph: TissueGraph, source: str, target: str, device: torch.device | str, *, lift: bool) -> SparseOperator:
    overlap = graph[source, names.WITHIN, target].adj_t
    if not lift:
        overlap = to_torch_csr(to_scipy_csr(overlap).T)
    return _operator(row_mean(overlap), device)


def _operator(csr: Tensor, device: torch.device | str) -> SparseOperator:
    operator = SparseOperator.of(csr)
    return SparseOperator(operator.forward_csr.to(device), operator.backward_csr.to(device))


def covered(operator: SparseOperator) -> Tensor:
    """Return who receives any message (target,): 1 or 0."""
    return (operator.forward_csr.crow_indices().diff() > 0).float()


def hidden_nodes(inputs: Inputs, level: str, share: float, generator: np.random.Generator) -> Tensor:
    """Return a random choice of nodes of `level` whose own counts are hidden (node,): 1 hidden, 0 shown."""
    return torch.from_numpy((generator.random(inputs.n_nodes[level]) < share).astype(np.float32)).to(inputs.device)
