"""How well a placed layer agrees with a map, as a whole and without each part of its tissue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.tissue.frame import Matrix, apply_affine
from aivc_graph.tissue.registration.layer import Layer
from aivc_graph.tissue.registration.maps import FieldMap, draw_map

MAX_POINTS = 4000
BLOCKS = 4
# Share of the tissue that must be known.
HALF = 0.5
# A difference above this many of its standard errors is no chance: one in twenty, to one side.
SURE = 1.645


@dataclass(frozen=True)
class Samples:
    """Where a layer is looked at, what it shows there, and the map that it is to agree with.

    Parameters
    ----------
    points_um
        ``(point, 2)``: nodes of a profile, pixels of a density, in the layer's own microns.
    values
        ``(point, channel)``.
    mass
        ``(point,)``: how much tissue a point stands for.
    blocks
        ``(block, point)``: 1 where a point is in a block, of a grid of 4 × 4 over the layer.
    fixed
        The other layer's map.
    """

    points_um: Matrix
    values: Matrix
    mass: Matrix
    blocks: sparse.csr_matrix
    fixed: FieldMap

    @classmethod
    def of(cls, moving: Layer, fixed: Layer, pixel_um: float) -> Samples:
        """Look at `moving` on maps of pixels of `pixel_um`."""
        drawn = draw_map(moving, pixel_um, pixel_um)
        points = moving.um() if moving.profile else drawn.centres_um()
        points = points[:: -(-len(points) // MAX_POINTS)]
        values, known = drawn.at(points)
        points, values = points[known], values[known]
        mass = np.ones(len(points)) if moving.profile else values.sum(axis=1)
        return cls(points, values, mass, _blocks(points), draw_map(fixed, pixel_um, pixel_um))

    def agreement(self, affine: Matrix) -> float:
        """Return the mean correlation over channels once placed, times the root of the share of tissue the map knows.

        The root keeps a layer from sliding off the other: it weighs a correlation by the tissue behind it; what lies
        beyond a cut does not count against a map. Below one half known it is −1.
        """
        sums, known, mass = self._sums(affine, np.ones((1, len(self.mass))))
        return float(self._score(sums[0], known[0], mass[0]))

    def without_blocks(self, affine: Matrix) -> Matrix:
        """Return the agreement without each block of tissue, ``(block,)``, each −1 where that of the whole is.

        Whether half is known is asked of the whole alone: else the loss of a block would be a fall to −1.
        """
        sums, known, mass = self._sums(affine, self.blocks)
        least = 0.0 if known.sum() >= HALF * mass.sum() else np.inf
        return self._score(sums.sum(axis=0) - sums, known.sum() - known, mass.sum() - mass, least)

    def gain(self, one: Matrix, other: Matrix) -> tuple[float, float]:
        """Return by how much `one` agrees better than `other`, and that in its standard errors.

        The error is that of a jackknife over blocks, so that a tissue which looks alike both ways says so.
        """
        gain = self.agreement(one) - self.agreement(other)
        parts = self.without_blocks(one) - self.without_blocks(other)
        error = np.sqrt((len(parts) - 1) * parts.var())
        return gain, float(gain / error) if error > 0 else 0.0

    def _sums(self, affine: Matrix, groups: sparse.csr_matrix | Matrix) -> tuple[Matrix, Matrix, Matrix]:
        """Sums of 1, a, b, a², b², ab ``(group, channel, 6)`` over known points; known and all mass ``(group,)``."""
        other, known = self.fixed.at(apply_affine(self.points_um, affine))
        a, b = self.values, other
        terms = np.stack([np.ones_like(a), a, b, a**2, b**2, a * b], axis=-1) * known[:, None, None]
        sums = np.asarray(groups @ terms.reshape(len(a), -1)).reshape(groups.shape[0], *terms.shape[1:])
        return sums, np.asarray(groups @ (self.mass * known)), np.asarray(groups @ self.mass)

    def _score(self, sums: Matrix, known: Matrix, mass: Matrix, least: float = HALF) -> Matrix:
        """Agreement from sums ``(…, channel, 6)``, −1 if less than `least` is known; a constant channel is zero."""
        n, a, b, aa, bb, ab = np.moveaxis(sums, -1, 0)
        n = np.maximum(n, 1.0)
        norm = np.sqrt(np.maximum(aa - a**2 / n, 0.0) * np.maximum(bb - b**2 / n, 0.0))
        correlation = np.where(norm > 1e-9 * n, (ab - a * b / n) / np.maximum(norm, 1e-12), 0.0).mean(axis=-1)
        share = np.clip(known / np.maximum(mass, 1e-12), 0.0, 1.0)
        weight = np.sqrt(share) if self.fixed.framed else 1.0
        return np.asarray(np.where(share < least, -1.0, correlation * weight))


def _blocks(points: Matrix) -> sparse.csr_matrix:
    low, size = points.min(axis=0), np.maximum(np.ptp(points, axis=0), 1e-9)
    step: NDArray[np.int64] = np.minimum((BLOCKS * (points - low) / size).astype(np.int64), BLOCKS - 1)
    _, code = np.unique(step[:, 0] * BLOCKS + step[:, 1], return_inverse=True)
    return sparse.csr_matrix((np.ones(len(code)), (code, np.arange(len(code)))))
