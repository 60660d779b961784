"""Time and memory of telling what spots are made of by a reference: 100,000 spots, 2,000 genes, 20 types.

Spots are drawn from the profiles of a made reference of 4,000 cells, a thousand molecules each. The fit is timed, then
the answer with its intervals for every spot, at a quarter of the spots and at all of them; beside both, non-negative
least squares on the same counts. ``…_cpu_s`` are seconds of processor, user and system, of all threads, which a busy
machine hardly moves. The goal is ten minutes and 6 GiB on two cores.

    python benchmarks/deconvolution_speed.py --out benchmarks/results/deconvolution_speed.json [--spots 100000]
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from deconvolution import reference_section
from result_file import write_result
from scipy import sparse

from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.model.plan import ModelPlan
from aivc_graph.model.settings import ModelConfig
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.composition.mixture import least_squares
from aivc_graph.operators.part import Fitting
from aivc_graph.query.composition import told_by_reference
from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.section import add_level, add_observation, new_section

CELLS_A_TYPE, MOLECULES, CHUNK, PITCH_UM = 200, 1000, 2_000, 100.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/deconvolution_speed.json"))
    parser.add_argument("--spots", type=int, default=100_000)
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--types", type=int, default=20)
    options = parser.parse_args()
    found: dict[str, Any] = {"spots": options.spots, "genes": options.genes, "types": options.types}
    found["threads"] = torch.get_num_threads()
    for spots in (options.spots // 4, options.spots):
        found[f"{spots} spots"] = timed(spots, options.genes, options.types)
        print(spots, json.dumps(found[f"{spots} spots"]), flush=True)
    found["peak_rss_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    write_result(options.out, found)
    print(json.dumps(found, indent=1))


def timed(n: int, genes: int, types: int) -> dict[str, float]:
    """Return the seconds of the fit, of the answer and of least squares, and the error of both answers."""
    random = np.random.default_rng(0)
    profiles = random.dirichlet(np.full(genes, 0.3), types)
    labels = np.repeat([f"type {i:02d}" for i in range(types)], CELLS_A_TYPE)
    cells = random.poisson(MOLECULES * np.repeat(profiles, CELLS_A_TYPE, axis=0))
    true = random.dirichlet(np.full(types, 0.2), n)
    counts = sparse.vstack(
        [
            sparse.csr_matrix(random.poisson(MOLECULES * true[i : i + CHUNK] @ profiles).astype(np.float32))
            for i in range(0, n, CHUNK)
        ],
        format="csr",
    )
    names = [f"G{i}" for i in range(genes)]
    graph = build_graph([spots_of(counts, names), reference_section(cells, labels, names)], GraphConfig(edges={}))
    model = TissueModel(ModelPlan.of(graph, ModelConfig(latent=4))).eval()
    for one in model.parts_of("measurement"):
        one.begin(graph)
    part = model.part("composition", "cell", "patch")
    started = clocks()
    part.fit(Fitting(model, [], [], np.random.default_rng(0), 0, graph, 40_000, np.full(2, -1)))
    fitted = clocks()
    told = told_by_reference(model, graph, "cell", "patch")
    answered = clocks()
    plain = least_squares(torch.from_numpy(counts[: n // 10].toarray()), torch.from_numpy(profiles).float())
    ended = clocks()
    place = graph.obs("patch").index.get_indexer([f"tissue:p{i}" for i in range(n)])
    return {
        **between("fit", started, fitted),
        **between("answer", fitted, answered),
        **between("least_squares", answered, ended, 10),
        "rmse": round(float(np.sqrt(((told.shares.numpy()[place] - true) ** 2).mean())), 4),
        "rmse_least_squares": round(float(np.sqrt(((plain.numpy() - true[: n // 10]) ** 2).mean())), 4),
    }


def clocks() -> tuple[float, float]:
    """Return the time on the wall and that of the processor [s]."""
    return time.perf_counter(), time.process_time()


def between(name: str, start: tuple[float, float], end: tuple[float, float], times: int = 1) -> dict[str, float]:
    """Return how long it took by either clock, so many times over."""
    wall, processor = (round(times * (b - a), 1) for a, b in zip(start, end, strict=True))
    return {f"{name}_s": wall, f"{name}_cpu_s": processor}


def spots_of(counts: sparse.csr_matrix, genes: list[str]) -> Any:
    """Return spots on a grid as a section."""
    n = counts.shape[0]
    section, barcodes = new_section("tissue", donor="tissue"), [f"p{i}" for i in range(n)]
    side = int(np.ceil(np.sqrt(n)))
    pos_um = PITCH_UM * np.column_stack(np.divmod(np.arange(n), side)).astype(float)
    add_level(section, "patch", barcodes, pos_um, 27.5, scale_affine(1.0), pd.DataFrame(index=range(n)))
    table = ad.AnnData(counts)
    table.obs_names, table.var_names = barcodes, genes
    add_observation(section, "patch", "rna", table)
    return section


if __name__ == "__main__":
    main()
