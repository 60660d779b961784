"""How well a repeat of the measurement would predict it: the ceiling of every score of expression."""

from __future__ import annotations

import numpy as np

from aivc_graph import names
from aivc_graph.evaluation.intervals import Halves
from aivc_graph.graph.panels import panel_columns
from aivc_graph.graph.profiles import scale_counts
from aivc_graph.graph.tissue_graph import to_scipy_csr
from aivc_graph.pipeline.tasks.task import Asked, Mask


def split_half(asked: Asked, level: str, rows: Mask, seed: int = 0) -> dict[str, Halves]:
    """Return each node's molecules dealt at random to two halves, as log expression; none where values are no counts.

    The halves of Poisson counts are independent, so each is a repeat of the measurement at half its depth; beyond
    Poisson, what varies from one capture to the next is shared by both, and the ceiling lies too high by that.

    References
    ----------
    Neufeld et al. 2024, doi:10.1093/biostatistics/kxac047 (count splitting).
    """
    counts = to_scipy_csr(asked.graph.counts(level, names.RNA))
    counts = counts[:, panel_columns(asked.graph, level, names.RNA).numpy()][rows].astype(np.float64)
    if not np.array_equal(counts.data, np.floor(counts.data)) or (counts.data < 0).any():
        return {}
    one, other = counts.copy(), counts.copy()
    one.data = np.random.default_rng(seed).binomial(counts.data.astype(np.int64), 0.5).astype(np.float64)
    other.data = counts.data - one.data
    depth = float(asked.model.count_operator(level, names.RNA).target_depth)
    return {"split_half": Halves(*(scale_counts(half, depth).toarray() for half in (one, other)))}
