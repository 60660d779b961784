"""How long and how much memory all metrics and baselines take: 100,000 cells × 5,000 genes × 200 perturbations, sparse.

    OMP_NUM_THREADS=2 nice -n 10 python benchmarks/responses_speed.py [--cells N --genes N --conditions N]

The screen is drawn anew (about a tenth of values above zero, doubles among the conditions), written nowhere, and asked
for genes never seen in five folds, with all rules, the operator, ceilings, genes called and distances between cells.
Writes ``benchmarks/results/responses_speed.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from responses_elsewhere import put
from result_file import write_result
from scipy import sparse
from scipy.spatial.distance import pdist

from aivc_graph.evaluation.metrics.cell_sets import EnergyDistance
from aivc_graph.evaluation.responses.asking import conditions_in, examine
from aivc_graph.evaluation.responses.spread import Space
from aivc_graph.evaluation.responses.table import responses_of
from aivc_graph.evaluation.scoring import score
from aivc_graph.operators.intervention.condition_stack import predict_responses

OUT = Path(__file__).parent / "results" / "responses_speed.json"
DENSITY = 0.1
CHUNK = 2_000


def screen(n_cells: int, n_genes: int, n_conditions: int, seed: int = 0) -> ad.AnnData:
    """Return a screen of counts: a fifth of the cells controls, each condition moves a twentieth of the genes."""
    rng = np.random.default_rng(seed)
    genes = [f"G{i}" for i in range(n_genes)]
    names = np.array(["control", *(f"G{i}" for i in range(n_conditions))])
    condition = np.sort(np.r_[np.zeros(n_cells // 5, int), 1 + np.arange(n_cells - n_cells // 5) % n_conditions])
    base = np.log(rng.gamma(0.3, 1.0, n_genes) + 1e-3)
    base += np.log(DENSITY * 1.5 / np.exp(base).mean())
    effect = rng.normal(size=(len(names), n_genes)) * (rng.random((len(names), n_genes)) < 0.05)
    effect[0] = 0.0
    blocks = []
    for start in range(0, n_cells, CHUNK):
        rate = np.exp(base + effect[condition[start : start + CHUNK]])
        rate *= rng.gamma(5.0, 0.2, (len(rate), 1))
        blocks.append(sparse.csr_matrix(rng.poisson(rate).astype(np.float32)))
    obs = pd.DataFrame({"condition": names[condition]}, index=[f"c{i}" for i in range(n_cells)])
    made = ad.AnnData(sparse.csr_matrix(sparse.vstack(blocks)), obs=obs)
    made.var_names = genes
    return made


def main() -> None:
    """Time each stage and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("cells", 100_000), ("genes", 5_000), ("conditions", 200)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    data = screen(given.cells, given.genes, given.conditions)
    stages: dict[str, float] = {}
    worked: dict[str, float] = {}
    found: dict[str, Any] = vars(given) | {"values above zero": round(data.X.nnz / np.prod(data.shape), 4)}
    started, processed = time.perf_counter(), time.process_time()

    def stage(name: str) -> None:
        stages[name] = round(time.perf_counter() - started - sum(stages.values()), 1)
        worked[name] = round(time.process_time() - processed - sum(worked.values()), 1)
        print(name, stages[name], worked[name], flush=True)

    table = responses_of(data, "condition", "control")
    stage("table: profiles and their noise")
    question = put(table, kind="by_intervention", n_test=given.conditions // 5)
    assert question is not None
    exam = examine(table, question)
    stage("measured: genes called, axes, points")
    model = exam.answer(lambda table, fold: predict_responses(conditions_in(table, fold), fold.asked))
    stage("the operator")
    scored = exam.scored(model)
    stage("baselines and ceilings")
    results, _ = score([scored])
    stage("metrics and intervals")
    found |= {
        "seconds": stages,
        "seconds in all": round(time.perf_counter() - started, 1),
        "processor seconds": worked,
        "processor seconds in all": round(sum(worked.values()), 1),
        "peak memory GiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "cores": len(os.sched_getaffinity(0)),
        "predictors": len({one.predictor for one in results}),
        "metrics": len({one.metric for one in results}),
        "scores": len(results),
        "error of 300 cells a side": sampling_error(exam),
    }
    write_result(OUT, found)
    print(json.dumps(found, indent=1))


def sampling_error(exam: Any) -> dict[str, float]:
    """Return the standard deviation of the energy distance over draws of 300 control cells from the same control."""
    cells, rng = exam.table.cells, np.random.default_rng(0)
    own = cells.of(int(exam.table.control[exam.rows[0]]))
    points = exam.axes.project(cells.take(np.sort(rng.permutation(own)[:3_000])).logged())
    judge, found = EnergyDistance(), []
    for _ in range(30):
        drawn = rng.permutation(len(points))[:600]
        sides = [Space((points[half],), np.ones(1)) for half in (drawn[:300], drawn[300:])]
        found.append(judge.distances(*sides)[0])
    return {"energy_distance": round(float(np.std(found)), 5), "mean distance between cells": _mean_distance(points)}


def _mean_distance(points: np.ndarray) -> float:
    return round(float(pdist(points[:1000]).mean()), 3)


if __name__ == "__main__":
    main()
