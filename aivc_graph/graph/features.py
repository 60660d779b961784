"""Which molecules become nodes: panels of several sections, and the most variable genes of the training side."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from aivc_graph.errors import GraphError
from aivc_graph.tissue.doubt import doubt
from aivc_graph.tissue.evenly import evenly

log = logging.getLogger(__name__)

SAMPLE_ROWS = 20_000
OVERDISPERSION = 100.0
# Fewer of the features of the smaller panel than this are worth a look; panels this large are no hand-picked ones.
LEAST_SHARED, MANY, SHOWN = 0.5, 10, 5


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
        alike = _alike(tables[0].var_names, tables[-1].var_names)
        found = f"{len(panel):,} of {least:,} features in all sections, the others are left out{alike}"
        doubt(where, found, f"≥ {LEAST_SHARED:.0%}", "are they spelt alike, and of one panel?")
    return panel


def joint_panel(tables: Mapping[str, Any], trained: Collection[str], where: str) -> pd.Index:
    """Return the molecules that any of the sections `tables` (AnnData by section) measured, first come, first served.

    Those that no section of `trained` measured are left out: nothing would say what they are like.

    Raises
    ------
    GraphError
        If sections fall into groups that share no molecule: nothing says what one means in terms of the other.
    """
    panels = {section: table.var_names for section, table in tables.items()}
    joint = pd.Index(pd.unique(np.concatenate([panel.to_numpy(object) for panel in panels.values()])))
    if known := [panel for section, panel in panels.items() if section in trained]:
        joint = joint[np.any([joint.isin(panel) for panel in known], axis=0)]
    there = sparse.csr_matrix(np.stack([joint.isin(panel) for panel in panels.values()]), dtype=np.int64)
    shared = (there @ there.T).toarray()
    _check_linked(panels, connected_components(shared)[1], where)
    size = np.diag(shared)
    if size.min() < len(joint):
        log.info("%s: %d molecules, %d to %d of them a section", where, len(joint), size.min(), size.max())
        _doubt_overlap(panels, shared, where)
    return joint


def _check_linked(panels: Mapping[str, pd.Index], group: NDArray[np.integer], where: str) -> None:
    sections = np.array(list(panels), dtype=object)
    if group.max() == 0:
        return
    parted = [sections[group == one] for one in range(group.max() + 1)]
    said = " | ".join(", ".join(one[:SHOWN]) + (" …" if len(one) > SHOWN else "") for one in parted)
    first, last = panels[parted[0][0]], panels[parted[-1][0]]
    raise GraphError(
        where,
        f"no feature shared by sections {said} ({first[0]!r} against {last[0]!r}){_alike(first, last)}",
        "one naming of genes, and panels that overlap, if only by way of a third section",
        "use symbols or ids in all (two species: `graph.orthologs`), or add a section that measured features of both",
    )


def _doubt_overlap(panels: Mapping[str, pd.Index], shared: NDArray[np.integer], where: str) -> None:
    """Doubt a section of which no other one measured half of the smaller panel."""
    size, names = np.diag(shared), list(panels)
    least = np.minimum(size[:, None], size)
    part = shared / np.maximum(least, 1)
    np.fill_diagonal(part, -1.0)
    for i, j in enumerate(part.argmax(axis=1)):
        if part[i, j] < LEAST_SHARED:
            found = (
                f"{shared[i, j]:,} of {least[i, j]:,} features shared with {names[j]}, as with no other section more"
            )
            found += _alike(panels[names[i]], panels[names[j]])
            doubt(f"{names[i]} · {where}", found, f"≥ {LEAST_SHARED:.0%}", "are they spelt alike, and of one panel?")


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
            mend = "name symbols, or ids, at both levels (`symbols:`; of two species `graph.orthologs`)"
            found = f"no feature shared by {a} and {b} ({first}){_alike(one, other)}"
            raise GraphError(where, found, "one naming of genes", mend)
        if shared < LEAST_SHARED * least:
            found = f"{shared:,} of {least:,} features shared by {a} and {b} ({first}){_alike(one, other)}"
            doubt(where, found, f"≥ {LEAST_SHARED:.0%}", "are they spelt alike, and of one panel?")


def _alike(one: pd.Index, other: pd.Index) -> str:
    """Say how many names of one panel stand in the other with other capitals alone, with one of them."""
    first, last = ({name.lower(): name for name in a[~a.isin(b)]} for a, b in ((one, other), (other, one)))
    same = [name for name in first if name in last]
    return f" ({len(same):,} differ by capitals alone: {first[same[0]]!r}, {last[same[0]]!r})" if same else ""


def variable_features(
    counts: sparse.csr_matrix,
    top: int,
    panel_of: NDArray[np.integer] | None = None,
    panels: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """Return the columns with the largest variance of Pearson residuals, in ascending order.

    Residuals are those of a negative binomial with overdispersion 100 and the rank-one mean, clipped at √n; at most
    20,000 evenly spaced rows are read.

    Parameters
    ----------
    panel_of, panels
        Where rows measured differing molecules: which of the `panels` (panel, column) each row has (row,). A column's
        variance is then the mean over the rows that measured it, each panel on its own. Columns of more panels come
        first: only by what both measured can tissue of two panels be compared.

    References
    ----------
    Lause, Berens & Kobak 2021, doi:10.1186/s13059-021-02451-7.
    """
    if top >= counts.shape[1]:
        return np.arange(counts.shape[1])
    shared: NDArray[np.integer] = np.zeros(counts.shape[1], np.int64)
    if panels is None or panel_of is None:
        variance = _residual_variance(counts)
    else:
        shared = panels[np.unique(panel_of)].sum(axis=0)
        total, number = np.zeros(counts.shape[1]), np.zeros(counts.shape[1])
        for one, panel in enumerate(panels):
            rows, columns = np.flatnonzero(panel_of == one), np.flatnonzero(panel)
            if len(rows):
                total[columns] += len(rows) * _residual_variance(counts[rows][:, columns])
                number[columns] += len(rows)
        variance = total / np.maximum(number, 1)
    return np.sort(np.lexsort((-variance, -shared))[:top])


def _residual_variance(counts: sparse.csr_matrix) -> NDArray[np.float64]:
    rows = evenly(counts.shape[0], SAMPLE_ROWS)
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
    return np.asarray(square / len(rows) - (total / len(rows)) ** 2)


def telling_features(counts: sparse.csr_matrix, kind: NDArray[np.integer], n: int) -> NDArray[np.int64]:
    """Return the `n` columns by which types differ most, the most telling first.

    By how far the type that has most of a molecule stands above the middle one, in logs of counts per 10,000.

    Parameters
    ----------
    kind
        Type of each row (row,), -1 where it has none.
    """
    types = np.unique(kind[kind >= 0])
    member = sparse.csr_matrix((kind[None, :] == types[:, None]).astype(np.float32))
    sums = np.asarray((member @ counts).todense(), np.float64)
    logs = np.log1p(1e4 * sums / np.maximum(sums.sum(axis=1, keepdims=True), 1.0))
    return np.argsort(np.median(logs, axis=0) - logs.max(axis=0), kind="stable")[:n]
