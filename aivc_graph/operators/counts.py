"""Counts of one modality at one level, as parts read them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.panels import panel_columns
from aivc_graph.graph.profiles import scale_counts
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr, to_torch_csr
from aivc_graph.operators.product import SparseOperator


@dataclass(frozen=True)
class CountInput:
    """Counts restricted to their panel.

    Shapes
    ------
    `counts` CSR (node, molecule) and `scaled`, their log1p at the level's depth; `section_mean` and `section_offset`
    (section, molecule); `section` and `mask` (node,).
    """

    counts: Tensor
    scaled: SparseOperator
    section_mean: Tensor
    section_offset: Tensor
    section: Tensor
    mask: Tensor


def prepare_counts(
    graph: TissueGraph, level: str, modality: str, depth: float, device: torch.device | str
) -> CountInput:
    """Return the counts of a window, scaled to `depth` [counts]."""
    columns = panel_columns(graph, level, modality)
    csr = to_scipy_csr(graph.counts(level, modality))
    if len(columns) < csr.shape[1]:
        csr = csr[:, columns.numpy()]
    store = graph[names.SECTION]
    return CountInput(
        counts=to_torch_csr(csr).to(device),
        scaled=SparseOperator.of(to_torch_csr(scale_counts(csr, depth))).to(device),
        section_mean=store[f"{level}_{modality}_mean"][:, columns].to(device),
        section_offset=store[f"{level}_{modality}_offset"][:, columns].to(device),
        section=graph[level].section_index.to(device),
        mask=graph[level][names.mask_name(modality)].float().to(device),
    )


def thinned(
    data: CountInput, training: Tensor, depth: float, share: float, generator: np.random.Generator
) -> tuple[CountInput, CountInput]:
    """Split counts of `training` nodes (node,) binomially into two independent parts, each scaled as if it were whole.

    Other nodes are not drawn for, so that what they hold does not move the lot of those that train.
    """
    csr = to_scipy_csr(data.counts.cpu())
    drawn = np.repeat(training.cpu().numpy(), np.diff(csr.indptr))
    kept = csr.copy()
    kept.data[drawn] = generator.binomial(np.maximum(csr.data[drawn], 0).astype(np.int64), share).astype(np.float32)
    rest = csr.copy()
    rest.data = csr.data - kept.data
    parts = []
    for part in (kept, rest):
        part.eliminate_zeros()
        device = data.counts.device
        scaled = SparseOperator(to_torch_csr(scale_counts(part, depth)).to(device), data.scaled.backward_csr)
        whole = to_torch_csr(part).to(device)
        parts.append(CountInput(whole, scaled, data.section_mean, data.section_offset, data.section, data.mask))
    return parts[0], parts[1]


def log_shares(values: Tensor, depth: float) -> Tensor:
    """Return ``log1p(depth · values / Σ values)``, row by row."""
    return torch.log1p(depth * values / values.sum(dim=1, keepdim=True).clamp_min(1e-12))
