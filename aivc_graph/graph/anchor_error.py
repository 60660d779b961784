"""How far cells lie from where they are told to lie beneath spots, where nothing states it: by the counts of either."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph import names
from aivc_graph.graph.within import overlap_with_discs
from aivc_graph.tissue.evenly import evenly
from aivc_graph.tissue.section import metadata_of

if TYPE_CHECKING:
    from aivc_graph.graph.anchors import AnchorConfig
    from aivc_graph.graph.nodes import Nodes

Floats = NDArray[np.float64]
# Standard errors [µm] along each axis that are tried; less than half a spot hardly matters.
SIGMAS = (0.0, 40.0, 80.0)
MOST_SPOTS, MOST_GENES, LEAST_GENES = 400, 200, 10
BLOCK_UM, LEAST_BLOCKS = 300.0, 4
# Gains surely of one sign, in standard errors.
SURELY = 2.0


def told_sigmas(sections: list[Any], config: AnchorConfig, cells: Nodes, spots: Nodes, stated: Floats) -> Floats:
    """Return the standard error of cells beneath spots [µm] by section (section,): as `stated`, else as counts tell.

    Of training nodes alone, and of the anchors that are kept. Sections of which nothing is stated take their median: a
    few dozen spots of one tell little.
    """
    found = []
    for one in np.flatnonzero(np.isnan(stated)):
        mine = [_training(nodes, int(one)) for nodes in (cells, spots)]
        if all(len(nodes) for nodes in mine):
            name = str(metadata_of(sections[one])["section"])
            under = replace(mine[0], pos_um=mine[0].pos_um + config.shift(name))
            kept = mine[1].take(np.flatnonzero(config.kept(mine[1], name)))
            found.append(likely_sigma(sections[one], under, kept))
    return np.where(np.isnan(stated), sorted(found)[(len(found) - 1) // 2] if found else 0.0, stated)


def _training(nodes: Nodes, section: int) -> Nodes:
    train = nodes.split == names.SPLITS.index(names.TRAIN)
    return nodes.take(np.flatnonzero(train & (nodes.section == section) & nodes.placed & ~nodes.is_window))


def likely_sigma(section: Any, cells: Nodes, spots: Nodes) -> float:
    r"""Return the standard error of the place of cells beneath spots [µm] by which they tell the spots' counts best.

    By the mean over spots of the correlation over genes of log shares, each gene less its mean over spots, of the spot
    and of the cells beneath it. An error is told where blocks of tissue surely gain by it; else 0: places are taken as
    they are.

    Parameters
    ----------
    section
        With the counts of both levels; 0 where either is missing, or too few genes were counted by both.
    cells, spots
        Nodes of the section and of one side of the split.
    """
    tables = [section.tables.get(names.table_name(level, names.RNA)) for level in (names.CELL, names.PATCH)]
    if any(one is None for one in tables):
        return 0.0
    genes = tables[0].var_names.intersection(tables[1].var_names)
    spots = spots.take(evenly(len(spots), MOST_SPOTS))
    if len(genes) < LEAST_GENES:
        return 0.0
    beneath, above = (_counts(one, nodes, genes) for one, nodes in zip(tables, (cells, spots), strict=True))
    most = np.argsort(-np.asarray(above.sum(axis=0)).ravel(), kind="stable")[:MOST_GENES]
    beneath, above = beneath[:, most], above[:, most].toarray()
    sizes = cells.size_um, spots.pos_um, spots.size_um
    half = beneath.copy()
    half.data = np.random.default_rng(0).binomial(beneath.data.astype(np.int64), 0.5).astype(np.float32)
    member = [overlap_with_discs(cells.pos_um, *sizes, sigma_um=sigma) for sigma in SIGMAS]
    halves = [((one @ half).toarray(), (one @ (beneath - half)).toarray()) for one in member]
    there = (above.sum(axis=1) > 0) & np.all([one.sum(axis=1) > 0 for pair in halves for one in pair], axis=0)
    block = np.unique(np.floor(spots.pos_um[there] / BLOCK_UM), axis=0, return_inverse=True)[1].reshape(-1)
    if not there.any() or block.max() + 1 < LEAST_BLOCKS:
        return 0.0
    likeness = np.stack([_likeness(first[there], last[there], above[there]) for first, last in halves])
    by_block = np.stack([np.bincount(block, one - likeness[0]) for one in likeness])
    best = int(by_block.sum(axis=1).argmax())
    error = by_block[best].std(ddof=1) * np.sqrt(len(by_block[best]))
    return SIGMAS[best] if by_block[best].sum() > SURELY * error else 0.0


def _counts(table: Any, nodes: Nodes, genes: Any) -> sparse.csr_matrix:
    """Return the counts of nodes (node, gene); none of one that has no row."""
    at = pd.Index(table.obs[names.BARCODE].astype(str)).get_indexer(pd.Index(nodes.barcode.astype(str)))
    found = sparse.csr_matrix(table[:, genes].X)[np.maximum(at, 0)]
    return sparse.csr_matrix(sparse.diags((at >= 0).astype(np.float32)) @ found)


def _likeness(first: Floats, last: Floats, measured: Floats) -> Floats:
    """Return how alike each spot (spot,) is to the cells beneath, whose counts are given as two halves (spot, gene)."""
    halves = float(_correlation(first, last).mean())
    sure = 2 * halves / (1 + halves) if halves > 0 else 1.0
    return _correlation(first + last, measured) / np.sqrt(sure)


def _correlation(told: Floats, measured: Floats) -> Floats:
    """Return the correlation over genes (spot,) of what sets spots apart, told and measured (spot, gene)."""
    parts = [np.log1p(1e3 * one / one.sum(axis=1, keepdims=True)) for one in (told, measured)]
    a, b = (one - one.mean(axis=0) for one in parts)
    size = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / np.where(size > 0, size, np.inf))
