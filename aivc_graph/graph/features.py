"""Which molecules become nodes: shared panels, and the most variable genes of the training side."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.errors import GraphError
from aivc_graph.tissue.doubt import doubt

SAMPLE_ROWS = 20_000
OVERDISPERSION = 100.0
# Fewer of the features of the smaller panel than this are worth a look; panels this large are no hand-picked ones.
LEAST_SHARED, MANY = 0.5, 10


def shared_panel(tables: list[Any], where: str) -> pd.Index:
    """Return the feature names that all `tables` (AnnData) of a level and modality measured, in the first one's order.

    Raises
    ------
    GraphError
        If two sections share no feature at all.
    """
    panel = tables[0].var_names
    for table in tables[1:]:
        panel = panel[panel.isin(table.var_names)]
    if len(panel) == 0:
        first, last = tables[0].var_names[0], tables[-1].var_names[0]
        raise GraphError(
            where,
            f"no feature shared by all sections ({first!r} against {last!r})",
            "one naming of genes",
            "use symbols or ids in all",
        )
    least = min(table.n_vars for table in tables)
    if len(panel) < LEAST_SHARED * least:
        found = f"{len(panel):,} of {least:,} features in all sections, the others are left out{_alike(tables, panel)}"
        doubt(where, found, f"≥ {LEAST_SHARED:.0%}", "are they spelt alike, and of one panel?")
    return panel


def check_levels(panels: Mapping[str, pd.Index], where: str) -> None:
    """Doubt that two levels share too few of their features `panels`; refuse none at all.

    Raises
    ------
    GraphError
        If two levels of many features have none in common: cells named by symbol, spots by Ensembl id.
    """
    for (a, one), (b, other) in combinations(panels.items(), 2):
        shared, least = int(one.isin(other).sum()), min(len(one), len(other))
        first = f"{one[0]!r} of {a}, {other[0]!r} of {b}"
        if not shared and least >= MANY:
            mend = "name symbols, or ids, at both levels (`symbols:` where the reader has it)"
            raise GraphError(where, f"no feature shared by {a} and {b} ({first})", "one naming of genes", mend)
        if shared < LEAST_SHARED * least:
            found = f"{shared:,} of {least:,} features shared by {a} and {b} ({first})"
            doubt(where, found, f"≥ {LEAST_SHARED:.0%}", "are they spelt alike, and of one panel?")


def _alike(tables: list[Any], panel: pd.Index) -> str:
    """Say how many features of the first table stand in the last with other capitals, with one of them."""
    first, last = (
        {name.lower(): name for name in table.var_names if name not in panel} for table in (tables[0], tables[-1])
    )
    same = [name for name in first if name in last]
    return f" ({len(same):,} differ by capitals alone: {first[same[0]]!r}, {last[same[0]]!r})" if same else ""


def variable_features(counts: sparse.csr_matrix, top: int) -> NDArray[np.int64]:
    """Return the columns with the largest variance of Pearson residuals, in ascending order.

    Residuals are those of a negative binomial with overdispersion 100 and the rank-one mean, clipped at √n; at most
    20,000 evenly spaced rows are read.

    References
    ----------
    Lause, Berens & Kobak 2021, doi:10.1186/s13059-021-02451-7.
    """
    if top >= counts.shape[1]:
        return np.arange(counts.shape[1])
    rows = np.unique(np.linspace(0, counts.shape[0] - 1, min(counts.shape[0], SAMPLE_ROWS)).astype(int))
    sample = counts[rows].astype(np.float64)
    depth = np.asarray(sample.sum(axis=1)).ravel()
    share = np.asarray(sample.sum(axis=0)).ravel() / max(depth.sum(), 1.0)
    total, square = np.zeros(len(share)), np.zeros(len(share))
    for start in range(0, len(rows), 1000):
        mean = depth[start : start + 1000, None] * share[None, :]
        residual = (sample[start : start + 1000].toarray() - mean) / np.sqrt(
            np.maximum(mean + mean**2 / OVERDISPERSION, 1e-12)
        )
        residual = np.clip(residual, -np.sqrt(len(rows)), np.sqrt(len(rows)))
        total += residual.sum(axis=0)
        square += (residual**2).sum(axis=0)
    variance = square / len(rows) - (total / len(rows)) ** 2
    return np.sort(np.argsort(-variance, kind="stable")[:top])
