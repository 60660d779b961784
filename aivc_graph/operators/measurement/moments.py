"""Second moments of log counts about the means of sections, without making all rows dense."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.floating]
# log1p of scaled counts (node, molecule), means (section, molecule), and the section of each node (node,).
Piece = tuple[sparse.csr_matrix, Floats, NDArray[np.int64]]


def gram(scaled: sparse.csr_matrix, mean: Floats, section: NDArray[np.int64]) -> Floats:
    """Return ``XᵀX`` of centred rows X (molecule, molecule)."""
    total = np.zeros((scaled.shape[1], scaled.shape[1]), np.float32)
    for start in range(0, len(section), 4000):
        centred = scaled[start : start + 4000].toarray() - mean[section[start : start + 4000]]
        total = total + centred.T @ centred
    return total


def squares_of(scaled: sparse.csr_matrix, mean: Floats, section: NDArray[np.int64]) -> Floats:
    """Return the summed squares of each molecule (molecule,) about the mean of the node's section."""
    number = np.bincount(section, minlength=len(mean))
    summed = np.asarray((_by_section(section, len(mean)) @ scaled).todense())
    found = np.asarray(scaled.multiply(scaled).sum(axis=0)).ravel() - (2 * summed * mean).sum(axis=0)
    return np.maximum(found + number @ mean**2, 0.0)


def moment_times(scaled: sparse.csr_matrix, mean: Floats, section: NDArray[np.int64], vectors: Floats) -> Floats:
    """Return ``XᵀX vectors`` of centred rows X, which are never made dense."""
    told = scaled @ vectors - (mean @ vectors)[section]
    return np.asarray(scaled.T @ told - mean.T @ (_by_section(section, len(mean)) @ told))


def _by_section(section: NDArray[np.int64], n: int) -> sparse.csr_matrix:
    """Return the matrix (section, node) that sums rows by section."""
    return sparse.csr_matrix((np.ones(len(section)), (section, np.arange(len(section)))), (n, len(section)))
