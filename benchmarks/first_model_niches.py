"""`first_model`: niches found without labels, beside regions, layers and the truth of simulated tissue."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from first_model_parts import CONFIGS, interval, log, neighbour_mean, r, scaled_counts, trained
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from aivc_graph.config import load_config
from aivc_graph.evaluation import intervals
from aivc_graph.evaluation.baselines.baseline import Scene, run_baselines
from aivc_graph.graph.build import build_graph
from aivc_graph.pipeline.build import hold_out, read_section
from aivc_graph.query.mixture import fit_mixtures
from aivc_graph.query.predictions import measured_log_expression
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.simulate.simulate import simulate

SEEDS = range(3)
STUDIES, DESIGN = range(6), (0, 1)
NEIGHBOUR_MEAN = "neighbour_mean_mixture"


def regions() -> dict[str, Any]:
    """Adjusted Rand index of niches with regions (osmFISH) and layers (DLPFC)."""
    return {name: region_scores(name, level, k) for name, level, k in (("osmfish", "cell", 11), ("dlpfc", "patch", 7))}


def region_scores(name: str, level: str, k: int) -> dict[str, Any]:
    """ARI of the model's niches and of mixtures on own and neighbour-mean states; the interval is over blocks."""
    config = load_config(CONFIGS / f"{name}.yaml")
    section = read_section(config.task.sections[0])
    hold_out([section], config.task)
    graph = build_graph([section], config.graph)
    model, diagnostics = trained(graph, config)
    label = graph.obs(level)["label"].astype(object).to_numpy()
    known = np.array([isinstance(v, str) and v not in ("nan", "Excluded") for v in label])
    pos = graph[level].pos.numpy()
    own = (scaled_counts(graph, level) - graph["section"][f"{level}_rna_mean"].numpy()) @ (
        model.count_operator(level, "rna").loading.detach().numpy()
    )
    one = np.zeros(len(own), int)
    total = ((own - own.mean(axis=0)) ** 2).sum()
    means = {n: neighbour_mean(own, pos, one, n, own=False) for n in (6, 10, 18, 24, 30)}
    error = {n: float(((own - m) ** 2).sum() / total) for n, m in means.items()}
    best = min(error, key=error.__getitem__)
    assigned = {"own state": [mixture(own, k, seed) for seed in SEEDS]}
    for n, mean in means.items():
        assigned[f"mean of {n} neighbours"] = [mixture(mean, k, seed) for seed in SEEDS]
    tissues = [VirtualTissue(graph, model, diagnostics, seed) for seed in SEEDS]
    assigned["model"] = [t.niches(k=k, level=level).obs["niche"].cat.codes.to_numpy() for t in tissues]
    nested = f"mean of {best} neighbours"
    context = tissues[0].states[level].context
    assigned["mixture of the model's context"] = [mixture(context, k, seed) for seed in SEEDS]
    assigned[f"{nested}, ten random starts"] = [random_starts(means[best], k, seed) for seed in SEEDS]
    default = tissues[0].niches(level=level).obs["niche"].cat.codes.to_numpy()
    return {
        "metric": "adjusted Rand index",
        "labels": k,
        "nested baseline": f"{nested} (least leave-one-out error)",
        "leave_one_out_error": {str(n): r(e) for n, e in error.items()},
        "over seeds": {key: spread(label[known], [a[known] for a in runs]) for key, runs in assigned.items()},
        "number of niches not given": {
            "niches": int(default.max()) + 1,
            "model": r(adjusted_rand_score(label[known], default[known])),
        },
        "model minus nested": block_interval(label, known, pos, assigned["model"], assigned[nested]),
        "model minus own state": block_interval(label, known, pos, assigned["model"], assigned["own state"]),
    }


def spread(label: np.ndarray, runs: list[np.ndarray]) -> dict[str, float]:
    """Return mean, least and greatest ARI over runs."""
    scores = [adjusted_rand_score(label, run) for run in runs]
    return {"mean": r(np.mean(scores)), "least": r(min(scores)), "greatest": r(max(scores))}


def mixture(x: np.ndarray, k: int, seed: int, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Return the parts, for all nodes, of the library's mixture of states fitted to `rows`."""
    return fit_mixtures(x[rows], seed, most=k)[k].log_density(x).argmax(axis=1)


def random_starts(x: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Return components of scikit-learn's mixture with one covariance, the best of ten random starts."""
    return GaussianMixture(k, covariance_type="tied", n_init=10, random_state=seed).fit_predict(x)


def simulated() -> dict[str, Any]:
    """Niches of simulated studies beside the true ones, on the donors held out, and the number found in every study.

    The method was made looking at the niches of the `DESIGN` seeds; those of the other seeds decided nothing in it.
    """
    rows = [study(preset, seed) for preset in ("demo", "cohort") for seed in STUDIES]
    found: dict[str, Any] = {"metric": "adjusted Rand index, held-out donors", "by_study": rows}
    for name, seeds in (
        ("of the design", DESIGN),
        ("that decided nothing", [seed for seed in STUDIES if seed not in DESIGN]),
    ):
        chosen = [row for row in rows if row["seed"] in seeds]
        means = {key: r(np.mean([row[key] for row in chosen])) for key in ("model", NEIGHBOUR_MEAN, "own_mixture")}
        gain = interval(np.array([row["model"] - row[NEIGHBOUR_MEAN] for row in chosen]))
        found[f"studies {name}"] = {**means, f"model minus {NEIGHBOUR_MEAN}": gain}
    found["without niches"] = [study("null_niches", seed) for seed in STUDIES[:3]]
    return found


def study(preset: str, seed: int) -> dict[str, Any]:
    """Simulate and train one study; return the agreement of its niches with the true ones, and their number."""
    with tempfile.TemporaryDirectory() as folder:
        simulate(preset, Path(folder), seed=seed)
        config = load_config(Path(folder) / "config.yaml", ["task.features=null"])
        sections = [read_section(s) for s in config.task.sections]
        hold_out(sections, config.task)
        names = [s.name for s in config.task.sections]
        tables = [pd.read_parquet(Path(folder) / "truth" / name / "cells.parquet") for name in names]
        graph = build_graph(sections, config.graph)
    keys = [f"{name}:" + table["cell_id"].astype(str) for name, table in zip(names, tables, strict=True)]
    truth = pd.concat([table.set_index(key)["niche"] for key, table in zip(keys, tables, strict=True)])
    label = pd.Categorical(truth.reindex(graph.obs("cell").index)).codes
    tissue, k = VirtualTissue(graph, *trained(graph, config), seed), int(truth.nunique())
    test = graph.in_split("cell", "test").numpy()
    left_open = tissue.niches(level="cell").obs["niche"].cat.codes.to_numpy()
    row: dict[str, Any] = {"preset": preset, "seed": seed, "true": k, "found": int(left_open.max()) + 1}
    if k > 1:
        niche = tissue.niches(k=k, level="cell").obs["niche"].cat.codes.to_numpy()
        section, pos = graph["cell"].section_index.numpy(), graph["cell"].pos.numpy()
        every = np.ones(len(label), bool)
        expression = measured_log_expression(tissue.model, graph, "cell")
        scene = Scene(label, ~every, every, every, section, pos, expression)
        answers = {"model": niche, **run_baselines(scene, "domains")}
        row |= {name: r(adjusted_rand_score(label[test], answer[test])) for name, answer in answers.items()}
        row["model, number left open"] = r(adjusted_rand_score(label[test], left_open[test]))
    log.info("simulated %s", row)
    return row


def block_interval(
    label: np.ndarray, known: np.ndarray, pos: np.ndarray, a: list[np.ndarray], b: list[np.ndarray]
) -> dict[str, Any]:
    """Return the difference in ARI, mean over seeds, and its interval over resampled blocks of tissue."""
    edge = np.sqrt(np.prod(np.ptp(pos, axis=0)) / 30)
    step = np.floor((pos - pos.min(axis=0)) / edge).astype(int)
    block = np.unique(step, axis=0, return_inverse=True)[1].reshape(-1)
    members = [np.flatnonzero((block == i) & known) for i in np.unique(block[known])]
    rng, differences = np.random.default_rng(0), []
    for _ in range(200):
        rows = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        pairs = zip(a, b, strict=True)
        differences.append(
            np.mean(
                [
                    adjusted_rand_score(label[rows], x[rows]) - adjusted_rand_score(label[rows], y[rows])
                    for x, y in pairs
                ]
            )
        )
    whole = np.mean(
        [
            adjusted_rand_score(label[known], x[known]) - adjusted_rand_score(label[known], y[known])
            for x, y in zip(a, b, strict=True)
        ]
    )
    low, high = intervals.interval(np.array(differences), len(members))
    return {"mean": r(whole), "lower": r(low), "upper": r(high), "n_units": len(members)}
