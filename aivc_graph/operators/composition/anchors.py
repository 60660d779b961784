"""Anchors of composition: training patches with their counts, and the labelled cells measured beneath them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.panels import panel_columns, type_shares, types_of
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.graph.windows import Window
from aivc_graph.operators.rings import split_rings

if TYPE_CHECKING:
    from aivc_graph.operators.composition.composition import CompositionPlan

Floats = NDArray[np.float64]
STRETCHES = 4
MOST = 4000


@dataclass(frozen=True)
class Anchors:
    """What composition is fitted on.

    `counts`, `pooled` (patch, molecule): of the patch, and of the cells beneath it by overlap; `measured` (patch, type)
    zero where no labelled cell lies beneath; `group` (patch,) section, or stretch of the only one; `near` (patch,
    patch); `cell_sums` (section, type, molecule) and `cell_numbers` (section, type) of labelled training cells.
    """

    counts: Floats
    pooled: Floats
    measured: Floats
    group: NDArray[np.int64]
    near: sparse.csr_matrix
    cell_sums: Floats
    cell_numbers: Floats

    @property
    def by_section(self) -> bool:
        """Whether groups are sections; otherwise they are stretches of one."""
        return (self.cell_numbers.sum(axis=1) > 0).sum() > 1 and len(np.unique(self.group)) > 1

    def rows(self, without: int | None = None) -> NDArray[np.int64]:
        """Return the patches with labelled cells beneath, at most 4,000 evenly spaced, leaving one group out."""
        found = np.flatnonzero((self.measured.sum(axis=1) > 0) & (self.group != (-1 if without is None else without)))
        return found[:: -(-len(found) // MOST) or 1]

    def profiles(self, without: int | None = None) -> Floats:
        """Return the mean counts of a cell of each type (type, molecule), leaving one section out."""
        keep = np.arange(len(self.cell_sums)) != (-1 if without is None or not self.by_section else without)
        number = self.cell_numbers[keep].sum(axis=0)[:, None]
        everyone = self.cell_sums[keep].sum(axis=(0, 1)) / max(number.sum(), 1.0)
        # A type of few cells borrows a little from the mean cell, so that no profile is empty.
        return (self.cell_sums[keep].sum(axis=0) + everyone) / (number + 1.0)


def gather_anchors(pieces: Iterable[Window], plan: CompositionPlan) -> Anchors:
    """Return the anchors of all windows."""
    parts = [_of_window(piece, plan) for piece in pieces]
    counts, pooled, measured, section, near, sums, numbers = zip(*parts, strict=True)
    group = np.concatenate(section)
    found = np.concatenate(measured)
    if len(np.unique(group)) == 1:
        group = np.arange(len(group)) * STRETCHES // len(group)
    return Anchors(
        np.concatenate(counts),
        np.concatenate(pooled),
        found,
        group,
        sparse.csr_matrix(sparse.block_diag(near)),
        np.sum(sums, axis=0),
        np.sum(numbers, axis=0),
    )


def _of_window(piece: Window, plan: CompositionPlan) -> tuple[Floats | sparse.csr_matrix, ...]:
    graph, types, child, parent = piece.graph, plan.types, plan.child, plan.parent
    own, shared = list(plan.of_child), list(plan.of_parent)
    mask = names.mask_name(names.RNA)
    patches = np.flatnonzero(
        (piece.core[parent] & graph.in_split(parent, names.TRAIN) & graph[parent][mask].bool()).numpy()
    )
    overlap = to_scipy_csr(graph[child, names.WITHIN, parent].adj_t)[patches]
    cells = to_scipy_csr(graph.counts(child, names.RNA))[:, panel_columns(graph, child, names.RNA).numpy()[own]]
    spots = to_scipy_csr(graph.counts(parent, names.RNA))[:, panel_columns(graph, parent, names.RNA).numpy()[shared]]
    kind = types_of(graph, child, types)
    near = nearest(graph, parent, plan.rings)[patches][:, patches]
    core = (piece.core[child] & graph.in_split(child, names.TRAIN)).numpy() & (kind >= 0)
    n_sections, section = graph[names.SECTION].num_nodes, graph[child].section_index.numpy()
    place = section[core] * len(types) + kind[core]
    chooser = sparse.csr_matrix(
        (np.ones(len(place)), (place, np.flatnonzero(core))), shape=(n_sections * len(types), cells.shape[0])
    )
    sums = np.asarray((chooser @ cells).todense(), np.float64).reshape(n_sections, len(types), -1)
    numbers = np.bincount(place, minlength=n_sections * len(types)).reshape(n_sections, -1).astype(float)
    return (
        spots[patches].toarray().astype(np.float64),
        np.asarray((overlap @ cells).todense(), np.float64),
        type_shares(overlap, kind, len(types)),
        graph[parent].section_index.numpy()[patches],
        near,
        sums,
        numbers,
    )


def nearest(graph: TissueGraph, level: str, rings: tuple[int, ...]) -> sparse.csr_matrix:
    """Return the first ring of neighbours (node, node), as the model's messages see it."""
    relation = (level, names.NEAR, level)
    if relation not in graph.edge_types:
        n = int(graph[level].num_nodes)
        return sparse.csr_matrix((n, n), dtype=np.float32)
    return to_scipy_csr(split_rings(graph[relation].adj_t, graph[relation].distance_um, rings)[0])


def log_expression(counts: Tensor) -> Tensor:
    """Return ``log1p(100 · y / Σ y)``, patch by patch."""
    return torch.log1p(100.0 * counts / counts.sum(dim=1, keepdim=True).clamp_min(1.0))
