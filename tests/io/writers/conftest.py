"""A tissue graph of two sections made by hand: cells, patches, regions, counts, image features, a niche a node."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from aivc_graph.graph.tissue_graph import TissueGraph, to_torch_csr

SECTIONS = ("A/1", "B2")


@pytest.fixture
def graph() -> TissueGraph:
    """30 cells, 8 patches and 3 regions; the cell "c0" exists in both sections; node 3 of the cells has no RNA."""
    rng = np.random.default_rng(0)
    graph = TissueGraph()
    facts = {"section": list(SECTIONS), "donor": ["D1", None], "um_per_pixel": [0.5, np.nan]}
    graph["section"].obs = pd.DataFrame(facts).set_index("section", drop=False)
    graph["section"].num_nodes = 2
    graph["gene"].obs = pd.DataFrame(
        {"chromosome": ["1", "2", "X"]}, index=pd.Index(["ESR1", "KRT5", "CD3E"], name="symbol")
    )
    graph["gene"].num_nodes = 3
    _add_level(graph, "cell", [15, 15], 10.0, rng)
    _add_level(graph, "patch", [4, 4], 55.0, rng)
    _add_level(graph, "region", [2, 1], 400.0, rng)
    graph["region"].pos = torch.tensor([[200.0, 200.0], [600.0, 200.0], [200.0, 200.0]])
    mask = torch.ones(30, dtype=torch.bool)
    mask[3] = False
    counts = rng.poisson(1.0, (30, 3)).astype(np.float32)
    counts[3] = 0
    graph["cell"].rna_mask = mask
    graph["gene", "observed_in", "cell"].adj_t = to_torch_csr(counts)
    graph["patch"].rna_mask = torch.ones(8, dtype=torch.bool)
    graph["patch"].rna_panel = torch.tensor([True, True, False])
    graph["gene", "observed_in", "patch"].adj_t = to_torch_csr(rng.poisson(5.0, (8, 3)) * [1, 1, 0])
    graph["patch"].histology = torch.from_numpy(rng.normal(size=(8, 2)).astype(np.float32))
    graph["patch"].histology_names = ["haematoxylin", "eosin"]
    graph["patch"].histology_mask = torch.tensor([True] * 7 + [False])
    graph["cell"].obs["niche"] = pd.Categorical(np.array(["tumour", "stroma", "immune"])[np.arange(30) % 3])
    graph["cell"].obs["score"] = rng.normal(size=30)
    graph["cell"].obs["label"] = [None, *("T" for _ in range(29))]
    graph["patch"].obs["niche"] = ["tumour", "stroma"] * 4
    share = np.where(rng.random((8, 30)) < 0.2, rng.random((8, 30)), 0.0)
    share[4:, :15] = share[:4, 15:] = 0
    graph["cell", "within", "patch"].adj_t = to_torch_csr(share)
    graph["region", "within", "section"].adj_t = to_torch_csr(np.array([[1, 1, 0], [0, 0, 1]]))
    return graph


def _add_level(graph: TissueGraph, level: str, sizes: list[int], size_um: float, rng: np.random.Generator) -> None:
    section = np.repeat(np.arange(len(sizes)), sizes)
    barcode = [f"{level[0]}{i}" for size in sizes for i in range(size)]
    obs = pd.DataFrame({"section": pd.Categorical(np.array(SECTIONS)[section]), "barcode": barcode})
    obs.index = pd.Index([f"{SECTIONS[s]}:{b}" for s, b in zip(section, barcode, strict=True)], name="node")
    store, n = graph[level], sum(sizes)
    store.obs, store.num_nodes = obs, n
    store.pos = torch.from_numpy(rng.uniform(0, 500, (n, 2)).astype(np.float32))
    store.size_um = torch.full((n,), size_um)
    store.section_index = torch.from_numpy(section)
    store.split = torch.from_numpy((np.arange(n) % 3).astype(np.int8))
    pos = store.pos.numpy()
    distance = np.linalg.norm(pos[:, None] - pos[None], axis=-1).astype(np.float32)
    distance[(distance > 250) | (section[:, None] != section[None])] = 0
    near = sparse.csr_matrix(distance)
    graph[level, "near", level].adj_t = to_torch_csr(
        sparse.csr_matrix((np.ones(near.nnz), near.indices, near.indptr), near.shape)
    )
    graph[level, "near", level].distance_um = torch.from_numpy(near.data)
