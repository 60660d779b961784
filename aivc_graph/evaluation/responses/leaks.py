"""What stands on two sides of a question about a table of responses: the same cells, or the same done twice named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aivc_graph.errors import Faults, ReadError
from aivc_graph.evaluation.responses.questions import Fold, Question
from aivc_graph.evaluation.responses.table import Responses
from aivc_graph.splits.leakage import MAX_SHARE, MIN_ROWS

Mask = NDArray[np.bool_]
LEAKED = "share of the asked cells whose condition, in its context, or whose very values are known beforehand"


@dataclass(frozen=True)
class Leaks:
    """What training and the controls, which are told to everyone, hold of the rows that a question asks about.

    Cells are compared where at least ten genes were seen; copies that were scaled, or differ in a gene, count as well.
    """

    table: Responses
    question: Question

    @property
    def share(self) -> float:
        """Share of the asked cells whose condition, in its context, or whose very values are known beforehand."""
        n_asked = n_known = 0
        for fold in self.question.folds:
            asked = fold.asked[self.table.cells.row]
            known = asked & (self._twice(fold) | self._same(fold)[self.table.cells.row])
            n_asked, n_known = n_asked + int(asked.sum()), n_known + int(known.sum())
        return round(n_known / max(n_asked, 1), 6)

    @property
    def told(self) -> list[str]:
        """A sentence for each asked condition of which cells, or the whole under another name, stand on two sides.

        Cells count where they are more than 1 % of the condition's, and at least two, as in tissue.
        """
        return list(dict.fromkeys(one for fold in self.question.folds for one in self._told(fold)))

    def _told(self, fold: Fold) -> Iterator[str]:
        row, (hashes, _) = self.table.cells.row, self.table.hashes
        twice = self._twice(fold)
        for asked in np.flatnonzero(fold.asked & self._same(fold)).tolist():
            same = np.flatnonzero(fold.train & self._is_same(asked))
            yield f"{self._name(asked)} is asked, and trains as {self._name(same[0])}"
        count = np.bincount(row[twice], minlength=len(self.table.parts))
        enough = np.maximum(MIN_ROWS, MAX_SHARE * self.table.n_cells)
        for asked in np.flatnonzero(count >= enough).tolist():
            mine = hashes[twice & (row == asked)]
            others = row[self._known(fold)[row] & np.isin(hashes, mine)]
            most = int(np.bincount(others).argmax())
            what = "told to everyone" if self.table.is_control[most] else "which trains"
            yield f"{self._name(asked)} holds the same cells ({count[asked]:,}) as {self._name(most)}, {what}"

    def _twice(self, fold: Fold) -> Mask:
        """Return the asked cells whose very values stand on the other side (cell,)."""
        row, (hashes, rich) = self.table.cells.row, self.table.hashes
        known = hashes[self._known(fold)[row] & rich]
        return fold.asked[row] & rich & np.isin(hashes, known)

    def _same(self, fold: Fold) -> Mask:
        """Return the asked rows whose parts, in their context, train as well (row,)."""
        found = np.zeros(len(fold.asked), bool)
        for asked in np.flatnonzero(fold.asked):
            found[asked] = bool((fold.train & self._is_same(asked)).any())
        return found

    def _is_same(self, row: int | np.integer) -> Mask:
        alike = np.array([parts == self.table.parts[row] for parts in self.table.parts])
        return alike & (self.table.context == self.table.context[row])

    def _known(self, fold: Fold) -> Mask:
        return fold.train | self.table.is_control

    def _name(self, row: int | np.integer) -> str:
        several = len(set(self.table.context.tolist())) > 1
        return f"{self.table.condition[row]}{f' in {self.table.context[row]}' if several else ''}"


def refuse(leaks: Sequence[str], where: str, mend: str, *, accept: bool) -> None:
    """Raise a `ReadError` of all leaks at once unless they are accepted."""
    faults = Faults(ReadError)
    for leak in leaks if not accept else ():
        faults.add(where, leak, "nothing asked stands on two sides", mend)
    faults.raise_if_any()
