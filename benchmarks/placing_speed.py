"""Time and memory of placing many dissociated cells in a large section.

    OMP_NUM_THREADS=1 python benchmarks/placing_speed.py --nodes 100000 --cells 25000

300 genes, simulated: expression varies over the section as waves, counts are
Poisson of depth 150; 3,500 nodes a square millimetre. Processor seconds of choosing the rule and learning (`fit`),
placing (`place`) and `support`, and the greatest memory of the process [MiB]. Nodes beyond 20,000 are compared by a
sample, places beyond 2,500 become wider: time grows with the number of asked cells alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np
from first_model_parts import r
from result_file import write_result
from scipy import sparse

from aivc_graph.operators.placing import Nodes, Places
from aivc_graph.operators.placing_fit import fit_placing
from aivc_graph.operators.placing_support import fit_support
from aivc_graph.query.placing import EXPRESSION, expression_alike

GENES, DEPTH, PER_UM2 = 300, 150.0, 0.0035


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=100_000)
    parser.add_argument("--cells", type=int, default=100_000)
    size = parser.parse_args()
    side = (size.nodes / PER_UM2) ** 0.5
    pos, counts = simulated(size.nodes, side, 0)
    true, asked = simulated(size.cells, side, 1)
    x, y = expression_alike(counts, asked)
    seconds, clock = {}, time.process_time()
    found = fit_placing(Nodes({EXPRESSION: x}, pos, np.ones(size.nodes)), Places.of_nodes(pos))
    seconds["fit"], clock = r(time.process_time() - clock), time.process_time()
    placed = found.place(y)
    seconds["place"], clock = r(time.process_time() - clock), time.process_time()
    fit_support(x, counts).fit(y, asked)
    seconds["support"] = r(time.process_time() - clock)
    result = {
        "nodes, asked cells, places": [size.nodes, size.cells, len(found.ground.places.centre)],
        "seconds": seconds,
        "peak MiB": r(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "median µm": r(np.median(np.linalg.norm(placed.point - true, axis=1))),
    }
    print(json.dumps(result, indent=1))
    write_result(
        Path(__file__).parent / "results" / "placing_speed.json", result, part=f"{size.nodes} nodes, {size.cells} cells"
    )


def simulated(n: int, side: float, seed: int) -> tuple[np.ndarray, sparse.csr_matrix]:
    """Return positions [µm] and counts (cell, gene)."""
    rng, waves = np.random.default_rng(seed), np.random.default_rng(99)
    pos = rng.random((n, 2)) * side
    told = np.sin(pos / 800 @ waves.normal(size=(2, 12)) + waves.random(12) * 6) + 0.5 * rng.normal(size=(n, 12))
    loads, base = waves.normal(size=(12, GENES)), waves.normal(size=GENES)
    pieces = []
    for piece in np.array_split(told, max(1, n // 5_000)):
        rate = np.exp(0.5 * piece @ loads + base)
        pieces.append(sparse.csr_matrix(rng.poisson(DEPTH * rate / rate.sum(axis=1, keepdims=True)).astype(np.float32)))
    return pos, sparse.vstack(pieces, format="csr")


if __name__ == "__main__":
    main()
