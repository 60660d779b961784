"""Draw points with values as smooth maps in microns, and read such maps anywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.ndimage import gaussian_filter

from aivc_graph.tissue.frame import Matrix
from aivc_graph.tissue.registration.layer import Layer

MIN_SUPPORT = 0.25


@dataclass(frozen=True)
class FieldMap:
    """A map in microns.

    Parameters
    ----------
    values
        ``(channel, row, col)``; profiles are log-normalised and standardised over the valid pixels.
    valid
        ``(row, col)``: where something is known.
    origin_um
        Centre of pixel (0, 0), ``(x, y)``.
    pixel_um
        Distance of two pixels.
    framed
        Outside the map nothing is known, rather than everything empty.
    cuts_um
        ``(cut, 3)``: lines ``(a, b, c)``; where ``a x + b y + c > 0`` nothing is known.
    """

    values: Matrix
    valid: NDArray[np.bool_]
    origin_um: Matrix
    pixel_um: float
    framed: bool
    cuts_um: Matrix

    def filled(self) -> Matrix:
        """Return the values with zero where nothing is known."""
        return np.where(self.valid, self.values, 0.0)

    def centres_um(self) -> Matrix:
        """Return the centres of all pixels, ``(pixel, 2)``, row by row."""
        rows, columns = np.mgrid[: self.valid.shape[0], : self.valid.shape[1]]
        return np.column_stack([columns.ravel(), rows.ravel()]) * self.pixel_um + self.origin_um

    def at(self, xy_um: Matrix) -> tuple[Matrix, NDArray[np.bool_]]:
        """Return the values ``(point, channel)`` at points by bilinear weights, and who of them is known."""
        weights, inside = _bilinear(xy_um, self.origin_um, self.pixel_um, self.valid.shape)
        known = np.asarray(weights @ self.valid.ravel().astype(np.float64))
        values = np.asarray(weights @ self.filled().reshape(len(self.values), -1).T) / np.maximum(known, 1e-9)[:, None]
        return values, inside & (known > 0.5) if self.framed else ~_beyond(xy_um, self.cuts_um)


def draw_map(layer: Layer, pixel_um: float, sigma_um: float) -> FieldMap:
    """Draw a layer as a map of pixels of `pixel_um`, smoothed by a Gaussian of `sigma_um`.

    Counts are pooled first and then normalised, so that a map of pooled cells compares with counts of spots.
    """
    xy, margin = layer.um(), int(np.ceil(2 * sigma_um / pixel_um)) + 1
    origin = xy.min(axis=0) - margin * pixel_um
    columns, rows = (np.ceil(np.ptp(xy, axis=0) / pixel_um).astype(int) + 2 * margin + 1).tolist()
    weights, _ = _bilinear(xy, origin, pixel_um, (rows, columns))
    sigma = sigma_um / pixel_um
    sums, cuts = _smooth(weights.T @ layer.values, (rows, columns), sigma), layer.cuts_um()
    if not layer.framed:
        centres = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1).reshape(-1, 2) * pixel_um + origin
        within = ~_beyond(centres, cuts)
        share = _smooth(within[:, None].astype(np.float64), (rows, columns), sigma)[0] if len(cuts) else 1.0
        return FieldMap(sums / np.maximum(share, 0.5), within.reshape(rows, columns), origin, pixel_um, False, cuts)
    support = _smooth(weights.T @ np.ones((len(xy), 1)), (rows, columns), sigma)[0]
    total = sums.sum(axis=0)
    valid = support > MIN_SUPPORT * np.median(weights @ support.ravel())
    if not layer.profile:
        return FieldMap(sums / np.maximum(support, 1e-12), valid, origin, pixel_um, True, cuts)
    valid &= total > 0
    return FieldMap(_log_profile(sums, total, valid), valid, origin, pixel_um, True, cuts)


def _log_profile(sums: Matrix, total: Matrix, valid: NDArray[np.bool_]) -> Matrix:
    """Take the log of each channel's share of the pooled counts, then standardise it over the valid pixels."""
    values = np.log1p(len(sums) * sums / np.maximum(total, 1e-12))
    known = values[:, valid]
    mean, spread = known.mean(axis=1), known.std(axis=1)
    return (values - mean[:, None, None]) / np.where(spread > 1e-9, spread, np.inf)[:, None, None]


def _smooth(columns: Matrix, shape: tuple[int, int], sigma: float) -> Matrix:
    maps = np.asarray(columns).T.reshape(-1, *shape)
    return np.stack([gaussian_filter(one, sigma, mode="constant", truncate=3.0) for one in maps])


def _beyond(xy: Matrix, cuts: Matrix) -> NDArray[np.bool_]:
    return np.asarray((xy @ cuts[:, :2].T + cuts[:, 2] > 0).any(axis=1))


def _bilinear(
    xy: Matrix, origin: Matrix, pixel: float, shape: tuple[int, ...]
) -> tuple[sparse.csr_matrix, NDArray[np.bool_]]:
    """Weights ``(point, pixel)`` of the four pixels around each point, none for a point outside, and who is inside."""
    steps = (xy - origin) / pixel
    low = np.floor(steps).astype(np.int64)
    inside = np.asarray(((low >= 0) & (low < np.array(shape[::-1]) - 1)).all(axis=1))
    part = np.where(inside[:, None], steps - low, 0.0)
    base = np.where(inside, low[:, 1] * shape[1] + low[:, 0], 0)
    corners = [(0, 0), (1, 0), (0, 1), (1, 1)]
    data = [np.abs(1 - i - part[:, 0]) * np.abs(1 - j - part[:, 1]) * inside for i, j in corners]
    index = [base + j * shape[1] + i for i, j in corners]
    n = len(xy)
    parts = (np.stack(data, 1).ravel(), np.stack(index, 1).ravel(), np.arange(0, 4 * n + 1, 4))
    return sparse.csr_matrix(parts, (n, shape[0] * shape[1])), inside
