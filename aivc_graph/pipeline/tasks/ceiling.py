"""How well a repeat of the measurement would predict it: the ceiling of every score of expression."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph import names
from aivc_graph.evaluation.intervals import Halves
from aivc_graph.graph.panels import measured_molecules, panel_columns
from aivc_graph.graph.terms import depth_of, in_terms, raw_values
from aivc_graph.pipeline.tasks.task import Asked, Mask

EVERY = slice(None)


def split_half(
    asked: Asked,
    level: str,
    rows: Mask,
    modality: str = names.RNA,
    columns: NDArray[np.integer[Any]] | slice = EVERY,
    seed: int = 0,
) -> dict[str, Halves]:
    """Return each node's molecules dealt at random to two halves, in the terms of their modality; none of no counts.

    The halves of Poisson counts are independent, so each is a repeat of the measurement at half its depth; beyond
    Poisson, what varies from one capture to the next is shared by both, and the ceiling lies too high by that.

    Parameters
    ----------
    columns
        Molecules that are asked.

    References
    ----------
    Neufeld et al. 2024, doi:10.1093/biostatistics/kxac047 (count splitting).
    """
    if modality not in names.MOLECULE_OF:
        return {}
    counts = sparse.csr_matrix(raw_values(asked.graph, level, modality))[rows].astype(np.float64)
    if not np.array_equal(counts.data, np.floor(counts.data)) or (counts.data < 0).any():
        return {}
    one, other = counts.copy(), counts.copy()
    one.data = np.random.default_rng(seed).binomial(counts.data.astype(np.int64), 0.5).astype(np.float64)
    other.data = counts.data - one.data
    depth = depth_of(asked.graph, level, modality)
    halves = [in_terms(half, modality, depth)[:, columns].toarray() for half in (one, other)]
    measured = measured_molecules(asked.graph, level, modality)[:, panel_columns(asked.graph, level, modality)].numpy()
    if not measured.all():
        there = measured[asked.graph[level].section_index.numpy()[rows]][:, columns]
        halves = [np.where(there, half, np.nan) for half in halves]
    return {"split_half": Halves(*halves)}
