"""Cells as they were measured or predicted, sparse, each of one row of a table; and sums over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.errors import ReadError
from aivc_graph.operators.intervention.condition_profiles import DEPTH, profiles_of

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

# Log-normalised values are taken as log1p of counts at this depth where counts per million are needed.
LOG_DEPTH = 1e4
# No logarithm of expression reaches this: exp(20) is 480 million.
LOG_MOST = 20.0
CHUNK = 500


@dataclass(frozen=True)
class Cells:
    """Cells `x` (cell, gene) in CSR form, the `row` (cell,) each is of, and whether `x` is counts or log-normalised."""

    x: sparse.csr_matrix
    row: Ints
    counts: bool

    def take(self, kept: NDArray[Any]) -> Cells:
        """Return some of the cells, by mask or index."""
        return Cells(self.x[kept], self.row[kept], self.counts)

    def of(self, row: int) -> NDArray[np.intp]:
        """Return the cells of one row."""
        return np.flatnonzero(self.row == row)

    def logged(self) -> sparse.csr_matrix:
        """Return log-normalised values (cell, gene), still sparse: log1p of counts at a depth of 50,000."""
        return log_normalised(self.x) if self.counts else self.x

    def per_million(self) -> sparse.csr_matrix:
        """Return counts per million (cell, gene), still sparse; log-normalised values are taken as of depth 10,000."""
        if self.counts:
            return scaled(self.x, 1e6)
        found = self.x.astype(np.float64)
        found.data = np.expm1(found.data) * (1e6 / LOG_DEPTH)
        return found


def scaled(x: sparse.csr_matrix, depth: float) -> sparse.csr_matrix:
    """Return cells brought to one depth; a cell without counts stays empty."""
    total = np.asarray(x.sum(axis=1)).ravel()
    out = x.astype(np.float64)
    out.data *= np.repeat(depth / np.maximum(total, 1e-12), np.diff(x.indptr))
    return out


def log_normalised(x: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return log1p of cells brought to a depth of 50,000."""
    out = scaled(x, DEPTH)
    out.data = np.log1p(out.data)
    return out


def are_counts(x: sparse.csr_matrix, where: str) -> bool:
    """Tell counts (whole numbers) from log-normalised values (fractions up to 20).

    Raises
    ------
    ReadError
        Negative or unbounded values, or fractions too large for a logarithm: neither of the two.
    """
    values = x.data
    if not np.isfinite(values).all() or (values < 0).any():
        bad = "values that are not finite" if not np.isfinite(values).all() else f"the value {values.min():.3g}"
        raise ReadError(where, bad, "counts or log-normalised expression", "give data that was not centred or scaled")
    if (values == np.floor(values)).all():
        return True
    if values.max() <= LOG_MOST:
        return False
    found = f"fractions up to {values.max():.4g}: neither counts nor log-normalised"
    raise ReadError(where, found, "whole counts, or log1p values up to 20", "give the raw counts or their logarithm")


def sums(cells: Cells, n_rows: int) -> tuple[Floats, Floats]:
    """Return sums over the cells of each row (row, gene), and their number (row,)."""
    n = len(cells.row)
    chooser = sparse.csr_matrix((np.ones(n), (cells.row, np.arange(n))), shape=(n_rows, n))
    total = chooser @ cells.x
    return np.asarray(total.todense(), np.float64), np.bincount(cells.row, minlength=n_rows).astype(float)


def profiles(cells: Cells, n_rows: int) -> tuple[Floats, Floats]:
    """Return the profile of each row (row, gene), and its number of cells (row,).

    Of values that are not numbers the others are averaged over; not a number where a row has none.
    """
    missing = ~np.isfinite(cells.x.data)
    if not missing.any():
        total, n_cells = sums(cells, n_rows)
        return profiles_of(total, n_cells, cells.counts), n_cells
    known, unknown = cells.x.copy(), cells.x.copy()
    known.data, unknown.data = np.where(missing, 0.0, known.data), missing.astype(float)
    total, n_cells = sums(Cells(known, cells.row, cells.counts), n_rows)
    number = n_cells[:, None] - sums(Cells(unknown, cells.row, cells.counts), n_rows)[0]
    return np.where(number > 0, total / np.maximum(number, 1), np.nan), n_cells


def jackknife(cells: Cells, n_rows: int) -> Floats:
    r"""Return the delete-one jackknife variance of each profile (row, gene); not a number for fewer than two cells.

    .. math:: C_g = \frac{n-1}{n} \sum_i (v_{ig} - \bar v_g)^2

    with v the profile without cell i. Dense over a few hundred cells at a time.

    References
    ----------
    Efron & Stein 1981, doi:10.1214/aos/1176345462.
    """
    total, n_cells = sums(cells, n_rows)
    found = np.full(total.shape, np.nan)
    order = np.argsort(cells.row, kind="stable")
    ends = np.concatenate([[0], np.cumsum(np.bincount(cells.row, minlength=len(total)))])
    for row in range(len(total)):
        own = order[ends[row] : ends[row + 1]]
        n = len(own)
        if n < 2:
            continue
        if not cells.counts:
            found[row] = _variance_of_mean(cells.x[own])
            continue
        first, second = np.zeros(total.shape[1]), np.zeros(total.shape[1])
        whole = profiles_of(total[row : row + 1], n_cells[row : row + 1], True)[0]
        for start in range(0, n, CHUNK):
            left = total[row] - cells.x[own[start : start + CHUNK]].toarray()
            np.maximum(left, 0, out=left)
            left *= DEPTH / np.maximum(left.sum(axis=1, keepdims=True), 1e-12)
            np.log1p(left, out=left)
            left -= whole  # close to zero: squares then lose nothing
            first += left.sum(axis=0)
            second += np.einsum("ig,ig->g", left, left)
        found[row] = (n - 1) / n * np.maximum(second - first**2 / n, 0.0)
    return found


def _variance_of_mean(x: sparse.csr_matrix) -> Floats:
    n = x.shape[0]
    if not np.isfinite(x.data).all():
        dense = x.toarray()
        known = np.isfinite(dense)
        n = np.maximum(known.sum(axis=0), 1)
        away = np.where(known, dense - np.where(known, dense, 0.0).sum(axis=0) / n, 0.0)
        return np.where(n > 1, (away**2).sum(axis=0) / n / np.maximum(n - 1, 1), np.nan)
    mean = np.asarray(x.mean(axis=0)).ravel()
    square = np.asarray(x.multiply(x).mean(axis=0)).ravel()
    return np.maximum(square - mean**2, 0.0) / (n - 1)
