"""Time message passing and training, beside PyG on the same graph in the same run.

1. One block (lateral, lift, project; mean messages and linear maps) as sparse products over cached CSR, against the
   same block as PyG ``HeteroConv(SAGEConv)`` on edge indices: equal outputs, forward + backward + optimiser step.
2. One epoch of `fit` on a simulated section, window by window, reading included; nodes per second and peak memory; on
   a GPU (then bfloat16) also how much of the bandwidth that a plain copy reaches the least traffic of an epoch is.

    python benchmarks/train_step.py --cells 1000000 --out benchmarks/results/train_step.json
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import torch
from result_file import write_result
from scipy import sparse
from torch import Tensor, nn
from torch_geometric.nn import HeteroConv, SAGEConv

from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.settings import ModelConfig
from aivc_graph.operators.product import SparseOperator, row_mean
from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.section import add_level, add_observation, new_section
from aivc_graph.training.fit import fit
from aivc_graph.training.settings import TrainingConfig

NEAR, WITHIN = ("cell", "near", "cell"), ("cell", "within", "patch")
BACK = ("patch", "contains", "cell")


def simulated_section(cells: int, genes: int, nonzeros: int, seed: int) -> Any:
    """Return cells at 100 µm² each with `nonzeros` random counts a cell."""
    rng = np.random.default_rng(seed)
    side = 10.0 * np.sqrt(cells)
    section = new_section("benchmark")
    names = np.char.add("c", np.arange(cells).astype(str))
    add_level(section, "cell", names, rng.random((cells, 2)) * side, 5.0, scale_affine(1.0))
    columns = (
        rng.integers(0, genes // nonzeros, (cells, nonzeros)) + np.arange(nonzeros) * (genes // nonzeros)
    ).astype(np.int32)
    data = rng.integers(1, 4, cells * nonzeros).astype(np.float32)
    pointer = np.arange(0, cells * nonzeros + 1, nonzeros)
    table = ad.AnnData(sparse.csr_matrix((data, columns.ravel(), pointer), shape=(cells, genes)))
    table.obs_names, table.var_names = names, np.char.add("g", np.arange(genes).astype(str))
    add_observation(section, "cell", "rna", table)
    return section


class ProductBlock(nn.Module):
    """A mean-message block as sparse products: each map on the smaller side, one map for a node's own state."""

    def __init__(self, graph: TissueGraph, width: int, device: str) -> None:
        super().__init__()
        near, within = graph[NEAR].adj_t, graph[WITHIN].adj_t
        binary = torch.sparse_csr_tensor(
            within.crow_indices(), within.col_indices(), torch.ones_like(within.values()), size=within.shape
        )
        self.operators = {
            NEAR: on_device(SparseOperator.of(row_mean(near)), device),
            WITHIN: on_device(SparseOperator.of(row_mean(binary)), device),
            BACK: on_device(SparseOperator.of(row_mean(SparseOperator.of(binary).backward_csr)), device),
        }
        self.message = nn.ModuleDict({"__".join(r): nn.Linear(width, width, bias=False) for r in self.operators})
        self.own = nn.ModuleDict({level: nn.Linear(width, width) for level in ("cell", "patch")})

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        out = {level: self.own[level](x[level]) for level in x}
        for relation, operator in self.operators.items():
            source, _, target = relation
            linear = self.message["__".join(relation)]
            small = len(x[source]) < len(x[target])
            out[target] = out[target] + (operator @ linear(x[source]) if small else linear(operator @ x[source]))
        return out


def on_device(operator: SparseOperator, device: str) -> SparseOperator:
    """Return an operator, made on the CPU, on `device`."""
    return SparseOperator(operator.forward_csr.to(device), operator.backward_csr.to(device))


def synchronise(device: str) -> None:
    """Wait for what a GPU has been asked for; a clock read earlier only measures the asking."""
    if device == "cuda":
        torch.cuda.synchronize()


def pyg_block(graph: TissueGraph, ours: ProductBlock, width: int) -> tuple[HeteroConv, dict[Any, Tensor]]:
    """Return the same block by PyG with the same weights, and its edge indices."""
    edges = {}
    for relation in (NEAR, WITHIN):
        adj_t = graph[relation].adj_t
        row = torch.repeat_interleave(torch.arange(adj_t.shape[0]), adj_t.crow_indices().diff())
        edges[relation] = torch.stack([adj_t.col_indices().long(), row])
    edges[BACK] = edges[WITHIN].flip(0)
    conv = HeteroConv({r: SAGEConv((width, width), width, aggr="mean") for r in edges}, aggr="sum")
    with torch.no_grad():
        for relation in edges:
            own = conv.convs[relation].lin_r
            conv.convs[relation].lin_l.weight.copy_(ours.message["__".join(relation)].weight)
            conv.convs[relation].lin_l.bias.zero_()
            own.weight.zero_()
        for relation in (NEAR, WITHIN):
            conv.convs[relation].lin_r.weight.copy_(ours.own[relation[2]].weight)
            conv.convs[relation].lin_l.bias.copy_(ours.own[relation[2]].bias)
    return conv, edges


def step_seconds(module: nn.Module, run: Any, repeats: int, device: str) -> list[float]:
    """Return seconds of forward + backward + optimiser step, after one warm-up."""
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-3)
    seconds = []
    for _ in range(repeats + 1):
        synchronise(device)
        started = time.perf_counter()
        optimiser.zero_grad()
        outputs = list(run().values())
        torch.autograd.backward(outputs, [torch.ones_like(o) for o in outputs])
        optimiser.step()
        synchronise(device)
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def compare_blocks(graph: TissueGraph, width: int, repeats: int, device: str) -> dict[str, Any]:
    """Return median step seconds of both blocks, their ratio, and the largest difference of their outputs."""
    torch.manual_seed(0)
    sizes = {level: (graph[level].num_nodes, width) for level in ("cell", "patch")}
    x = {level: torch.randn(size).to(device).requires_grad_() for level, size in sizes.items()}
    ours = ProductBlock(graph, width, device)
    theirs, edges = pyg_block(graph, ours, width)
    ours, theirs, edges = ours.to(device), theirs.to(device), {r: e.to(device) for r, e in edges.items()}
    a, b = ours(x), theirs(x, edges)
    difference = max(float((a[level] - b[level]).abs().max()) for level in a)
    mine = step_seconds(ours, lambda: ours(x), repeats, device)
    its = step_seconds(theirs, lambda: theirs(x, edges), repeats, device)
    return {
        "cells": graph["cell"].num_nodes,
        "width": width,
        "device": device,
        "ours_s": round(float(np.median(mine)), 4),
        "pyg_heteroconv_sage_s": round(float(np.median(its)), 4),
        "times_faster": round(float(np.median(its) / np.median(mine)), 2),
        "max_output_difference": difference,
    }


def time_epoch(graph: TissueGraph, device: str) -> dict[str, Any]:
    """Return seconds and nodes per second of one epoch of `fit`, and peak resident memory."""
    records: list[dict[str, Any]] = []
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        fit(graph, ModelConfig(), TrainingConfig(epochs=2, device=device), Path(folder), report=records.append)
    epoch = records[-1]
    found = {
        "cells": graph["cell"].num_nodes,
        "epoch_s": epoch["seconds"],
        "nodes_per_second": epoch["nodes_per_second"],
        "cells_per_second": round(graph["cell"].num_nodes / epoch["seconds"]),
    }
    if device == "cuda":
        found |= {
            "gpu": torch.cuda.get_device_name(),
            "gpu_peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
        }
        found["share_of_copy_bandwidth"] = bandwidth_share(graph, found["cells_per_second"])
    return found


def bandwidth_share(graph: TissueGraph, cells_per_second: float) -> float:
    """Return the least bytes an epoch must move, as it moves them, over the bytes a second of a copy within the GPU.

    Least: each count (4 bytes and 4 of its column) and each neighbour's state, once forward and once backward.
    """
    block = torch.zeros(2**28, device="cuda")
    target = torch.zeros_like(block)  # both touched before the clock starts: no allocation is timed
    synchronise("cuda")
    started = time.perf_counter()
    for _ in range(10):
        target.copy_(block)
    synchronise("cuda")
    copied = 10 * 2 * block.numel() * block.element_size() / (time.perf_counter() - started)
    entries = graph["gene", "observed_in", "cell"].adj_t.values().numel() / graph["cell"].num_nodes
    degree = graph[NEAR].adj_t.values().numel() / graph["cell"].num_nodes
    least = 2 * (entries * 8 + degree * 4 * ModelConfig().latent)
    return round(cells_per_second * least / copied, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--block-cells", type=int, default=100_000)
    parser.add_argument("--genes", type=int, default=500)
    parser.add_argument("--nonzeros", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/train_step.json"))
    options = parser.parse_args()
    config = GraphConfig(edges={"cell": {"kind": "knn", "k": 8}})
    small = build_graph([simulated_section(options.block_cells, options.genes, options.nonzeros, 0)], config)
    result: dict[str, Any] = {"threads": torch.get_num_threads()}
    result["block"] = compare_blocks(small, 64, options.repeats, options.device)
    print(json.dumps(result["block"]), flush=True)
    graph = (
        small
        if options.cells == options.block_cells
        else build_graph([simulated_section(options.cells, options.genes, options.nonzeros, 0)], config)
    )
    result["epoch"] = time_epoch(graph, options.device)
    result["peak_rss_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    write_result(options.out, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
