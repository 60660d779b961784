"""Components of molecules of which each section measured a part: what was not measured is told by the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.operators.measurement.moments import Piece, gram, moment_times, squares_of

Floats = NDArray[np.floating]

# Rounds, where each is a pass over all rows, and the change of the covariance that components give at which they end.
MOST_ROUNDS, MOST_PASSES, CONVERGED = 300, 30, 1e-4
SPARE = 10


@dataclass
class PanelMoment:
    """Second moment of nodes that measured the molecules `columns`: kept `whole`, or as its rows where that is less."""

    columns: NDArray[np.int64]
    whole: bool
    number: int = 0
    moment: Floats | None = None
    pieces: list[Piece] = field(default_factory=list)

    def add(self, scaled: sparse.csr_matrix, mean: Floats, section: NDArray[np.int64]) -> None:
        """Add the nodes of a window: log counts (node, molecule) and the mean of each one's `section`."""
        self.number += len(section)
        piece = scaled[:, self.columns], mean[:, self.columns], section
        if self.whole:
            self.moment = gram(*piece) + (0 if self.moment is None else self.moment)
        else:
            self.pieces.append(piece)

    def times(self, vectors: Floats) -> Floats:
        """Return the moment times `vectors` (column, k)."""
        if self.moment is not None:
            return np.asarray(self.moment @ vectors)
        return np.sum([moment_times(*piece, vectors) for piece in self.pieces], axis=0)

    def squares(self) -> Floats:
        """Return the summed squares of each molecule (column,)."""
        if self.moment is not None:
            return np.asarray(np.diag(self.moment))
        return np.sum([squares_of(*piece) for piece in self.pieces], axis=0)


@dataclass(frozen=True)
class Factors:
    r"""The model :math:`x = E f + \epsilon,\ f \sim \mathcal N(0, \Lambda),\ \epsilon_g \sim \mathcal N(0, \psi_g)`.

    `loading` (molecule, latent) with orthonormal columns, `variance` (latent,) and `own_variance` (molecule,).
    """

    loading: Floats
    variance: Floats
    own_variance: Floats


def joint_components(panels: list[PanelMoment], n: int, latent: int, rng: np.random.Generator) -> Factors:
    """Return the components of `n` molecules from the moments of panels that each hold a part of them.

    Rounds of expectation and maximisation: what a panel lacks has the moment that the model expects of it given what
    was measured; components, their variance and that of single molecules are then those of the completed moment, as
    they are of a moment in which nothing is missing. Each round takes one step of subspace iteration.

    References
    ----------
    Dempster, Laird & Rubin 1977, doi:10.1111/j.2517-6161.1977.tb01600.x; Tipping & Bishop 1999,
    doi:10.1111/1467-9868.00196 (probabilistic principal components with missing values).
    """
    number = sum(panel.number for panel in panels)
    squares = [panel.squares() for panel in panels]
    own, seen = np.zeros(n), np.zeros(n)
    for panel, square in zip(panels, squares, strict=True):
        own[panel.columns] += square
        seen[panel.columns] += panel.number
    own = own / np.maximum(seen, 1) + 1e-6
    model = Factors(np.zeros((n, latent)), np.ones(latent), own)
    axes = np.linalg.qr(rng.standard_normal((n, min(latent + SPARE, n))))[0]
    for _ in range(MOST_ROUNDS if all(panel.whole for panel in panels) else MOST_PASSES):
        before, (turned, total) = model, _completed(model, panels, squares, axes)
        values, turn = np.linalg.eigh(axes.T @ turned)
        vectors = (axes @ turn)[:, ::-1][:, :latent]
        model = factors_of(vectors, values[::-1][:latent] / number, total / number)
        axes = np.linalg.qr(turned)[0]
        if _change(before, model) < CONVERGED:
            break
    return model


def factors_of(vectors: Floats, along: Floats, squares: Floats) -> Factors:
    """Return the model of components `vectors` (molecule, latent).

    A component's variance is its eigenvalue less the mean of those left out; what components do not explain of a
    molecule is its own.

    Parameters
    ----------
    along, squares
        Mean squares along each component (latent,) and of each molecule (molecule,).
    """
    n, latent = vectors.shape
    noise = max(float(squares.sum() - along.sum()) / max(n - latent, 1), 1e-6)
    variance = np.maximum(along - noise, 1e-3 * noise)
    own = np.maximum(squares - vectors**2 @ variance, 0.05 * squares + 1e-6)
    return Factors(vectors, variance, own)


def keep_factors(part: Any, found: Factors) -> None:
    """Let a measurement keep a factor model, each component with its largest loading above zero."""
    sign = np.sign(found.loading[np.abs(found.loading).argmax(axis=0), np.arange(part.plan.latent)])
    for buffer, values in (
        (part.loading, found.loading * sign),
        (part.variance, found.variance),
        (part.own_variance, found.own_variance),
    ):
        buffer.copy_(torch.from_numpy(np.ascontiguousarray(values)).float())


def _completed(model: Factors, panels: list[PanelMoment], squares: list[Floats], axes: Floats) -> tuple[Floats, Floats]:
    """Return the completed moment times `axes` (molecule, k), and its diagonal (molecule,)."""
    turned, total = np.zeros_like(axes), np.zeros(len(axes))
    for panel, square in zip(panels, squares, strict=True):
        here, away = panel.columns, np.setdiff1d(np.arange(len(axes)), panel.columns)
        e, lacking, own = model.loading[here], model.loading[away], model.own_variance[away]
        weighed = e / model.own_variance[here, None]
        posterior = np.linalg.inv(e.T @ weighed + np.diag(1 / model.variance))
        told, along = weighed @ posterior, panel.times(np.hstack([weighed @ posterior, axes[here]]))
        k = told.shape[1]
        spread = panel.number * posterior + told.T @ along[:, :k]
        over = lacking.T @ axes[away]
        turned[here] += along[:, k:] + along[:, :k] @ over
        turned[away] += lacking @ (told.T @ along[:, k:] + spread @ over) + panel.number * own[:, None] * axes[away]
        total[here] += square
        total[away] += ((lacking @ spread) * lacking).sum(axis=1) + panel.number * own
    return turned, total


def _change(before: Factors, after: Factors) -> float:
    """Return how far the covariance that components give differs, over its size."""
    a, b = (one.loading * np.sqrt(one.variance) for one in (before, after))
    inner = [float(np.sum((x.T @ y) ** 2)) for x, y in ((a, a), (a, b), (b, b))]
    return float(np.sqrt(max(inner[0] - 2 * inner[1] + inner[2], 0.0) / max(inner[2], 1e-30)))
