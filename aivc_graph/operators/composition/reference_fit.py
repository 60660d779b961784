"""Fit of a reference to patches: what opens by hidden genes, copies with other genes, width of intervals."""

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
MOST_PATCHES, MOST_CELLS, MOST_JUDGED = 1_000, 400, 600
STRETCHES = 8
NEVER = float("inf")


@dataclass(frozen=True)
class Opening:
    """How far a fit departs from least squares: pseudo-counts of the factors of genes, and of genes in types; rounds.

    Few rounds stay near the reference: where profiles are wrong, the likeliest factors are far from the true ones.
    """

    name: str
    platform: float = NEVER
    types: float = NEVER
    rounds: int = 0


ROUNDS = (4, 8, 16, 32, 64)
OPENINGS = (
    Opening("least squares"),
    Opening("Poisson noise"),
    *(Opening("platform effect", 1.0, NEVER, rounds) for rounds in ROUNDS),
    *(Opening("platform effect, profiles of the tissue", 1.0, 300.0, rounds) for rounds in ROUNDS),
)
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
    """Fit profiles; open what hidden genes ask for; repeat the fit with other genes; calibrate the width."""
    found = gather(windows(fitting.source, fitting.model.steps, WINDOW_NODES), part.plan)
    part.profiles.copy_(profiles(found.cells, found.kind, len(part.plan.types)))
    if len(found.patches) < STRETCHES:
        part.rates.copy_(part.profiles.expand_as(part.rates))
        return
    part.opened.fill_(choose_opening(found, part.profiles))
    opening = OPENINGS[int(part.opened)]
    replicate(part, found, opening)
    fit_prior(part, found)
    choose_neighbours(part, found)
    calibrate(part, found, opening)
    facts = (opening.name, opening.rounds, float(part.neighbour_share), float(part.width))
    log.info("composition by reference: %s, %d rounds; neighbours %.2g; intervals × %.2g", *facts)


def gather(pieces: Iterable[Window], plan: CompositionPlan) -> Material:
    """Return training patches, at most 1,000 evenly spaced, and labelled dissociated cells, at most 400 a type."""
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
    """Return how far to depart from least squares, by genes that the fit has not seen.

    Amounts told by one half of the genes have to tell where the molecules of the other half lie, by profiles of the
    reference alone: a fit that drifts away from the types tells less of them, however well it fits its own half. One
    opening takes the place of another where it gains more than its standard error over stretches of tissue.
    """
    kept = np.arange(len(found.patches))[:: -(-len(found.patches) // MOST_JUDGED)]
    counts, stretch = found.patches[kept], found.stretch[kept]
    scores = np.zeros((len(OPENINGS), STRETCHES))
    for seen, hidden in _halves(len(start.T)):
        for number, opening in enumerate(OPENINGS):
            told = amounts(counts[:, seen], _adapted(counts[:, seen], start[:, seen], opening))
            if not number:
                told = told.sum(dim=1, keepdim=True) * least_squares(counts[:, seen], start[:, seen])
            each = _hidden_likelihood(counts[:, hidden], told @ start[:, hidden])
            scores[number] += np.bincount(stretch, each, minlength=STRETCHES)
    best = 0
    for number in range(1, len(OPENINGS)):
        gains = scores[number] - scores[best]
        if gains.mean() > gains.std(ddof=1) / np.sqrt(STRETCHES):
            best = number
    return best


def _adapted(counts: Tensor, start: Tensor, opening: Opening) -> Tensor:
    return adapt(counts, start, opening.platform, opening.types, opening.rounds)


def _halves(n: int) -> tuple[tuple[Rows, Rows], tuple[Rows, Rows]]:
    """Return two halves of the genes, by turns the seen and the hidden one."""
    order = np.random.default_rng(0).permutation(n)
    first, second = np.sort(order[: n // 2]), np.sort(order[n // 2 :])
    return (first, second), (second, first)


def _hidden_likelihood(hidden: Tensor, expected: Tensor) -> NDArray[np.float64]:
    """Return the log-likelihood of each patch's hidden molecules (patch,), each gene at the level that it has."""
    level = (hidden.sum(dim=0) + 1.0) / (expected.sum(dim=0) + 1.0)
    # A hundredth of the mean patch: what least squares calls impossible is only unlikely.
    mean = (0.99 * expected + 0.01 * expected.mean(dim=0)) * level
    return np.asarray((hidden * mean.clamp_min(1e-12).log() - mean).sum(dim=1).double().numpy())


def replicate(part: ReferenceComposition, found: Material, opening: Opening) -> None:
    """Fit the rates, and copies of them with genes and cells of the reference drawn with replacement."""
    random, start = np.random.default_rng(0), part.profiles
    for row, genes in enumerate(part.genes):
        if row:
            genes.copy_(torch.from_numpy(random.integers(0, len(genes), len(genes))))
            start = profiles(*_redrawn(found, random), len(part.profiles))
        part.rates[row].copy_(_adapted(found.patches[:, genes], start[:, genes], opening))


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
    """Mix in as much of the neighbours' shares as tells most of genes that the shares were not made of."""
    near = SparseOperator.of(to_torch_csr(found.near))
    rates, scores = part.rates[0], np.zeros(len(NEIGHBOUR_SHARES))
    for seen, hidden in _halves(len(rates.T)):
        # Shrunk towards the mean composition already: neighbours have to tell more than that.
        told = posterior(found.patches[:, seen], rates[:, seen], part.prior).mean(dim=2)
        total = found.patches.sum(dim=1, keepdim=True)
        for number, opening in enumerate(NEIGHBOUR_SHARES):
            part.neighbour_share.fill_(opening)
            mixed = total * part.smoothed(told, near)
            scores[number] += _hidden_likelihood(found.patches[:, hidden], mixed @ rates[:, hidden]).sum()
    part.neighbour_share.fill_(NEIGHBOUR_SHARES[int(scores.argmax())])


def calibrate(part: ReferenceComposition, found: Material, opening: Opening) -> None:
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
    replicate(other, near, opening)
    covered, told = [], other.draws(counts, torch.ones_like(other.profiles[0], dtype=torch.bool))
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
