"""What a table of responses is asked about: genes never perturbed, pairs by how many parts were seen, new contexts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aivc_graph.evaluation.records import Axis
from aivc_graph.evaluation.responses.table import Responses

Mask = NDArray[np.bool_]
FOLDS = 5
MOST_FOLDS = 20


@dataclass(frozen=True)
class Fold:
    """Rows that are asked about, and rows that may be learned from (row,); the controls are told to everyone."""

    train: Mask
    asked: Mask


@dataclass(frozen=True)
class Question:
    """A question, put fold by fold so that every row of its kind is asked once."""

    name: str
    axis: Axis
    folds: tuple[Fold, ...]

    @property
    def asked(self) -> Mask:
        """The rows asked about in any fold (row,)."""
        return np.any([fold.asked for fold in self.folds], axis=0)


def unseen_gene(table: Responses, among: Mask, seed: int = 0) -> Iterator[Question]:
    """Ask for single perturbations of genes that training has in no condition and no context; five folds of genes."""
    single = among & (table.design.sum(axis=1) == 1)
    genes = np.flatnonzero(table.design[single].any(axis=0))
    n_folds = min(FOLDS, len(genes))
    if n_folds < 2:
        return
    fold_of = np.full(table.design.shape[1], -1)
    fold_of[np.random.default_rng(seed).permutation(genes)] = np.arange(len(genes)) % n_folds
    folds = []
    for k in range(n_folds):
        touched = table.design[:, fold_of == k].any(axis=1)
        folds.append(Fold(among & ~touched, single & touched))
    yield Question("unseen_gene", "intervention", tuple(folds))


def unseen_pair(table: Responses, among: Mask, seed: int = 0) -> Iterator[Question]:
    """Ask for pairs, each left out of training, by how many of their parts training has alone in the same context.

    Where a part was not seen alone, training has it in no other pair either. Each pair is a fold of its own while there
    are at most twenty.
    """
    double = np.flatnonzero(among & (table.design.sum(axis=1) == 2))
    single = among & (table.design.sum(axis=1) == 1)
    seen = [_parts_seen(table, row, single) for row in double]
    for n_seen in (2, 1, 0):
        rows = double[[len(s) == n_seen for s in seen]]
        if not len(rows):
            continue
        n_folds = min(MOST_FOLDS, len(rows))
        order = np.random.default_rng(seed).permutation(len(rows)) % n_folds
        folds = tuple(_pair_fold(table, rows[order == k], among, single) for k in range(n_folds))
        yield Question(f"unseen_pair_{n_seen}_seen", "intervention", folds)


def unseen_context(table: Responses, among: Mask, seed: int = 0) -> Iterator[Question]:
    """Ask for what was done elsewhere in a context of which training has the control alone; one fold a context."""
    folds = []
    for one in np.unique(table.context[among]):
        here = table.context == one
        train = among & ~here
        known = {table.parts[row] for row in np.flatnonzero(train)}
        asked = among & here & np.array([parts in known for parts in table.parts])
        if asked.any():
            folds.append(Fold(train, asked))
    if folds:
        yield Question("unseen_context", "context", tuple(folds))


QUESTIONS: dict[str, Callable[[Responses, Mask, int], Iterator[Question]]] = {
    "unseen_gene": unseen_gene,
    "unseen_pair": unseen_pair,
    "unseen_context": unseen_context,
}


def held_out(table: Responses, question: Question) -> NDArray[np.str_]:
    """Return what was held out of each row (row,): its context where contexts are asked about, else what was done."""
    return table.context if question.axis == "context" else table.condition


def _parts_seen(table: Responses, row: int | np.integer, single: Mask) -> frozenset[int]:
    alone = table.design[single & (table.context == table.context[row])].any(axis=0)
    return frozenset(np.flatnonzero(table.design[row] & alone))


def _pair_fold(table: Responses, rows: NDArray[np.intp], among: Mask, single: Mask) -> Fold:
    """Leave out the pairs themselves, in every context, and all that has a part of them that was not seen alone."""
    asked = np.zeros(len(table.parts), bool)
    asked[rows] = True
    out = np.isin(_codes(table), _codes(table)[rows])
    for row in rows:
        unseen = set(np.flatnonzero(table.design[row])) - _parts_seen(table, row, single)
        out |= table.design[:, sorted(unseen)].any(axis=1)
    return Fold(among & ~out, asked)


def _codes(table: Responses) -> NDArray[np.intp]:
    return np.unique(table.design, axis=0, return_inverse=True)[1].reshape(-1)
