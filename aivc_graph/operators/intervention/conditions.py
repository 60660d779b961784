"""A table of conditions as plain arrays: what was done, where, and to what effect."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Mask = NDArray[np.bool_]

COMPONENTS = 10


@dataclass(frozen=True)
class Conditions:
    """A table of conditions; make it by `conditions_of`.

    Parameters
    ----------
    effect
        Effect of each row (row, gene); zero where a row does not train.
    products
        Products of effects with each other (row, row), so that no rule goes over the genes again.
    parts
        What was done in each row (row, part).
    context
        Code of the context of each row (row,).
    train
        Rows to learn from (row,).
    panel
        Which gene each part is among those measured, -1 for none (part,).
    by_context
        Whether there is training in several contexts, so that something can be said of how they differ.
    """

    effect: Floats
    products: Floats
    parts: Mask
    context: Ints
    train: Mask
    panel: Ints
    by_context: bool

    def without(self, left: Mask) -> Conditions:
        """Return the same with fewer training rows."""
        return replace(self, train=self.train & ~left)

    def told(self, shares: Floats) -> Floats:
        """Return what weights of training rows (asked, row), zero for all others, say (asked, gene)."""
        return np.asarray(shares @ self.effect)


def conditions_of(effect: Floats, parts: Mask, context: Ints, train: Mask, panel: Ints | None = None) -> Conditions:
    """Return a table of conditions; effects of rows that do not train are not read."""
    seen = np.where(train[:, None], effect, 0.0)
    panel = np.full(parts.shape[1], -1) if panel is None else panel
    return Conditions(seen, seen @ seen.T, parts, context, train, panel, len(np.unique(context[train])) > 1)


def components(given: Conditions) -> tuple[Floats, Floats]:
    """Return the first ten axes of the training effects (row of training, component) and their sizes (component,)."""
    own = given.products[np.ix_(given.train, given.train)]
    centred = own - own.mean(axis=0) - own.mean(axis=1)[:, None] + own.mean()
    values, vectors = np.linalg.eigh(centred)
    first = np.argsort(-values, kind="stable")[:COMPONENTS]
    return vectors[:, first], np.sqrt(np.maximum(values[first], 0.0))


def loadings(given: Conditions) -> Floats | None:
    """Return what its own gene's part in ten components of the training effects says of each part (part, component).

    None where no part is on the panel; zero for a part that is not.

    References
    ----------
    Ahlmann-Eltze, Huber & Anders 2025, doi:10.1038/s41592-025-02772-6.
    """
    if (given.panel < 0).all() or given.train.sum() < 3:
        return None
    axes, sizes = components(given)
    own = given.effect[np.ix_(given.train, given.panel)]
    found = (own - own.mean(axis=0)).T @ axes / max(float(sizes[0]), 1e-12)
    return np.where((given.panel >= 0)[:, None], found, 0.0)


def features(parts: Mask, known: Floats | None) -> Floats:
    """Return what is known of each row's parts (row, f): which they are, and the sum of their loadings."""
    own = parts.astype(float)
    return own if known is None else np.concatenate([own, own @ known], axis=1)
