"""Small random tissue graphs, laid out as the builder lays them out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from aivc_graph import names
from aivc_graph.graph.edges.rule import edge_rule
from aivc_graph.graph.ordering import hilbert_order
from aivc_graph.graph.tissue_graph import TissueGraph, to_torch_csr


def random_tissue(
    n_cells: int = 600, n_genes: int = 20, seed: int = 0, side_um: float = 800.0, k: int = 6
) -> TissueGraph:
    """Return cells, patches of 100 µm, regions of 200 µm and one section; counts at cells, features at patches."""
    rng = np.random.default_rng(seed)
    pos = rng.uniform(0, side_um, (n_cells, 2))
    graph = TissueGraph()
    regions, region_of = windows_of(pos, 200.0)
    patches, patch_of = windows_of(pos, 100.0)
    region_of_patch = pd.Index(map(tuple, np.floor(patches / 2).astype(int))).map(
        {tuple(r): i for i, r in enumerate(regions.tolist())}
    )
    patch_rank = np.lexsort((np.arange(len(patches)), region_of_patch))
    cell_rank = np.lexsort((np.argsort(hilbert_order(pos)), region_of))
    new_patch = np.argsort(patch_rank)
    add_level(graph, names.CELL, pos[cell_rank], region_of[cell_rank], 8.0)
    add_level(graph, names.PATCH, (patches[patch_rank] + 0.5) * 100, region_of_patch.to_numpy()[patch_rank], 100.0)
    add_level(graph, names.REGION, (regions + 0.5) * 200, np.arange(len(regions)), 200.0)
    graph[names.SECTION].obs = pd.DataFrame({"donor": ["d1"]}, index=["s1"])
    graph[names.SECTION].num_nodes = 1
    graph[names.GENE].obs = pd.DataFrame(index=pd.Index([f"G{i}" for i in range(n_genes)], name="symbol"))
    graph[names.GENE].num_nodes = n_genes
    for level in (names.CELL, names.PATCH):
        distances = edge_rule("knn", k=k)(graph[level].pos.numpy())
        adj = distances.copy()
        adj.data[:] = 1.0
        graph[level, names.NEAR, level].adj_t = to_torch_csr(adj)
        graph[level, names.NEAR, level].distance_um = torch.from_numpy(distances.data)
    add_within(graph, names.CELL, names.PATCH, new_patch[patch_of[cell_rank]])
    add_within(graph, names.PATCH, names.REGION, graph[names.PATCH].region_index.numpy())
    add_within(graph, names.REGION, names.SECTION, np.zeros(len(regions), int))
    counts = sparse.random(n_cells, n_genes, 0.3, format="csr", random_state=seed)
    counts.data = rng.poisson(3, counts.nnz).astype(np.float32) + 1
    graph[names.GENE, names.OBSERVED_IN, names.CELL].adj_t = to_torch_csr(counts)
    graph[names.CELL].rna_mask = torch.ones(n_cells, dtype=torch.bool)
    graph[names.CELL].rna_panel = torch.ones(n_genes, dtype=torch.bool)
    n_patches = graph[names.PATCH].num_nodes
    graph[names.PATCH].histology = torch.from_numpy(rng.normal(size=(n_patches, 5)).astype(np.float32))
    graph[names.PATCH].histology_mask = torch.from_numpy(rng.random(n_patches) < 0.9)
    graph[names.PATCH].histology_names = [f"f{i}" for i in range(5)]
    return graph


def windows_of(pos: np.ndarray, edge_um: float) -> tuple[np.ndarray, np.ndarray]:
    steps, home = np.unique(np.floor(pos / edge_um).astype(int), axis=0, return_inverse=True)
    order = hilbert_order(steps.astype(float))
    return steps[order], np.argsort(order)[home.reshape(-1)]


def add_level(graph: TissueGraph, level: str, pos: np.ndarray, region: np.ndarray, size_um: float) -> None:
    n = len(pos)
    store = graph[level]
    barcodes = [f"{level}{i}" for i in range(n)]
    store.obs = pd.DataFrame(
        {"section": pd.Categorical(["s1"] * n), "barcode": barcodes}, index=[f"s1:{b}" for b in barcodes]
    )
    store.obs.index.name = "node"
    store.pos = torch.from_numpy(pos.astype(np.float32))
    store.size_um = torch.full((n,), size_um)
    store.section_index = torch.zeros(n, dtype=torch.int64)
    store.split = torch.zeros(n, dtype=torch.int8)
    store.region_index = torch.from_numpy(region.astype(np.int64))
    store.num_nodes = n


def add_within(graph: TissueGraph, child: str, parent: str, parent_of: np.ndarray) -> None:
    shape = (graph[parent].num_nodes, graph[child].num_nodes)
    share = np.random.default_rng(7).uniform(0.5, 1.0, shape[1]).astype(np.float32)
    graph[child, names.WITHIN, parent].adj_t = to_torch_csr(
        sparse.csr_matrix((share, (parent_of, np.arange(shape[1]))), shape=shape)
    )


def same_graph(a: TissueGraph, b: TissueGraph) -> None:
    """Check that two graphs hold the same, to the last bit."""
    assert set(a.node_types) == set(b.node_types) and set(a.edge_types) == set(b.edge_types)
    for kind in (*a.node_types, *a.edge_types):
        assert set(a[kind].keys()) == set(b[kind].keys()), kind
        for key, value in a[kind].items():
            same_value(value, b[kind][key], f"{kind}.{key}")


def same_value(a: object, b: object, where: str) -> None:
    if isinstance(a, pd.DataFrame):
        pd.testing.assert_frame_equal(a, b)
    elif isinstance(a, torch.Tensor) and a.layout == torch.sparse_csr:
        assert isinstance(b, torch.Tensor) and a.shape == b.shape, where
        for part in ("crow_indices", "col_indices", "values"):
            assert torch.equal(getattr(a, part)(), getattr(b, part)()), f"{where}.{part}"
    elif isinstance(a, torch.Tensor):
        assert isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape, where
        assert np.array_equal(a.numpy(), b.numpy(), equal_nan=a.is_floating_point()), where
    else:
        assert a == b, where
