"""A table of conditions as plain arrays: what was done, where, and to what effect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Mask = NDArray[np.bool_]

COMPONENTS = 10
# A context with fewer training rows does not tell its parts apart by itself.
LEAST_HERE = 3
# In place of the code of a context.
EVERYWHERE = -1
# A profile that varies less over genes tells nothing of a state.
LEAST_SIZE = 1e-9


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
    untreated
        Profile of the controls of each context (context, gene), by code; not a number where none was measured.
    apart
        How far the untreated states of contexts are from each other, one less their correlation (context, context); not
        a number where one was not measured or does not vary.
    place
        Code of what each context is but for doses and hours, by which contexts are told apart too (context,).
    amounts
        Mean logarithms of doses and of hours in each context; 0 where there are none (context, 2).
    width
        The median of how far apart the training contexts are; not a number with fewer than two that are known.
    by_context
        Whether there is training in several contexts, so that something can be said of how they differ.
    alike
        How alike parts are by each source of what is known beforehand (source, part, part); see `Known.likeness`.
    """

    effect: Floats
    products: Floats
    parts: Mask
    context: Ints
    train: Mask
    panel: Ints
    untreated: Floats
    apart: Floats
    place: Ints
    amounts: Floats
    width: float
    by_context: bool
    alike: Floats

    def without(self, left: Mask) -> Conditions:
        """Return the same with fewer training rows."""
        return replace(self, train=self.train & ~left)

    def of_its_context(self, row: int | np.integer) -> Mask:
        """Return the training rows that tell what the parts of a row do where it is asked about (row,).

        Those of its context, for what another context responds with would else be taken for what parts do; all rows
        where the context has fewer than three, or none with a part that is asked and trains elsewhere.
        """
        here = self.train & (self.context == self.context[row])
        elsewhere = self.parts[row] & self.parts[self.train].any(axis=0) & ~self.parts[here].any(axis=0)
        return self.train if here.sum() < LEAST_HERE or elsewhere.any() else here

    def of_contexts(self, rows: Ints) -> Iterator[tuple[int, Mask, Conditions]]:
        """Yield some of the `rows`, as a mask (asked,), with the table of what tells of their parts where they are.

        Before them the code of the context they are in, or `EVERYWHERE` where all training rows tell.
        """
        learned = np.stack([self.of_its_context(row) for row in rows])
        for here in np.unique(learned, axis=0):
            some = (learned == here).all(axis=1)
            if (here == self.train).all():
                yield EVERYWHERE, some, self
            else:
                yield int(self.context[here][0]), some, replace(self, train=here, by_context=False)

    def told(self, shares: Floats) -> Floats:
        """Return what weights of training rows (asked, row), zero for all others, say (asked, gene)."""
        return np.asarray(shares @ self.effect)


def conditions_of(
    effect: Floats,
    parts: Mask,
    context: Ints,
    train: Mask,
    panel: Ints | None = None,
    untreated: Floats | None = None,
    alike: Floats | None = None,
    place: Ints | None = None,
    amounts: Floats | None = None,
) -> Conditions:
    """Return a table of conditions; effects of rows that do not train are not read. See `Conditions`."""
    seen = np.where(train[:, None], effect, 0.0)
    panel = np.full(parts.shape[1], -1) if panel is None else panel
    if untreated is None:
        untreated = np.full((int(context.max(initial=-1)) + 1, effect.shape[1]), np.nan)
    contexts, apart = np.unique(context[train]), states_apart(untreated)
    between = apart[np.ix_(contexts, contexts)][np.triu_indices(len(contexts), 1)]
    known = between[np.isfinite(between)]
    width = float(np.median(known)) if len(known) else float("nan")
    alike = np.zeros((0, parts.shape[1], parts.shape[1])) if alike is None else alike
    place = np.arange(len(untreated)) if place is None else place
    amounts = np.zeros((len(untreated), 2)) if amounts is None else amounts
    return Conditions(
        effect=seen,
        products=seen @ seen.T,
        parts=parts,
        context=context,
        train=train,
        panel=panel,
        untreated=untreated,
        apart=apart,
        place=place,
        amounts=amounts,
        width=width,
        by_context=len(contexts) > 1,
        alike=alike,
    )


def states_apart(untreated: Floats) -> Floats:
    """Return one less the correlation of the contexts' untreated states (context, context); see `Conditions`."""
    centred = untreated - untreated.mean(axis=1, keepdims=True)
    size = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    unit = np.divide(centred, size, out=np.full_like(centred, np.nan), where=size > LEAST_SIZE)
    return np.asarray(np.maximum(1 - unit @ unit.T, 0.0))


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
