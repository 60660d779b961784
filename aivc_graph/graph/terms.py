"""The terms in which values of a modality are told and compared: logarithms, or what is nearly one."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph import names
from aivc_graph.graph.cofactors import cofactor_name
from aivc_graph.graph.panels import panel_columns
from aivc_graph.graph.profiles import scale_counts
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr

Floats = NDArray[np.floating[Any]]
# Sparse or dense (node, molecule).
Values: TypeAlias = Any
# The depth of counts, or the cofactor of each marker (marker,).
Depth: TypeAlias = float | tuple[float, ...]

# What tells of no molecule by name, or of no untreated node.
OTHER = (names.HISTOLOGY, names.MORPHOLOGY, names.EFFECT)


def in_terms(values: Values, modality: str, depth: Depth | Floats, known: NDArray[np.bool_] | None = None) -> Values:
    r"""Return values (node, molecule) in the terms of their modality; sparse ones stay sparse.

    RNA and chromatin: :math:`\log(1 + c\,y/\sum y)` with c the level's `depth`, one or (node,). Protein, of which a few
    carry most of the counts: the centred log ratio :math:`\log(1 + y / \exp(\overline{\log(1 + y)}))`.
    Intensities: :math:`\operatorname{arcsinh}(y / c)` with c the cofactor of each marker. Features as they are.

    The mean of proteins is over those `known` (node, molecule), all if not given; of others no counts are held.

    References
    ----------
    Stoeckius et al. 2017, doi:10.1038/nmeth.4380; Hao et al. 2021, doi:10.1016/j.cell.2021.04.048 (centred log ratio).

    Examples
    --------
    >>> in_terms(sparse.csr_matrix([[3.0, 0.0]]), "protein", 1.0).toarray().round(3)
    array([[0.916, 0.   ]], dtype=float32)
    """
    if isinstance(depth, tuple):
        return np.arcsinh(values / np.asarray(depth, np.float32))
    if modality not in names.MOLECULE_OF:
        return values
    if modality != names.ADT:
        return scale_counts(sparse.csr_matrix(values), depth)
    ratio = sparse.csr_matrix(values).astype(np.float32)
    number = ratio.shape[1] if known is None else np.maximum(known.sum(axis=1), 1)
    mean = np.asarray(ratio.log1p().sum(axis=1)).ravel() / number
    ratio.data /= np.repeat(np.exp(mean), np.diff(ratio.indptr)).astype(np.float32)
    return ratio.log1p()


def shares_of(told: Floats, modality: str, depth: Depth) -> Floats:
    """Return the shares of molecules (node, molecule) that go with values of counts in the terms of their modality.

    A centred log ratio says nothing of the total, so that the shares of proteins are brought to sum one; those of
    logarithms at one depth sum to about one. Of intensities they are the intensities, in the file's units.
    """
    if isinstance(depth, tuple):
        return np.asarray(np.sinh(told) * np.asarray(depth))
    amount = np.expm1(np.clip(told, 1e-6, 20.0))
    return amount / amount.sum(axis=1, keepdims=True) if modality == names.ADT else amount / depth


def raw_values(graph: TissueGraph, level: str, modality: str) -> Values:
    """Return what was measured (node, molecule): counts of the level's panel, or features."""
    if modality not in names.MOLECULE_OF:
        return np.asarray(graph[level][modality].numpy())
    counts, columns = to_scipy_csr(graph.counts(level, modality)), panel_columns(graph, level, modality).numpy()
    return counts if len(columns) == counts.shape[1] else counts[:, columns]


def measured_terms(graph: TissueGraph, level: str, modality: str, rows: NDArray[Any] | slice) -> Values:
    """Return what was measured of `rows`, boolean (node,) or positions, in its terms (row, molecule)."""
    return in_terms(raw_values(graph, level, modality)[rows], modality, depth_of(graph, level, modality))


def dense(values: Values) -> NDArray[np.float64]:
    """Return values as a plain array."""
    return np.asarray(values.toarray() if sparse.issparse(values) else values, np.float64)


def depth_of(graph: TissueGraph, level: str, modality: str) -> Depth:
    """Return the depth that counts of a level are scaled to [counts], or the cofactor of each marker; else one."""
    if (cofactor := cofactor_name(modality)) in graph[level]:
        return tuple(graph[level][cofactor].tolist())
    return float(graph[level].get(f"{modality}_depth", 1.0))


def told_apart(graph: TissueGraph, level: str) -> list[str]:
    """Return the modalities of a level that can be told from one another: those that measure molecules by name."""
    return [modality for modality in graph.modalities(level) if modality not in OTHER]
