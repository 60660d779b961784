"""What a model costs by the number of cells: parameters, memory, processor seconds for each 100,000 cells.

    OMP_NUM_THREADS=1 python benchmarks/model_size.py [--cells 4000 8000]

Simulated cells of `train_step` with 500 genes, 100 of them counted in each; a process a size, so that its peak of
memory is its own. Numbers that are fitted in closed form are counted apart from those that learn. Seconds are of the
processor, which other work on the machine does not move. Writes ``benchmarks/results/model_size.json``.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from result_file import write_result
from train_step import simulated_section

from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.model.settings import ModelConfig
from aivc_graph.training.fit import fit
from aivc_graph.training.settings import TrainingConfig

OUT = Path(__file__).parent / "results" / "model_size.json"
GENES, NONZEROS, EPOCHS, PER = 500, 100, 3, 100_000


def main() -> None:
    """Measure every size in a process of its own and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[4_000, 8_000])
    sizes = parser.parse_args().cells
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        found = {f"{n:,} cells": one for n, one in zip(sizes, pool.imap(measured, sizes), strict=True)}
    print(json.dumps(found, indent=1))
    write_result(OUT, found)


def measured(cells: int) -> dict[str, Any]:
    """Return the figures of one size."""
    torch.set_num_threads(1)
    graph, built = timed(build, cells)
    epochs: list[float] = []
    last = [time.process_time()]

    def epoch(_: dict[str, Any]) -> None:
        epochs.append(time.process_time() - last[0])
        last[0] = time.process_time()

    with tempfile.TemporaryDirectory() as folder:
        training = TrainingConfig(epochs=EPOCHS, device="cpu")
        model, whole = timed(lambda: fit(graph, ModelConfig(), training, Path(folder), report=epoch))
    learning = [p.numel() for p in model.parameters()]
    return {
        "numbers that learn": sum(learning),
        "numbers fitted in closed form": sum(b.numel() for b in model.buffers()),
        "peak GiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "seconds for 100,000 cells": {
            "build": round(built * PER / cells, 1),
            "epoch": round(min(epochs[1:]) * PER / cells, 1),
            f"fit with {EPOCHS} epochs": round(whole * PER / cells, 1),
        },
    }


def build(cells: int) -> Any:
    """Return a graph of simulated cells."""
    config = GraphConfig(edges={"cell": {"kind": "knn", "k": 8}})
    return build_graph([simulated_section(cells, GENES, NONZEROS, 0)], config)


def timed(work: Any, *given: Any) -> tuple[Any, float]:
    """Return what `work` returns and its processor seconds."""
    started = time.process_time()
    return work(*given), time.process_time() - started


if __name__ == "__main__":
    main()
