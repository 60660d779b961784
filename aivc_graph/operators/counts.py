"""Counts of one modality at one level, as parts read them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.panels import measured_molecules, panel_columns
from aivc_graph.graph.profiles import measured_share, scale_counts
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr, to_torch_csr
from aivc_graph.operators.product import SparseOperator


@dataclass(frozen=True)
class CountInput:
    """Counts restricted to their panel.

    Shapes
    ------
    `counts` CSR (node, molecule) and `scaled`, their log1p at the level's depth; `section_mean` and `section_offset`
    (section, molecule); `panels` (panel, molecule), 1 or 0, the distinct ones that sections measured, and `panel_of`
    (section,) which of these each has, as far as it has nodes; `covered` (section,), how much of all counts its panel
    makes up in the common profile; `section` and `mask` (node,).
    """

    counts: Tensor
    scaled: SparseOperator
    section_mean: Tensor
    section_offset: Tensor
    panels: Tensor
    panel_of: Tensor
    covered: Tensor
    section: Tensor
    mask: Tensor

    @property
    def there(self) -> Tensor | None:
        """Which molecules sections measured, boolean (section, molecule); None where all did."""
        return None if bool(self.panels.all()) else self.panels[self.panel_of] > 0


def prepare_counts(
    graph: TissueGraph, level: str, modality: str, depth: float, device: torch.device | str
) -> CountInput:
    """Return the counts of a window, scaled to `depth` [counts]."""
    columns = panel_columns(graph, level, modality)
    csr = to_scipy_csr(graph.counts(level, modality))
    if len(columns) < csr.shape[1]:
        csr = csr[:, columns.numpy()]
    store, section = graph[names.SECTION], graph[level].section_index
    measured = measured_molecules(graph, level, modality)[:, columns].float()
    # Of sections that have no node in the window nothing is read.
    here = section.unique() if len(section) else torch.arange(len(measured))
    panels, panel_of = measured[here[:1]], torch.zeros(len(measured), dtype=torch.int64)
    if not bool((measured[here] == panels).all()):
        panels, panel_of[here] = torch.unique(measured[here], dim=0, return_inverse=True)
    covered = measured_share(graph, level, modality)
    return CountInput(
        counts=to_torch_csr(csr).to(device),
        scaled=SparseOperator.of(to_torch_csr(scale_counts(csr, depth * covered[section.numpy()]))).to(device),
        section_mean=store[f"{level}_{modality}_mean"][:, columns].to(device),
        section_offset=store[f"{level}_{modality}_offset"][:, columns].to(device),
        panels=panels.to(device),
        panel_of=panel_of.to(device),
        covered=torch.from_numpy(covered).float().to(device),
        section=section.to(device),
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
        own = depth * data.covered[data.section].cpu().numpy()
        scaled = SparseOperator(to_torch_csr(scale_counts(part, own)).to(device), data.scaled.backward_csr)
        parts.append(replace(data, counts=to_torch_csr(part).to(device), scaled=scaled))
    return parts[0], parts[1]


def log_shares(values: Tensor, depth: float) -> Tensor:
    """Return ``log1p(depth · values / Σ values)``, row by row."""
    return torch.log1p(depth * values / values.sum(dim=1, keepdim=True).clamp_min(1e-12))
