"""Tissue that was imaged: held-out likelihood stage by stage, hidden cells, hidden markers, niches beside plain rules.

Likelihoods are those of training: of values hidden in places held out, standardised arcsinh, nats a value. Hidden cells
are scored as `aivc evaluate` does, with its baselines and intervals. Hidden markers: each marker of the scored cells in
turn with the others, a third at a time, told by the state after messages, beside the mean profile, the cell's own other
markers by ridge, and the mean of 18 neighbours. Niches are compared with regions that no intensity had a part in:
a mixture on the shares of labelled kinds among a cell's 30 nearest, as many as are told to all.

    python benchmarks/intensities.py [--out FILE] [--only merfish imc] [--set training.epochs=5]
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from first_model_parts import CONFIGS, r
from numpy.typing import NDArray
from result_file import write_result
from scipy.spatial import cKDTree
from sklearn.metrics import adjusted_rand_score

from aivc_graph import names
from aivc_graph.config import load_config
from aivc_graph.evaluation import intervals
from aivc_graph.evaluation.baselines.mixtures import mixture, neighbour_mean_mixture, own_mixture
from aivc_graph.evaluation.intervals import resampled
from aivc_graph.evaluation.metrics.metric import sums_by
from aivc_graph.operators.ridge import ridge
from aivc_graph.operators.state import Hidden
from aivc_graph.pipeline.evaluate import evaluate
from aivc_graph.pipeline.tasks.task import Asked
from aivc_graph.pipeline.train import train_config
from aivc_graph.query.predictions import measured_log_expression
from aivc_graph.query.virtual_tissue import VirtualTissue

Floats = NDArray[np.floating[Any]]
STUDIES = ("merfish", "imc")
LEVEL, KEY = names.CELL, (names.CELL, names.INTENSITY)
TURNS, AROUND, NUMBERS, DRAWS = 3, 30, (4, 6, 8), 200
log = logging.getLogger("intensities")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/intensities.json"))
    parser.add_argument("--only", nargs="+", choices=STUDIES, default=STUDIES)
    parser.add_argument("--set", nargs="+", default=[], help="settings of the configuration, as in aivc train")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    for name in options.only:
        with tempfile.TemporaryDirectory() as folder:
            found = study(name, Path(folder), ["training.device=cpu", *options.set])
        write_result(options.out, found, part=name)
        log.info("%s %s", name, json.dumps(found))


def study(name: str, folder: Path, settings: list[str]) -> dict[str, Any]:
    """Train, score, and return the figures of one study."""
    config = load_config(CONFIGS / f"{name}.yaml", settings)
    run = train_config(config, None, folder / "run", resume=False, device="cpu").folder
    scores = evaluate(run)
    asked = Asked(VirtualTissue.load(run), config)
    stages = json.loads((run / "training.json").read_text())["likelihoods"]
    return {
        "split": asked.split,
        "likelihood": {stage: r(value) for stage, value in stages.items()},
        "hidden cells": [
            {"task": one.task, "readout": one.readout, "metric": one.metric, "against": one.b}
            | {end: r(getattr(one, end)) for end in ("difference", "lower", "upper")}
            | {"over": f"{one.n_units} {one.unit}s"}
            for one in scores.comparisons
            if one.against == "baseline"
        ]
        + [
            {
                "task": one.task,
                "readout": one.readout,
                "metric": one.metric,
                "who": one.predictor,
                "value": r(one.value),
            }
            for one in scores.results
        ],
        "hidden markers": hidden_markers(asked),
        "niches": niches(asked),
    }


@torch.no_grad()
def hidden_markers(asked: Asked) -> dict[str, Any]:
    """Return the mean r of markers of scored cells that were hidden from their own cell, by who tells them."""
    graph, model = asked.graph, asked.model.eval()
    inputs = model.prepare(graph)
    data, rows = inputs.measured(*KEY), asked.scored(LEVEL) & asked.counted(LEVEL)
    true, train = data.standard.numpy(), asked.training(LEVEL) & asked.counted(LEVEL)
    turn = np.random.default_rng(0).permutation(true.shape[1]) % TURNS
    section, pos = graph[LEVEL].section_index.numpy(), graph[LEVEL].pos.numpy()
    told = {who: np.zeros((int(rows.sum()), true.shape[1])) for who in ("model", "own other markers", "neighbours")}
    for now in range(TURNS):
        here = turn == now
        with model.asked("expression"):
            z = model(inputs, Hidden(shown={KEY: torch.from_numpy((~here).astype(np.float32))})).z[LEVEL]
            told["model"][:, here] = model.part("measurement", *KEY).likelihood(z, data).mean().numpy()[rows][:, here]
        weight = ridge(true[train][:, ~here].astype(float), true[train][:, here].astype(float), section[train])
        told["own other markers"][:, here] = true[rows][:, ~here] @ weight
    told["neighbours"] = _others(pos, section, true, rows)
    units = asked.units(LEVEL, rows)
    drawn = resampled(units)
    code, found = units.code, {}
    for who, values in told.items():
        found[who] = r(_mean_r(values, true[rows], np.ones(len(code))))
    weights = [] if drawn is None else [one[code].astype(float) for one in drawn[:DRAWS]]
    for who in ("own other markers", "neighbours"):
        gains = [_mean_r(told["model"], true[rows], w) - _mean_r(told[who], true[rows], w) for w in weights]
        ends = (None, None) if not gains else tuple(r(one) for one in intervals.interval(np.array(gains), units.n))
        found[f"gain over {who}"] = {"difference": r(found["model"] - found[who]), "lower": ends[0], "upper": ends[1]}
    return found


def _others(pos: Floats, section: NDArray[Any], true: Floats, rows: NDArray[np.bool_]) -> Floats:
    found = np.zeros_like(true)
    for one in np.unique(section):
        here = np.flatnonzero(section == one)
        near = cKDTree(pos[here]).query(pos[here], k=min(19, len(here)))[1][:, 1:]
        found[here] = true[here][near].mean(axis=1)
    return found[rows]


def _mean_r(told: Floats, true: Floats, weight: Floats) -> float:
    """Return the weighted correlation of each marker, on average."""
    a, b = (x - np.average(x, axis=0, weights=weight) for x in (told, true))
    along = (weight[:, None] * a * b).sum(axis=0)
    size = np.sqrt((weight[:, None] * a**2).sum(axis=0) * (weight[:, None] * b**2).sum(axis=0))
    return float(np.mean(along / np.maximum(size, 1e-12)))


def niches(asked: Asked) -> dict[str, Any]:
    """Return the agreement of niches with mixtures of kinds around, by number, for the model and the plain rules."""
    graph, kinds = asked.graph, asked.kinds(LEVEL)
    section, pos = graph[LEVEL].section_index.numpy(), graph[LEVEL].pos.numpy()
    onehot = np.eye(len(np.unique(kinds)))[np.unique(kinds, return_inverse=True)[1].reshape(-1)]
    around = np.zeros_like(onehot)
    for one in np.unique(section):
        here = np.flatnonzero(section == one)
        near = cKDTree(pos[here]).query(pos[here], k=min(AROUND + 1, len(here)))[1]
        around[here] = onehot[here][near].mean(axis=1)
    everyone, found = np.ones(len(kinds), bool), {}
    features = measured_log_expression(asked.model, graph, LEVEL)
    for k in NUMBERS:
        region = mixture(np.sqrt(around) + 1e-3 * np.random.default_rng(0).normal(size=around.shape), k)
        scene = asked.scene(LEVEL, region, train=~everyone, visible=everyone, asked=everyone, features=features)
        said = {
            "model": asked.tissue.niches(k=k, level=LEVEL).obs["niche"].cat.codes.to_numpy(),
            "own mixture": own_mixture(scene),
            "neighbour mean mixture": neighbour_mean_mixture(scene),
        }
        found[str(k)] = {who: r(adjusted_rand_score(region, codes)) for who, codes in said.items()} | _gains(
            asked, region, said, everyone
        )
    return found


def _gains(asked: Asked, region: Any, said: dict[str, Any], everyone: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the interval of the model's gain over each rule, blocks of tissue resampled."""
    units = asked.units(LEVEL, everyone)
    drawn = resampled(units)
    if drawn is None:
        return {}
    found = {}
    for who in ("own mixture", "neighbour mean mixture"):
        pairs = [_tables(region, said[one], units.code, units.n) for one in ("model", who)]
        gains = [np.subtract(*(_rand(np.tensordot(w, one, 1)) for one in pairs)) for w in drawn[:DRAWS]]
        found[f"gain over {who}"] = [r(one) for one in intervals.interval(np.array(gains), units.n)]
    return found


def _tables(a: Any, b: Any, unit: NDArray[Any], n: int) -> Floats:
    """Return how many nodes of each unit are of each pair of groups (unit, group, group)."""
    a, b = (np.unique(x, return_inverse=True)[1].reshape(-1) for x in (a, b))
    width = int(b.max()) + 1
    onehot = np.eye((int(a.max()) + 1) * width)[a * width + b]
    return np.asarray(sums_by(onehot, unit, n)).reshape(n, -1, width)


def _rand(table: Floats) -> float:
    """Return the adjusted Rand index of a table of groups."""
    pairs = lambda x: (x * (x - 1) / 2).sum()  # noqa: E731
    rows, columns, total = pairs(table.sum(axis=1)), pairs(table.sum(axis=0)), pairs(np.array([table.sum()]))
    chance = rows * columns / max(total, 1e-12)
    return float((pairs(table) - chance) / max((rows + columns) / 2 - chance, 1e-12))


if __name__ == "__main__":
    main()
