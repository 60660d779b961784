"""Cells of which a part was measured, asked of the graph model: half a panel shown, half of one modality missing.

    AIVC_DATA=… OMP_NUM_THREADS=1 python benchmarks/mosaic.py

Bone marrow, RNA and 134 proteins (Luecken 2021, openreview.net/forum?id=gN35BGa1Rt), `configs/bmmc.yaml`, each donor
asked in turn of a run of the other. Writes ``benchmarks/results/mosaic.json``.

- ``half the proteins``: the asked donor measured every other protein, then the others. Those it did not are told by RNA
  alone, by the proteins alone, by both; beside ridge from the same (of proteins their log ratio to those shown).
- ``half missing``: half of the training cells, at random, lost their proteins, or their RNA. What that adds to the
  error of telling one from the other, beside what it adds to ridge's.

Errors are of centred log ratios and log counts at one depth; intervals are over cells of the donor asked.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from first_model_parts import CONFIGS
from result_file import write_result

from aivc_graph import names
from aivc_graph.config import Config, load_config
from aivc_graph.evaluation import intervals
from aivc_graph.evaluation.baselines.baseline import Scene, run_baselines
from aivc_graph.graph.hiding import hide_observations
from aivc_graph.graph.panels import measured_name, panel_columns
from aivc_graph.graph.store import read_store
from aivc_graph.graph.terms import dense, measured_terms, raw_values
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr, to_torch_csr
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.pipeline.build import build
from aivc_graph.pipeline.train import train
from aivc_graph.query.predictions import told_by_others

OUT = Path(__file__).parent / "results" / "mosaic.json"
CELL, RNA, ADT = names.CELL, names.RNA, names.ADT
DRAWS = 2_000
DONORS, WAYS = ("s1d2", "s1d1"), ((RNA, ADT), (ADT, RNA))
Array = np.ndarray[Any, Any]


def main() -> None:
    """Score everybody on everything and write the figures."""
    found: dict[str, Any] = {}
    for donor in DONORS:
        with tempfile.TemporaryDirectory() as folder:
            config = load_config(CONFIGS / "bmmc.yaml", [f"task.split.test=[{donor}]"])
            graph = read_store(build(config, Path(folder) / "graph.zarr"))
            model = trained(graph, config)
            found[f"{donor} asked"] = {
                "half the proteins": half_the_panel(model, graph),
                "half missing": half_missing(model, graph, config),
            }
        print(donor, json.dumps(found[f"{donor} asked"]), flush=True)
    write_result(OUT, found)


def trained(graph: TissueGraph, config: Config) -> TissueModel:
    """Return the model of a run."""
    with tempfile.TemporaryDirectory() as folder:
        return train(graph, config, Path(folder) / "run").tissue.model


def half_the_panel(model: TissueModel, graph: TissueGraph) -> dict[str, Any]:
    """Return the error of proteins that were not shown, by what tells them, and differences (cell, molecule)."""
    test, train = (graph.in_split(CELL, side).numpy() for side in (names.TEST, names.TRAIN))
    everything = {one: dense(measured_terms(graph, CELL, one, slice(None))) for one in (RNA, ADT)}
    columns = panel_columns(graph, CELL, ADT)
    half = np.random.default_rng(0).permutation(len(columns)) % 2 == 0
    logs = np.log1p(dense(raw_values(graph, CELL, ADT)))
    squares: dict[str, list[Array]] = {}
    for shown in (half, ~half):
        part = logs[:, shown] - logs[:, shown].mean(axis=1, keepdims=True)
        features = {"RNA": everything[RNA], "proteins": part, "both": np.hstack([everything[RNA], part])}
        said = {
            f"ridge, {name}": by_rule(x, everything[ADT], train, test, graph, "ridge") for name, x in features.items()
        }
        cut = with_panel(graph, test, shown)
        asked = {"both": cut, "RNA": hide_observations(graph, {(CELL, ADT): test})}
        said |= {f"model, {name}": told_by_others(model, one, CELL, ADT, test) for name, one in asked.items()}
        for name, values in said.items():
            wrong = (values - everything[ADT][test])[:, ~shown]
            squares.setdefault(name, []).append(np.square(wrong).mean(axis=1))
    error = {name: np.mean(both, axis=0) for name, both in squares.items()}
    return {name: rmse(one) for name, one in error.items()} | {
        f"model, both less {name}": difference(error["model, both"], one)
        for name, one in error.items()
        if name != "model, both"
    }


def with_panel(graph: TissueGraph, rows: Array, shown: Array) -> TissueGraph:
    """Return the graph as if the sections of `rows` had measured the proteins `shown` alone (molecule,)."""
    found, columns = hide_observations(graph, {(CELL, ADT): np.zeros_like(rows)}), panel_columns(graph, CELL, ADT)
    lost = columns.numpy()[~shown]
    counts = to_scipy_csr(graph.counts(CELL, ADT)).tolil()
    counts[np.ix_(np.flatnonzero(rows), lost)] = 0
    found[names.MOLECULE_OF[ADT], names.OBSERVED_IN, CELL].adj_t = to_torch_csr(counts.tocsr().astype(np.float32))
    sections = graph[CELL].section_index.numpy()
    measured = graph[CELL][f"{ADT}_panel"].repeat(int(graph[names.SECTION].num_nodes), 1)
    measured[np.ix_(np.unique(sections[rows]), lost)] = False
    found[names.SECTION][measured_name(CELL, ADT)] = measured
    return found


def half_missing(whole: TissueModel, graph: TissueGraph, config: Config) -> dict[str, Any]:
    """Return what the loss of a modality in half of the training cells adds to errors of the model and of ridge."""
    test, train = (graph.in_split(CELL, side).numpy() for side in (names.TEST, names.TRAIN))
    lost = train & (np.random.default_rng(1).random(len(train)) < 0.5)
    values = {one: dense(measured_terms(graph, CELL, one, slice(None))) for one in (RNA, ADT)}
    found: dict[str, Any] = {}
    for gone in (ADT, RNA):
        model = trained(hide_observations(graph, {(CELL, gone): lost}), config)
        for source, target in WAYS:
            asked = hide_observations(graph, {(CELL, target): test})
            said = {
                "model": [told_by_others(one, asked, CELL, target, test) for one in (whole, model)],
                "ridge": [
                    by_rule(values[source], values[target], rows, test, graph, "ridge")
                    for rows in (train, train & ~lost)
                ],
            }
            errors = {k: [np.square(one - values[target][test]).mean(axis=1) for one in v] for k, v in said.items()}
            found[f"{target} from {source}, {gone} of {int(lost.sum())} cells missing"] = {
                **{name: [rmse(one) for one in both] for name, both in errors.items()},
                "model with half less ridge with half": difference(errors["model"][1], errors["ridge"][1]),
                "cost to the model less cost to ridge": cost(errors["model"], errors["ridge"]),
            }
    return found


def by_rule(x: Array, y: Array, train: Array, test: Array, graph: TissueGraph, rule: str) -> Array:
    """Return what a rule of the evaluation says of the asked cells."""
    used = np.flatnonzero(train | test)
    nobody, donor = np.zeros(len(used), bool), graph[CELL].section_index.numpy()[used]
    target = np.where(train[used][:, None], y[used], np.nan)
    scene = Scene(
        target, train[used], nobody, test[used], donor, np.zeros((len(used), 2)), features=x[used], comparable=True
    )
    return run_baselines(scene, "modality")[rule]


def rmse(squares: Array) -> float:
    return round(float(np.sqrt(squares.mean())), 4)


def difference(one: Array, other: Array) -> list[float]:
    """Return the difference of errors and its 95 % interval over cells."""
    return cost([other * 0, one], [other * 0, other])


def cost(ours: list[Array], rule: list[Array]) -> list[float]:
    """Return by how much our error rises from the first to the second beyond the rule's, and its interval."""
    rng, n = np.random.default_rng(0), len(ours[0])
    rows = [np.arange(n), *(rng.integers(0, n, n) for _ in range(DRAWS))]
    root = [[np.array([np.sqrt(one[i].mean()) for i in rows]) for one in pair] for pair in (ours, rule)]
    gains = (root[0][1] - root[0][0]) - (root[1][1] - root[1][0])
    return [round(float(one), 4) for one in (gains[0], *intervals.interval(gains[1:], n))]


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
