"""Fit of a reference to patches: what opens by hidden molecules, copies with other genes, width of intervals."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.panels import panel_columns, types_of
from aivc_graph.graph.schema import dissociated_sections
from aivc_graph.graph.tissue_graph import to_scipy_csr, to_torch_csr
from aivc_graph.graph.windows import Window, windows
from aivc_graph.operators.composition.anchors import nearest
from aivc_graph.operators.composition.mixture import adapt, amounts, least_squares, posterior
from aivc_graph.operators.part import Fitting
from aivc_graph.operators.product import SparseOperator

if TYPE_CHECKING:
    from aivc_graph.operators.composition.composition import CompositionPlan
    from aivc_graph.operators.composition.reference import ReferenceComposition

log = logging.getLogger(__name__)
Rows = NDArray[np.int64]
WINDOW_NODES = 400_000
MOST_PATCHES, MOST_CELLS, MOST_JUDGED = 2_000, 400, 600
STRETCHES = 8
# Pseudo-counts of the factors: of a gene on a platform, and of a gene in a type.
PLATFORM, TYPES = 1.0, 300.0
NEVER = float("inf")
# What opens one after the other; the first is non-negative least squares.
OPENINGS = ("least squares", "Poisson noise", "platform effect", "profiles of the tissue")
FACTORS = {0: (NEVER, NEVER), 1: (NEVER, NEVER), 2: (PLATFORM, NEVER), 3: (PLATFORM, TYPES)}
# A profile holds this share of the mean of all, so that no gene is impossible in a type.
BORROWED = 0.01
NEIGHBOUR_SHARES = (0.0, 0.1, 0.2, 0.35, 0.5)
PRIOR_ROUNDS = 3
MADE, CELLS_IN_MADE = 300, 8
WIDTHS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0)
WANTED = 0.9


@dataclass(frozen=True)
class Material:
    """Counts of training patches (patch, molecule) and who is `near` whom; counts and `kind` of labelled cells."""

    patches: Tensor
    near: sparse.csr_matrix
    cells: Tensor
    kind: Rows

    @property
    def stretch(self) -> Rows:
        """Which stretch of the tissue each patch lies in (patch,)."""
        return np.arange(len(self.patches)) * STRETCHES // len(self.patches)


@torch.no_grad()
def fit_reference(part: ReferenceComposition, fitting: Fitting) -> None:
    """Fit profiles; open what hidden molecules ask for; repeat the fit with other genes; calibrate the width."""
    found = gather(windows(fitting.source, fitting.model.steps, WINDOW_NODES), part.plan)
    part.profiles.copy_(profiles(found.cells, found.kind, len(part.plan.types)))
    if len(found.patches) < STRETCHES:
        part.rates.copy_(part.profiles.expand_as(part.rates))
        return
    part.opened.fill_(choose_opening(found, part.profiles))
    factors = FACTORS[int(part.opened)]
    replicate(part, found, factors)
    fit_prior(part, found)
    choose_neighbours(part, found)
    calibrate(part, found, factors)
    opened = ", ".join(OPENINGS[1 : int(part.opened) + 1]) or OPENINGS[0]
    log.info("composition by reference: %s; neighbours %.2g; intervals × %.2g", opened, *_facts(part))


def gather(pieces: Iterable[Window], plan: CompositionPlan) -> Material:
    """Return training patches, at most 2,000 evenly spaced, and labelled dissociated cells, at most 400 a type."""
    patches, near, cells, kinds = zip(*[_of_window(piece, plan) for piece in pieces], strict=True)
    counts, kind = sparse.vstack(patches).tocsr(), np.concatenate(kinds)
    rows = np.arange(counts.shape[0])[:: -(-counts.shape[0] // MOST_PATCHES) or 1]
    kept = np.concatenate([_spaced(np.flatnonzero(kind == one)) for one in range(len(plan.types))])
    beside = sparse.block_diag(near, format="csr")[rows][:, rows]
    return Material(_dense(counts[rows]), beside, _dense(sparse.vstack(cells).tocsr()[kept]), kind[kept])


def _spaced(rows: Rows) -> Rows:
    return rows[:: -(-len(rows) // MOST_CELLS) or 1]


def _dense(counts: sparse.csr_matrix) -> Tensor:
    return torch.from_numpy(counts.toarray().astype(np.float32))


def _of_window(piece: Window, plan: CompositionPlan) -> tuple[sparse.csr_matrix, ...]:
    graph, child, parent = piece.graph, plan.child, plan.parent

    def counts(level: str, columns: tuple[int, ...], rows: Rows) -> sparse.csr_matrix:
        return to_scipy_csr(graph.counts(level, names.RNA))[rows][
            :, panel_columns(graph, level, names.RNA).numpy()[list(columns)]
        ]

    def training(level: str) -> Tensor:
        return piece.core[level] & graph.in_split(level, names.TRAIN) & graph[level][names.mask_name(names.RNA)].bool()

    kind = types_of(graph, child, plan.types)
    loose = dissociated_sections(graph)[graph[child].section_index.numpy()]
    patches = np.flatnonzero(training(parent).numpy())
    patches = patches[np.asarray(counts(parent, plan.of_parent, patches).sum(axis=1)).ravel() > 0]
    cells = np.flatnonzero(training(child).numpy() & loose & (kind >= 0))
    near = nearest(graph, parent, plan.rings)[patches][:, patches]
    return counts(parent, plan.of_parent, patches), near, counts(child, plan.of_child, cells), kind[cells]


def profiles(cells: Tensor, kind: Rows, n_types: int) -> Tensor:
    """Return the share of each gene in the RNA of the cells of a type (type, molecule); a type of none has the mean."""
    sums = torch.zeros(n_types, cells.shape[1]).index_add_(0, torch.from_numpy(kind), cells)
    every = cells.sum(dim=0) / cells.sum().clamp_min(1.0)
    own = sums / sums.sum(dim=1, keepdim=True).clamp_min(1.0)
    return torch.where(sums.sum(dim=1, keepdim=True) > 0, (own + BORROWED * every) / (1 + BORROWED), every)


def choose_opening(found: Material, start: Tensor) -> int:
    """Return how far to depart from least squares, by molecules hidden from patches that were not fitted on.

    Each step has to gain more than its standard error over stretches of tissue.
    """
    kept = np.arange(len(found.patches))[:: -(-len(found.patches) // MOST_JUDGED)]
    counts, stretch = found.patches[kept], found.stretch[kept]
    shown, hidden = _thinned(counts)
    scores = np.zeros((len(FACTORS), STRETCHES))
    for turn in range(2):
        judged = stretch % 2 == turn
        for opening, factors in FACTORS.items():
            rates = start if factors == (NEVER, NEVER) else adapt(counts[~judged], start, *factors)
            told = amounts(shown[judged], rates) if opening else least_squares(shown[judged], rates)
            each = _log_likelihood(hidden[judged], told, rates, counts[~judged].sum(dim=0))
            scores[opening] += np.bincount(stretch[judged], each, minlength=STRETCHES)
    for opening in range(1, len(FACTORS)):
        gains = scores[opening] - scores[opening - 1]
        if gains.mean() <= gains.std(ddof=1) / np.sqrt(STRETCHES):
            return opening - 1
    return len(FACTORS) - 1


def _thinned(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return two halves of the molecules of each patch."""
    shown = torch.from_numpy(np.random.default_rng(0).binomial(counts.numpy().astype(np.int64), 0.5)).float()
    return shown, counts - shown


def _log_likelihood(hidden: Tensor, told: Tensor, rates: Tensor, usual: Tensor) -> NDArray[np.float64]:
    """Return the log-probability of hidden molecules, one after the other, with 1 % of the `usual` profile (patch,)."""
    expected = told @ rates
    expected = 0.99 * expected / expected.sum(dim=1, keepdim=True).clamp_min(1e-12) + 0.01 * usual / usual.sum()
    return np.asarray((hidden * expected.clamp_min(1e-12).log()).sum(dim=1).double().numpy())


def replicate(part: ReferenceComposition, found: Material, factors: tuple[float, float]) -> None:
    """Fit the rates, and copies of them with genes and cells of the reference drawn with replacement."""
    random, start = np.random.default_rng(0), part.profiles
    for row, genes in enumerate(part.genes):
        if row:
            genes.copy_(torch.from_numpy(random.integers(0, len(genes), len(genes))))
            start = profiles(*_redrawn(found, random), len(part.profiles))
        part.rates[row].copy_(adapt(found.patches[:, genes], start[:, genes], *factors))


def _redrawn(found: Material, random: np.random.Generator) -> tuple[Tensor, Rows]:
    """Return as many cells of each type as there are, drawn with replacement."""
    of_type = [np.flatnonzero(found.kind == one) for one in np.unique(found.kind)]
    drawn = np.concatenate([random.choice(rows, len(rows)) for rows in of_type])
    return found.cells[drawn], found.kind[drawn]


def fit_prior(part: ReferenceComposition, found: Material) -> None:
    """Fit the mean shares that each patch is shrunk towards, by the means of their posteriors."""
    counts = found.patches[:: -(-len(found.patches) // MOST_JUDGED)]
    for _ in range(PRIOR_ROUNDS):
        part.prior.copy_(posterior(counts, part.rates[0], part.prior).mean(dim=(0, 2)))


def choose_neighbours(part: ReferenceComposition, found: Material) -> None:
    """Mix in as much of the neighbours' shares as hidden molecules ask for."""
    near = SparseOperator.of(to_torch_csr(found.near))
    shown, hidden = _thinned(found.patches)
    shares = posterior(shown, part.rates[0], part.prior).mean(dim=2) if part.opened else None
    if shares is None:
        shares = least_squares(shown, part.profiles)
    scores = []
    for opening in NEIGHBOUR_SHARES:
        part.neighbour_share.fill_(opening)
        told = part.smoothed(shares, near)
        scores.append(float(_log_likelihood(hidden, told, part.rates[0], found.patches.sum(dim=0)).sum()))
    part.neighbour_share.fill_(NEIGHBOUR_SHARES[int(np.argmax(scores))])


def calibrate(part: ReferenceComposition, found: Material, factors: tuple[float, float]) -> None:
    """Widen intervals until 90 % of the true shares of patches made of cells of the reference lie within.

    Cells that patches are made of, and those that profiles come from, are the two halves of each type along the main
    axis of its variation, as those of another donor would be. Intervals are never narrowed.
    """
    far = _far_half(found)
    counts, true = make_patches(part, found, far)
    near = Material(counts, found.near, found.cells[~far], found.kind[~far])
    other = type(part)(part.plan)
    other.profiles.copy_(profiles(near.cells, near.kind, len(part.profiles)))
    other.prior.copy_(true.mean(dim=0))
    other.opened.copy_(part.opened)
    replicate(other, near, factors)
    everything = torch.ones_like(other.profiles[0], dtype=torch.bool)
    covered, told = [], other.draws(counts, everything, amounts(counts, other.rates[0]))
    for width in WIDTHS:
        other.width.fill_(width)
        lower, upper = other.interval(*told)
        covered.append(float(((lower <= true + 1e-6) & (true <= upper + 1e-6)).double().mean()))
    part.width.fill_(float(np.interp(WANTED, np.maximum.accumulate(covered), WIDTHS)))


def _far_half(found: Material) -> NDArray[np.bool_]:
    """Return who lies beyond the median of its type along the type's main axis of variation (cell,)."""
    logs = torch.log1p(1e4 * found.cells / found.cells.sum(dim=1, keepdim=True).clamp_min(1.0))
    far = np.zeros(len(found.kind), bool)
    for one in np.unique(found.kind):
        rows = np.flatnonzero(found.kind == one)
        if len(rows) > 3:
            apart = logs[rows] - logs[rows].mean(dim=0)
            along = (apart @ torch.linalg.svd(apart, full_matrices=False).Vh[0]).numpy()
            far[rows] = along > np.median(along)
    return far


def make_patches(part: ReferenceComposition, found: Material, who: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
    """Return counts of patches put together of eight cells each, as deep as those of the tissue, and their shares.

    Types are as frequent as in the tissue; the platform has its effect on every gene.
    """
    random = np.random.default_rng(1)
    there = [np.flatnonzero(who & (found.kind == one)) for one in range(len(part.prior))]
    weight = np.array([len(rows) > 0 for rows in there]) * part.prior.double().numpy()
    depth = found.patches.sum(dim=1).numpy()
    effect = (part.rates[0] / part.profiles.clamp_min(1e-12)).mean(dim=0)
    counts = torch.zeros(MADE, found.cells.shape[1])
    true = torch.zeros(MADE, len(part.prior))
    for row in range(MADE):
        mixed = random.dirichlet(4.0 * weight[weight > 0] / weight.sum())
        for one in random.choice(np.flatnonzero(weight > 0), CELLS_IN_MADE, p=mixed):
            cell = found.cells[random.choice(there[one])] * effect
            counts[row] += cell
            true[row, one] += cell.sum()
        share = (counts[row] / counts[row].sum().clamp_min(1e-12)).double().numpy()
        counts[row] = torch.from_numpy(random.multinomial(int(random.choice(depth)), share / share.sum())).float()
    return counts, true / true.sum(dim=1, keepdim=True).clamp_min(1e-12)


def _facts(part: ReferenceComposition) -> tuple[float, float]:
    return float(part.neighbour_share), float(part.width)
