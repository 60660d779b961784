"""A graph with other anchors: what it would be had fewer cells been known to lie beneath spots, or others."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from aivc_graph import names
from aivc_graph.graph.anchors import SHARE, SHIFT, SIGMA, AnchorConfig
from aivc_graph.graph.nodes import Nodes
from aivc_graph.graph.tissue_graph import TissueGraph, to_torch_csr


def reanchored(graph: TissueGraph, config: AnchorConfig, reach_um: float = 0.0) -> TissueGraph:
    """Return a graph whose cells lie beneath spots as `config` says; `graph` itself is not changed.

    Where `config` states no error of their places it stays what it was.

    Parameters
    ----------
    graph
        Of cells, and of spots that are discs.
    reach_um
        `graph.patch_reach_um` of the configuration it was built from.
    """
    sections, sigma = graph.obs(names.SECTION), anchor_sigma(graph)
    if config.sigma_um is not None:
        sigma = np.full(len(sections), config.sigma_um)
    found = np.zeros(len(sections), bool)

    def beneath(cells: Nodes, spots: Nodes) -> sparse.csr_matrix:
        one = int(spots.section[0])
        found[one] = True
        return config.beneath(cells, spots, str(sections.index[one]), reach_um, float(sigma[one]))

    left = copy.copy(graph)
    left[names.CELL, names.WITHIN, names.PATCH].adj_t = to_torch_csr(_by_group(graph, beneath))
    plain = sections.drop(columns=[SIGMA, SHARE, SHIFT], errors="ignore")
    left[names.SECTION].obs = config.note(plain, sigma, found)
    return left


def nearest_join(graph: TissueGraph, config: AnchorConfig) -> sparse.csr_matrix:
    """Return (spot, cell), 1 where a spot is the nearest to where `config` takes a cell to lie, of its side of a split.

    Spots that keep no anchors by `config.share` are joined to nothing.
    """
    sections = graph.obs(names.SECTION).index

    def nearest(cells: Nodes, spots: Nodes) -> sparse.csr_matrix:
        name = str(sections[int(spots.section[0])])
        spot = cKDTree(spots.pos_um).query(cells.pos_um + config.shift(name))[1]
        ones = np.ones(len(cells), np.float32) * config.kept(spots, name)[spot]
        return sparse.csr_matrix((ones, (spot, np.arange(len(cells)))), (len(spots), len(cells)))

    return _by_group(graph, nearest)


def anchor_sigma(graph: TissueGraph) -> NDArray[np.float64]:
    """Return the standard error of the place of cells beneath spots, by section (section,) [µm]."""
    sections = graph.obs(names.SECTION)
    return sections[SIGMA].to_numpy(float) if SIGMA in sections else np.zeros(len(sections))


def _by_group(graph: TissueGraph, joined: Callable[[Nodes, Nodes], sparse.csr_matrix]) -> sparse.csr_matrix:
    """Return (spot, cell) as `joined` has it of the cells and spots of each section and side of its split."""
    cells, spots = (_nodes_of(graph, level) for level in (names.CELL, names.PATCH))
    rows, columns, shares = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
    for group in np.intersect1d(cells.group[cells.placed], spots.group[spots.placed]):
        c, p = (np.flatnonzero((one.group == group) & one.placed) for one in (cells, spots))
        local = joined(cells.take(c), spots.take(p)).tocoo()
        kept = local.data > 0
        rows.append(p[local.row[kept]])
        columns.append(c[local.col[kept]])
        shares.append(local.data[kept].astype(np.float32))
    places = (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_matrix((np.concatenate(shares), places), shape=(len(spots), len(cells)))


def _nodes_of(graph: TissueGraph, level: str) -> Nodes:
    store = graph[level]
    section, split, pos, size = (store[key].numpy() for key in ("section_index", "split", "pos", "size_um"))
    n, barcode = len(section), graph.obs(level)[names.BARCODE].to_numpy()
    columns, windows = pd.DataFrame(index=range(n)), np.zeros(n, bool)
    return Nodes(barcode, section, split.astype(np.int64), pos.astype(float), size.astype(float), windows, columns)
