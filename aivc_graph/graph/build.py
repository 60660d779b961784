"""Sections → tissue graph: levels, relations and observations, ordered so that near in tissue is near in memory."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field, PositiveFloat, field_validator
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import GraphError
from aivc_graph.graph.anchor_error import told_sigmas
from aivc_graph.graph.anchors import AnchorConfig, anchors_told
from aivc_graph.graph.edges.rule import edge_rule
from aivc_graph.graph.interventions import add_interventions
from aivc_graph.graph.known_pairs import hold_pairs
from aivc_graph.graph.nodes import Nodes, gather_nodes, grid_patches, pieces
from aivc_graph.graph.observations import add_observations
from aivc_graph.graph.ordering import hilbert_order_within
from aivc_graph.graph.outlines import keep_outlines
from aivc_graph.graph.priors import add_priors
from aivc_graph.graph.profiles import add_section_profiles
from aivc_graph.graph.schema import check_graph
from aivc_graph.graph.tissue_graph import TissueGraph, to_torch_csr
from aivc_graph.graph.within import overlap_with_grid
from aivc_graph.settings import Settings
from aivc_graph.tissue.doubt import doubt, tell
from aivc_graph.tissue.frame import is_dissociated
from aivc_graph.tissue.prior import Prior
from aivc_graph.tissue.section import metadata_of

log = logging.getLogger(__name__)
LATERAL = (names.CELL, names.PATCH)


class GraphConfig(Settings):
    """How sections become a graph.

    Parameters
    ----------
    patch_um
        Edge [µm] of the grid windows that serve as patches where a section has no capture spots.
    region_factor
        Edge of a region in patch sizes.
    patch_reach_um
        Cells up to this distance [µm] from the edge of a capture spot count as within it, by a share that falls to
        zero: for cells and spots of neighbouring sections, whose places agree to some tens of microns only.
    anchors
        Which spots are taken to lie over which cells, and how surely.
    edges
        Lateral edges a level: ``kind`` and the options of that rule.
    genes
        Where sections measured differing molecules: ``union`` keeps all that any training section measured, ``shared``
        those alone that all did.
    orthologs
        A table of orthologs: genes of a section that is named as one of its further columns become those of the first.
    n_genes
        Keep the most variable genes of each level, chosen on training nodes, and beside a reference of dissociated
        cells as many by which their labels differ most; all if not given. Where sections measured differing genes,
        those that more of them measured come first.
    keep_genes
        Symbols kept in any case.
    cofactor
        Scale, in the file's units, at which arcsinh of an intensity turns from linear to logarithmic: one for all, or
        by marker such as ``{CD8: 0.5}``; markers without are fitted on training nodes.
    """

    patch_um: float = Field(100.0, ge=1, le=100_000)
    region_factor: float = Field(4.0, ge=1)
    patch_reach_um: float = Field(0.0, ge=0)
    anchors: AnchorConfig = AnchorConfig()
    edges: dict[str, dict[str, Any]] = Field(default_factory=lambda: {v: {"kind": "knn", "k": 18} for v in LATERAL})
    genes: Literal["union", "shared"] = "union"
    orthologs: Path | None = None
    n_genes: int | None = Field(None, ge=1)
    keep_genes: tuple[str, ...] = ()
    cofactor: PositiveFloat | dict[str, PositiveFloat] | None = None

    @field_validator("edges")
    @classmethod
    def _edges_exist(cls, edges: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for level, options in edges.items():
            if level not in LATERAL:
                raise ValueError(f"no lateral edges at level {level!r}; levels: cell, patch")
            edge_rule(**{"kind": "", **options})
        return edges


def build_graph(sections: list[Any], config: GraphConfig | None = None, priors: Sequence[Prior] = ()) -> TissueGraph:
    """Build one graph over all `sections`, tissue and dissociated samples alike; no edge crosses a section or a split.

    Dissociated cells belong to their section, (cell, within, section), and are near nobody: no neighbours, no patch, no
    region, and a position that is NaN.

    Parameters
    ----------
    sections
        Sections as `aivc_graph.io.read` returns them, already labelled by a split where one is wanted
        (a ``split`` column in their shapes); without a label a node is for training.
    priors
        What is known about molecules beforehand; see `add_priors`.

    Raises
    ------
    GraphError
        Two sections of one name, a section without cells and patches, or a graph that breaks its schema.

    Examples
    --------
    >>> graph = build_graph([section], GraphConfig(n_genes=2000))
    """
    config = config or GraphConfig()
    started = time.perf_counter()
    graph = lay_graph(sections, config)
    for told in anchors_told(graph):
        tell(f"anchors: {told}")
    add_observations(
        graph,
        sections,
        joint=config.genes == "union",
        orthologs=config.orthologs,
        n_genes=config.n_genes,
        keep_genes=config.keep_genes,
        cofactor=config.cofactor,
    )
    _doubt_unused(graph, config)
    add_priors(graph, priors)
    add_interventions(graph, sections)
    add_section_profiles(graph)
    keep_outlines(graph, sections)
    check_graph(graph)
    log.info("built %s in %.1f s", summary_line(graph), time.perf_counter() - started)
    return graph


def _doubt_unused(graph: TissueGraph, config: GraphConfig) -> None:
    """Doubt what the user set of what the graph does not hold: nothing comes of it."""
    asked = config.edges if config.edges != GraphConfig().edges else ()
    unused = {f"graph.edges.{level}": f"no {level} nodes" for level in asked if level not in graph.levels}
    if config.cofactor is not None and not any(names.INTENSITY in graph.modalities(level) for level in graph.levels):
        unused["graph.cofactor"] = "no intensities"
    for where, found in unused.items():
        doubt(where, found, "some", "nothing comes of it: leave it out, or look for what is missing")
    for level in (one for one in LATERAL if one in graph.levels and graph.modalities(one)):
        placed = bool(torch.isfinite(graph[level].pos).all(dim=1).any())
        if placed and (level, names.NEAR, level) not in graph.edge_types:
            mend = f"give a rule such as `{level}: {{kind: knn, k: {6 if level == names.PATCH else 18}}}`"
            doubt(f"graph.edges.{level}", f"no rule, so no {level} has neighbours", "a rule", mend)


def lay_graph(sections: list[Any], config: GraphConfig) -> TissueGraph:
    """Return the nodes and edges of the graph over all `sections`, without what was measured."""
    _check_names(sections)
    graph = TissueGraph()
    graph[names.SECTION].obs = _facts_of(sections)
    graph[names.SECTION].num_nodes = len(sections)
    hold_pairs(graph, sections)
    cells, patches = gather_nodes(sections, names.CELL), gather_nodes(sections, names.PATCH)
    patches = _fill_patches(sections, cells, patches, config.patch_um)
    cells, patches = _lay_regions(graph, cells, patches, config.region_factor)
    for level, nodes in ((names.CELL, cells), (names.PATCH, patches)):
        if len(nodes):
            _add_nodes(graph, level, nodes)
            _add_lateral(graph, level, nodes, config.edges.get(level))
    _add_within(graph, sections, cells, patches, config)
    return graph


def _facts_of(sections: list[Any]) -> pd.DataFrame:
    """Return what section nodes say of their sections; among screens the context is at least the section's name."""
    facts = [dict(metadata_of(section)) for section in sections]
    screens = any(names.APPLIED in one or is_dissociated(s) for one, s in zip(facts, sections, strict=True))
    for one, section in zip(facts, sections, strict=True):
        for key in (names.INTERVENTIONS, names.APPLIED, names.PAIRS):
            one.pop(key, None)
        if screens:
            one[names.DISSOCIATED] = is_dissociated(section)
            one[names.CONTEXT] = str(one.get(names.CONTEXT) or one["section"])
    return pd.DataFrame(facts).set_index("section", drop=False)


def summary_line(graph: TissueGraph) -> str:
    """Return node and edge counts as one line."""
    nodes = ", ".join(f"{graph[t].num_nodes:,} {t}" for t in graph.node_types)
    inside = [r for r in graph.edge_types if r[0] in graph.levels and r[1] in (names.NEAR, names.WITHIN)]
    edges = sum(graph[r].adj_t.values().numel() for r in inside)
    return f"{nodes} nodes; {edges:,} near and within edges"


def _check_names(sections: list[Any]) -> None:
    found = [metadata_of(s)["section"] for s in sections]
    if not found:
        raise GraphError("graph", "no section", "at least one")
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise GraphError(
            "graph", f"two sections called {twice[0]!r}", "one name a section", "rename one under `sections`"
        )


def _fill_patches(sections: list[Any], cells: Nodes, patches: Nodes, patch_um: float) -> Nodes:
    bare = np.setdiff1d(np.unique(cells.section[cells.placed]), np.unique(patches.section))
    missing = np.setdiff1d(np.arange(len(sections)), np.union1d(cells.section, patches.section))
    if len(missing):
        name = metadata_of(sections[missing[0]])["section"]
        raise GraphError(
            name, "neither cells nor patches", "at least one of them", "give a count table for it, or drop it"
        )
    if len(bare) == 0:
        return patches
    return patches.concat(grid_patches(cells.take(np.flatnonzero(np.isin(cells.section, bare))), patch_um))


def _lay_regions(graph: TissueGraph, cells: Nodes, patches: Nodes, factor: float) -> tuple[Nodes, Nodes]:
    """Lay the region grid, add region nodes along a Hilbert curve, and sort cells and patches by region.

    Dissociated cells come last, in pieces numbered after the regions.
    """
    loose = np.flatnonzero(~cells.placed)
    region_of_cell = np.empty(len(cells), np.int64)
    n_regions, region_of_patch = 0, np.empty(0, np.int64)
    if len(patches):
        placed = np.flatnonzero(cells.placed)
        region = _add_regions(graph, cells.take(placed).concat(patches), factor * float(np.median(patches.size_um)))
        region_of_cell[placed], region_of_patch = region[: len(placed)], region[len(placed) :]
        n_regions = int(graph[names.REGION].num_nodes)
    region_of_cell[loose] = n_regions + pieces(cells.group[loose])
    return cells.in_region(region_of_cell).sorted_by_region(), patches.in_region(region_of_patch).sorted_by_region()


def _add_regions(graph: TissueGraph, both: Nodes, edge_um: float) -> np.ndarray:
    """Add the region nodes over all placed nodes, and return the row of each one's region."""
    _, windows, home = overlap_with_grid(both.pos_um, np.zeros(len(both)), edge_um, both.group)
    section, split = windows[:, 0] // len(names.SPLITS), windows[:, 0] % len(names.SPLITS)
    centre = (windows[:, 1:] + np.float64(0.5)) * edge_um
    rank = np.empty(len(windows), np.int64)
    order = hilbert_order_within(centre, section)
    rank[order] = np.arange(len(windows))
    regions = Nodes.of_windows(section[order], split[order], centre[order], edge_um, "region")
    _add_nodes(graph, names.REGION, regions)
    graph[names.REGION].region_index = torch.arange(len(windows))
    return rank[home]


def _add_nodes(graph: TissueGraph, level: str, nodes: Nodes) -> None:
    store = graph[level]
    section_names = graph.obs(names.SECTION).index.to_numpy()[nodes.section]
    sigma_um = names.REGISTRATION_SIGMA_UM.name
    obs = nodes.columns.drop(columns=[names.SPLIT.name, sigma_um], errors="ignore")
    obs.insert(0, "section", pd.Series(section_names).astype("category"))
    obs.insert(1, names.BARCODE, nodes.barcode)
    obs.index = pd.Index(
        np.char.add(np.char.add(section_names.astype(str), ":"), nodes.barcode.astype(str)), name="node"
    )
    store.obs = obs
    store.pos = torch.from_numpy(nodes.pos_um.astype(np.float32))
    store.size_um = torch.from_numpy(nodes.size_um.astype(np.float32))
    store.section_index = torch.from_numpy(nodes.section.astype(np.int64))
    store.split = torch.from_numpy(nodes.split.astype(np.int8))
    store.num_nodes = len(nodes)
    if sigma_um in nodes.columns:
        store[sigma_um] = torch.from_numpy(nodes.columns[sigma_um].fillna(0.0).to_numpy(np.float32))
    if nodes.region is not None:
        store.region_index = torch.from_numpy(nodes.region.astype(np.int64))


def _add_lateral(graph: TissueGraph, level: str, nodes: Nodes, options: dict[str, Any] | None) -> None:
    if options is None:
        return
    rule = edge_rule(**options)
    rows, columns, distances = [], [], []
    placed = nodes.placed
    if not placed.any():
        return
    for group in np.unique(nodes.group[placed]):
        members = np.flatnonzero((nodes.group == group) & placed)
        local = rule(nodes.pos_um[members])
        rows.append(np.repeat(members, np.diff(local.indptr)))
        columns.append(members[local.indices])
        distances.append(local.data)
    row, column, distance = np.concatenate(rows), np.concatenate(columns), np.concatenate(distances)
    order = np.lexsort((column, row)) if len(rows) > 1 else slice(None)
    indptr = np.zeros(len(nodes) + 1, np.int64)
    np.cumsum(np.bincount(row, minlength=len(nodes)), out=indptr[1:])
    shape = (len(nodes), len(nodes))
    ones = np.ones(len(row), np.float32)
    relation = graph[level, names.NEAR, level]
    relation.adj_t = to_torch_csr(sparse.csr_matrix((ones, column[order], indptr), shape=shape))
    relation.distance_um = torch.from_numpy(distance[order].astype(np.float32))


def _add_within(graph: TissueGraph, given: list[Any], cells: Nodes, patches: Nodes, config: GraphConfig) -> None:
    n_sections = graph[names.SECTION].num_nodes
    loose = ~cells.placed
    if loose.any():
        graph[names.CELL, names.WITHIN, names.SECTION].adj_t = to_torch_csr(
            _membership(cells.section, n_sections, loose)
        )
    if not len(patches):
        return
    regions = graph[names.REGION]
    if not loose.all():
        adj = _cells_in_patches(graph, given, cells, patches, config)
        graph[names.CELL, names.WITHIN, names.PATCH].adj_t = to_torch_csr(adj)
        if ((np.diff(adj.tocsc().indptr) == 0) & ~loose).any():
            graph[names.CELL, names.WITHIN, names.REGION].adj_t = to_torch_csr(
                _membership(cells.region, regions.num_nodes, ~loose)
            )
    graph[names.PATCH, names.WITHIN, names.REGION].adj_t = to_torch_csr(_membership(patches.region, regions.num_nodes))
    section = regions.section_index.numpy()
    graph[names.REGION, names.WITHIN, names.SECTION].adj_t = to_torch_csr(_membership(section, n_sections))


def _cells_in_patches(
    graph: TissueGraph, given: list[Any], cells: Nodes, patches: Nodes, config: GraphConfig
) -> sparse.csr_matrix:
    blocks = sparse.coo_matrix((len(patches), len(cells)), dtype=np.float32)
    rows, columns, shares = [blocks.row], [blocks.col], [blocks.data]
    sections = graph.obs(names.SECTION)
    stated = config.anchors.sigmas(sections, config.patch_reach_um)
    sigma = told_sigmas(given, config.anchors, cells, patches, stated)
    anchored = np.zeros(len(sections), bool)
    for group in np.intersect1d(cells.group, patches.group):
        c, p = np.flatnonzero(cells.group == group), np.flatnonzero(patches.group == group)
        if patches.is_window[p].all():
            edge = float(patches.size_um[p[0]])
            share, windows, _ = overlap_with_grid(cells.pos_um[c], cells.size_um[c], edge, cells.group[c])
            p = p[_match(windows[:, 1:], patches.pos_um[p], edge)]
        else:
            one = cells.section[c[0]]
            anchored[one] = True
            said = (str(sections.index[one]), config.patch_reach_um, float(sigma[one]))
            share = config.anchors.beneath(cells.take(c), patches.take(p), *said)
        local = share.tocoo()
        rows.append(p[local.row])
        columns.append(c[local.col])
        shares.append(local.data)
    graph[names.SECTION].obs = config.anchors.note(sections, sigma, anchored)
    data = (np.concatenate(shares), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_matrix(data, shape=(len(patches), len(cells)))


def _match(windows: np.ndarray, centre_um: np.ndarray, edge_um: float) -> np.ndarray:
    """Return, for each window (column, row), the position of the patch that is centred on it."""
    own = np.floor(centre_um / edge_um).astype(np.int64)
    place = pd.MultiIndex.from_arrays([*own.T]).get_indexer(pd.MultiIndex.from_arrays([*windows.T]))
    if (place < 0).any():
        raise GraphError("patches", "a grid window without a patch", "one patch for each occupied window")
    return place


def _membership(parent: np.ndarray | None, n_parents: int, who: np.ndarray | None = None) -> sparse.csr_matrix:
    """Return (parent, child): 1 where a child, of those in `who`, belongs to a parent."""
    parent = np.asarray(parent)
    child = np.arange(len(parent)) if who is None else np.flatnonzero(who)
    shape = (n_parents, len(parent))
    return sparse.csr_matrix((np.ones(len(child), np.float32), (parent[child], child)), shape=shape)
