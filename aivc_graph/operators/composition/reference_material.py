"""What a reference is fitted to: counts of training patches, and of labelled cells taken out of other tissue."""

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
from aivc_graph.graph.features import telling_features
from aivc_graph.graph.panels import panel_columns, types_of
from aivc_graph.graph.schema import dissociated_sections
from aivc_graph.graph.tissue_graph import to_scipy_csr
from aivc_graph.graph.windows import Window
from aivc_graph.operators.composition.anchors import nearest
from aivc_graph.operators.intervention_plan import donor_of_sections

if TYPE_CHECKING:
    from aivc_graph.operators.composition.composition import CompositionPlan

Rows = NDArray[np.int64]
MOST_PATCHES, MOST_CELLS = 2_000, 400
STRETCHES = 8
# A profile holds this share of the mean of all, so that no gene is impossible in a type.
BORROWED = 0.01
# Variance of the log profile of a type between donors: where one donor tells nothing of it, and the most.
USUAL_SPREAD, MOST_SPREAD = 1 / 300, 1.0


@dataclass(frozen=True)
class Material:
    """Counts of training patches (patch, gene) and who is `near` whom; counts, `kind` and `donor` of labelled cells.

    `genes` (gene,) are their places among the molecules that both levels count, those that tell most first.
    """

    patches: Tensor
    near: sparse.csr_matrix
    cells: Tensor
    kind: Rows
    donor: Rows
    genes: Rows

    @property
    def stretch(self) -> Rows:
        """Which stretch of the tissue each patch lies in (patch,)."""
        return np.arange(len(self.patches)) * STRETCHES // max(len(self.patches), 1)

    def of_cells(self, who: NDArray[np.bool_], patches: Tensor | None = None) -> Material:
        """Return the same with some of the cells alone, and with other patches if given."""
        counts = self.patches if patches is None else patches
        return Material(counts, self.near, self.cells[who], self.kind[who], self.donor[who], self.genes)


def gather(pieces: Iterable[Window], plan: CompositionPlan, most_genes: int) -> Material:
    """Return training patches, at most 2,000 evenly spaced, and labelled dissociated cells, at most 400 a type.

    Of the molecules that both levels count, those `most_genes` by which the types differ most.
    """
    patches, near, cells, kinds, donors = zip(*[_of_window(piece, plan) for piece in pieces], strict=True)
    counts, kind, donor = sparse.vstack(patches).tocsr(), np.concatenate(kinds), np.concatenate(donors)
    rows = np.arange(counts.shape[0])[:: -(-counts.shape[0] // MOST_PATCHES) or 1]
    kept = np.concatenate([_spaced(np.flatnonzero(kind == one)) for one in range(len(plan.types))])
    beside = sparse.block_diag(near, format="csr")[rows][:, rows]
    loose = sparse.vstack(cells).tocsr()
    genes = telling_features(loose, kind, most_genes)
    code = np.unique(donor[kept], return_inverse=True)[1].reshape(-1).astype(np.int64)
    return Material(_dense(counts[rows][:, genes]), beside, _dense(loose[kept][:, genes]), kind[kept], code, genes)


def _spaced(rows: Rows) -> Rows:
    return rows[:: -(-len(rows) // MOST_CELLS) or 1]


def _dense(counts: sparse.csr_matrix) -> Tensor:
    return torch.from_numpy(counts.toarray().astype(np.float32))


def _of_window(piece: Window, plan: CompositionPlan) -> tuple[sparse.csr_matrix | NDArray[np.generic], ...]:
    graph, child, parent = piece.graph, plan.child, plan.parent

    def counts(level: str, columns: tuple[int, ...], rows: Rows) -> sparse.csr_matrix:
        return to_scipy_csr(graph.counts(level, names.RNA))[rows][
            :, panel_columns(graph, level, names.RNA).numpy()[list(columns)]
        ]

    def training(level: str) -> Tensor:
        return piece.core[level] & graph.in_split(level, names.TRAIN) & graph[level][names.mask_name(names.RNA)].bool()

    kind, section = types_of(graph, child, plan.types), graph[child].section_index.numpy()
    patches = np.flatnonzero(training(parent).numpy())
    patches = patches[np.asarray(counts(parent, plan.of_parent, patches).sum(axis=1)).ravel() > 0]
    cells = np.flatnonzero(training(child).numpy() & dissociated_sections(graph)[section] & (kind >= 0))
    near = nearest(graph, parent, plan.rings)[patches][:, patches]
    donor = np.array(donor_of_sections(graph))[section[cells]]
    return counts(parent, plan.of_parent, patches), near, counts(child, plan.of_child, cells), kind[cells], donor


def profiles(cells: Tensor, kind: Rows, n_types: int) -> Tensor:
    """Return the share of each gene in the RNA of the cells of a type (type, molecule); a type of none has the mean."""
    sums = _sums(cells, kind, n_types)
    every = cells.sum(dim=0) / cells.sum().clamp_min(1.0)
    own = sums / sums.sum(dim=1, keepdim=True).clamp_min(1.0)
    return torch.where(sums.sum(dim=1, keepdim=True) > 0, (own + BORROWED * every) / (1 + BORROWED), every)


def _sums(cells: Tensor, kind: Rows, n_types: int) -> Tensor:
    return torch.zeros(n_types, cells.shape[1]).index_add_(0, torch.from_numpy(kind), cells)


def surety(found: Material, n_types: int) -> Tensor:
    r"""Return how surely the tissue's profile is that of the reference, in pseudo-counts (type, molecule).

    :math:`1 / \kappa_{tg} = \tau_t^2 + 1 / (n_{tg} + 1)`: n molecules were seen, and donors differ by
    :math:`\tau_t`, the standard deviation of the log profile of a type between those of the reference, the tissue being
    one more; 0.06 where there is one alone.
    """
    seen = _sums(found.cells, found.kind, n_types)
    spread = torch.tensor([_between_donors(found, one) for one in range(n_types)])
    return 1.0 / (spread[:, None] + 1.0 / (seen + 1.0))


def _between_donors(found: Material, kind: int) -> float:
    """Return the variance of the log profile of a type between donors beyond chance, averaged over its RNA."""
    mine = found.kind == kind
    sums = _sums(found.cells[mine], found.donor[mine], int(found.donor.max()) + 1 if mine.any() else 1)
    total = sums.sum(dim=1)
    sums, total = sums[total > 0], total[total > 0]
    if len(total) < 2:
        return USUAL_SPREAD
    shares = sums / total[:, None]
    middle = shares.mean(dim=0)
    chance = float((1.0 / total).mean()) * float((middle > 0).sum())
    beyond = float((shares.var(dim=0) / middle.clamp_min(1e-12)).sum()) - chance
    return float(np.clip(beyond * (1 + 1 / len(total)), USUAL_SPREAD, MOST_SPREAD))
