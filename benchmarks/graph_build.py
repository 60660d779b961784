"""Time what makes, stores and cuts a tissue graph, beside SciPy and squidpy in the same run.

1. Edge rules against the SciPy structure beneath them (tree built and asked; triangulation) and
   ``squidpy.gr.spatial_neighbors``; the edges are compared as well.
2. Whole build of a section into a graph, with the peak memory of the process.
3. Store: written, opened, a contiguous window of 40,000 rows, a whole pass over its windows; the same pass from memory.

    python benchmarks/graph_build.py --cells 1000000 --out benchmarks/results/graph_build.json
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
from numpy.typing import NDArray
from result_file import write_result
from scipy import sparse
from scipy.spatial import Delaunay, cKDTree

from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.edges.rule import edge_rule
from aivc_graph.graph.store import open_store, write_store
from aivc_graph.graph.windows import windows
from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.section import add_level, add_observation, new_section

K, RADIUS_UM, GENES, NONZEROS, WINDOW = 8, 18.0, 500, 100, 40_000
CELLS, PATCHES, WITHIN = ("cell", "near", "cell"), ("patch", "near", "patch"), ("cell", "within", "patch")
ONE_HOP = [(CELLS, False)]
BLOCK = [(CELLS, False), (WITHIN, False), (PATCHES, False), (WITHIN, True)]


def seconds(work: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Return the least wall time of `repeats` runs, and the last result."""
    times, result = [], None
    for _ in range(repeats):
        result = None
        started = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - started)
    return round(min(times), 3), result


def positions(cells: int) -> NDArray[np.float64]:
    """Return random centres at one cell to 100 µm²."""
    return np.random.default_rng(0).random((cells, 2)) * 10.0 * np.sqrt(cells)


def time_edges(cells: int) -> dict[str, Any]:
    """Time each rule, the structure beneath and squidpy's own."""
    import squidpy as sq

    warnings.simplefilter("ignore")
    pos = positions(cells)
    peer = ad.AnnData(obsm={"spatial": pos})

    def squidpy(**options: Any) -> sparse.csr_matrix:
        sq.gr.spatial_neighbors(peer, coord_type="generic", **options)
        return sparse.csr_matrix(peer.obsp["spatial_distances"])

    tree = cKDTree(pos)
    tree_s, _ = seconds(lambda: cKDTree(pos), 2)
    work = {
        "knn": ({"k": K}, lambda: tree.query(pos, K + 1, workers=-1), tree_s, {"n_neighs": K}, 3),
        "radius": (
            {"radius_um": RADIUS_UM},
            lambda: tree.query_pairs(RADIUS_UM, output_type="ndarray"),
            tree_s,
            {"radius": RADIUS_UM},
            3,
        ),
        "delaunay": ({}, lambda: Delaunay(pos), 0.0, {"delaunay": True}, 1),
    }
    results = {}
    for kind, (options, beneath, extra, theirs, repeats) in work.items():
        ours_s, ours = seconds(lambda kind=kind, options=options: edge_rule(kind, **options)(pos), repeats)
        scipy_s, _ = seconds(beneath, repeats)
        squidpy_s, other = seconds(lambda theirs=theirs: squidpy(**theirs))
        results[kind] = {
            "ours_s": ours_s,
            "scipy_query_s": scipy_s,
            "scipy_build_and_query_s": round(scipy_s + extra, 3),
            "squidpy_s": squidpy_s,
            "ours_over_scipy_query": round(ours_s / scipy_s, 2),
            "ours_over_scipy_build_and_query": round(ours_s / (scipy_s + extra), 2),
            "squidpy_over_ours": round(squidpy_s / ours_s, 2),
            "edges": int(ours.nnz),
            "edges_squidpy": int(other.nnz),
            "edges_shared": int(ours.astype(bool).multiply(other.astype(bool)).nnz),
        }
        print(kind, results[kind], flush=True)
    return results


def simulated_section(cells: int) -> Any:
    """Return one section of cells with random counts."""
    rng = np.random.default_rng(1)
    section = new_section("benchmark")
    barcodes = np.char.add("c", np.arange(cells).astype(str))
    add_level(section, "cell", barcodes, positions(cells), 4.0, scale_affine(1.0))
    step = GENES // NONZEROS
    columns = (
        rng.integers(0, step, (cells, NONZEROS), dtype=np.int32) + np.arange(NONZEROS, dtype=np.int32) * step
    ).ravel()
    data = (rng.poisson(1.5, cells * NONZEROS) + 1).astype(np.float32)
    pointer = np.arange(0, cells * NONZEROS + 1, NONZEROS)
    table = ad.AnnData(sparse.csr_matrix((data, columns, pointer), shape=(cells, GENES)))
    table.obs_names, table.var_names = barcodes, np.char.add("g", np.arange(GENES).astype(str))
    add_observation(section, "cell", "rna", table)
    return section


def time_build(cells: int) -> dict[str, Any]:
    """Time the build, and the store and windows of what was built."""
    warnings.simplefilter("ignore")
    sections = [simulated_section(cells)]
    before = peak_gib()
    edges = {level: {"kind": "knn", "k": K} for level in ("cell", "patch")}
    build_s, graph = seconds(lambda: build_graph(sections, GraphConfig(edges=edges)))
    result: dict[str, Any] = {"build_s": build_s, "peak_gib_input": before, "peak_gib_build": peak_gib()}
    sections.clear()
    print(result, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "g.zarr")
        result["store_write_s"], _ = seconds(lambda: write_store(graph, path))
        result["store_mb"] = round(sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) / 1e6, 1)
        result["store_open_s"], store = seconds(lambda: open_store(path))
        rows = np.arange(cells // 2, min(cells // 2 + WINDOW, cells))
        result["store_contiguous_window_s"], _ = seconds(lambda: store.observe("cell", rows))
        for name, steps in (("one_hop", ONE_HOP), ("block", BLOCK)):
            store = open_store(path)
            result[f"windows_{name}_memory_s"], share = seconds(lambda steps=steps: halo(graph, steps))
            result[f"windows_{name}_store_s"], _ = seconds(lambda steps=steps, store=store: halo(store, steps))
            result[f"windows_{name}_number"], result[f"windows_{name}_halo_share"] = share
    result["peak_gib_all"] = peak_gib()
    print(result, flush=True)
    return result


def halo(source: Any, steps: Any) -> tuple[int, float]:
    """Cut all windows; return their number and mean halo share."""
    shares = [window.halo_share for window in windows(source, steps, WINDOW)]
    return len(shares), round(float(np.mean(shares)), 4)


def peak_gib() -> float:
    """Return the most memory this process has had resident."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)


def apart(work: Callable[[int], dict[str, Any]], cells: int) -> dict[str, Any]:
    """Run `work` in a fresh process, so that its peak memory is its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, cells).result()


def main() -> None:
    """Run all parts and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "graph_build.json")
    options = parser.parse_args()
    result = {"cells": options.cells, "load_at_start": round(os.getloadavg()[0], 1)}
    result["build"] = apart(time_build, options.cells)
    result["edges"] = apart(time_edges, options.cells)
    write_result(options.out, result)


if __name__ == "__main__":
    main()
