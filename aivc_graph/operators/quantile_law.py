"""What was measured of nodes of which as much was expected: a law for each molecule, by its quantiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from torch import Tensor, nn

Floats = NDArray[np.floating[Any]]
BINS, QUANTILES = 8, 33
PROBABILITIES = (np.arange(QUANTILES) + 0.5) / QUANTILES
MOST_SCORE = 4.5
# Values closer than this are one.
ALIKE = 1e-5


class QuantileLaw(nn.Module):
    r"""The law of a value y given what is expected, m, molecule by molecule, without a form.

    Nodes that were measured while hidden are put into eight classes of equal size by m; in each the quantiles
    :math:`Q_b(p)` of y are kept, and between the mean expectations of two classes the quantile function is
    interpolated, so that a value that many nodes share, such as zero, stays one. Normal scores are
    :math:`s = \Phi^{-1}(F(y \mid m))`, at random within what is shared.

    Before it is fitted a value is what is expected plus its score.

    Shapes
    ------
    centre
        (class, molecule)
    quantile
        (class, quantile, molecule), less what is expected in that class

    References
    ----------
    Koenker 2005, Quantile Regression, doi:10.1017/CBO9780511754098.
    """

    centre: Tensor
    quantile: Tensor

    def __init__(self, n_molecules: int) -> None:
        super().__init__()
        start = np.broadcast_to(ndtri(PROBABILITIES)[None, :, None], (BINS, QUANTILES, n_molecules))
        self.register_buffer("centre", torch.zeros(BINS, n_molecules))
        self.register_buffer("quantile", torch.from_numpy(start.copy()).float())

    def fit(self, expected: Floats, measured: Floats) -> None:
        """Keep the quantiles of `measured` values by what was `expected` of them, both (node, molecule)."""
        order = np.argsort(expected, axis=0, kind="stable")
        said, seen = (np.take_along_axis(values, order, 0) for values in (expected, measured))
        for i, rows in enumerate(np.array_split(np.arange(len(said)), BINS)):
            own = rows if len(rows) else np.arange(len(said))
            centre = said[own].mean(axis=0)
            found = np.quantile(seen[own], PROBABILITIES, axis=0, method="inverted_cdf") - centre
            self.centre[i] = torch.from_numpy(centre)
            self.quantile[i] = torch.from_numpy(found)

    def values(self, score: Floats, expected: Floats, columns: NDArray[np.integer]) -> Floats:
        """Return the values (node, draw, column) that have the `score` where `expected` (node, column) is expected."""
        low, high, share = self._between(expected, columns)
        place = np.clip(ndtr(score) * QUANTILES - 0.5, 0, QUANTILES - 1)
        quantile = self.quantile.double().numpy()[:, :, columns] + self.centre.double().numpy()[:, None, columns]
        column = np.arange(len(columns))
        found = [_interpolated(quantile, one[:, None], place, column) for one in (low, high)]
        return np.asarray(found[0] + share[:, None] * (found[1] - found[0]))

    def scores(self, measured: Floats, expected: Floats, rng: np.random.Generator) -> Floats:
        """Return normal scores of `measured` values under the law where `expected` is expected (node, molecule)."""
        columns = np.arange(measured.shape[1])
        low, high, share = self._between(expected, columns)
        quantile = self.quantile.double().numpy() + self.centre.double().numpy()[:, None]
        found = np.empty(measured.shape)
        for j in columns:
            law = quantile[low[:, j], :, j] + share[:, [j]] * (quantile[high[:, j], :, j] - quantile[low[:, j], :, j])
            below, up_to = ((law < y).sum(axis=1) for y in (measured[:, [j]] - ALIKE, measured[:, [j]] + ALIKE))
            found[:, j] = (below + (up_to - below) * rng.random(len(law))) / QUANTILES
        half = 0.5 / QUANTILES
        return np.asarray(np.clip(ndtri(np.clip(found, half, 1 - half)), -MOST_SCORE, MOST_SCORE))

    def _between(
        self, expected: Floats, columns: NDArray[np.integer]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
        """Return the classes below and above, and how far between them each node lies (node, column)."""
        centre = self.centre.double().numpy()[:, columns]
        low = np.clip((centre[:, None] <= expected[None]).sum(axis=0) - 1, 0, BINS - 1)
        high = np.minimum(low + 1, BINS - 1)
        start, end = (np.take_along_axis(centre, one, 0) for one in (low, high))
        share = np.where(end > start, (expected - start) / np.maximum(end - start, 1e-12), 0.0)
        return low, high, np.clip(share, 0.0, 1.0)


def _interpolated(quantile: Floats, group: NDArray[np.int64], place: Floats, column: NDArray[np.integer]) -> Floats:
    """Return the quantiles (class, quantile, column) of classes (node, 1, column) at places (node, draw, column)."""
    left = np.floor(place).astype(np.int64)
    right = np.minimum(left + 1, QUANTILES - 1)
    a, b = (quantile[group, one, column] for one in (left, right))
    return np.asarray(a + (place - left) * (b - a))
