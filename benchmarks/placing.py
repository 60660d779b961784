"""How near cells whose position was taken away are placed to where they were, and how surely.

    OMP_NUM_THREADS=1 AIVC_DATA=… python benchmarks/placing.py [--only xenium simulated] [--out FILE]

`xenium`: cells of the breast section (313 genes). Half of them lose their positions, at random (`half`) or by squares
of 500 µm in a chequerboard (`squares`: nothing is left where they were; no rule can do better than the nearest place
that is left, `nearest place left`); `platform`: half, of which one kind of cell makes up four fifths, counted anew with
genes up or down by a factor of their own (log-normal, 0.7), placed with and without what is said of platforms.
`simulated`: a section of the demo study, half; `foreign`: all cells of a type are taken out of the section and asked.

Distance from the told to the true place [µm]: median, and the share within 100 µm, beside the node nearest by cosine
of log expression over shared genes, and a node at random. Intervals are over squares of 500 µm, drawn again whole.
`covered`: the share of cells in the 90 % region; `said within 100 µm`: the mean probability that they lie there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from first_model_parts import BOOTSTRAPS, CONFIGS, r
from result_file import write_result
from sklearn.cluster import KMeans

from aivc_graph import names
from aivc_graph.config import load_config
from aivc_graph.graph.store import read_store
from aivc_graph.graph.terms import raw_values
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators import placing_fit
from aivc_graph.operators.placing import Nodes, Places, unit
from aivc_graph.operators.placing_fit import LEAST_FIT, Placed, Placing, fit_placing
from aivc_graph.pipeline.build import build
from aivc_graph.query.placing import EXPRESSION, expression_alike
from aivc_graph.simulate.simulate import simulate

SQUARE_UM, SEED, EFFECT = 500.0, 0, 0.7
Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]
Rows = np.ndarray[Any, np.dtype[np.int64]]


def main() -> None:
    """Place the cells of each tissue and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=("xenium", "simulated"), default=("xenium", "simulated"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "placing.json")
    options = parser.parse_args()
    for name in options.only:
        found = {"xenium": xenium, "simulated": simulated}[name]()
        print(name, json.dumps(found, indent=1), flush=True)
        write_result(options.out, found, part=name)


def xenium() -> dict[str, Any]:
    counts, pos, _ = breast()
    half, by_square = stripped(len(pos)), chequered(pos)
    return {
        "half": placed(counts, pos, half),
        "squares": placed(counts, pos, by_square) | {"nearest place left": left(pos, by_square)},
        "platform": by_platform(counts, pos, half),
    }


def simulated() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(simulate("demo", Path(folder) / "tissue", seed=SEED) / "config.yaml")
        counts, pos, label = largest(read_store(build(config, Path(folder) / "graph.zarr")))
    return {"half": placed(counts, pos, stripped(len(pos))), "foreign": foreign(counts, pos, label)}


def breast() -> tuple[Any, Floats, Rows]:
    """Return counts (cell, gene), positions [µm] and labels of the Xenium section."""
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(CONFIGS / "xenium_visium_breast.yaml")
        return largest(read_store(build(config, Path(folder) / "graph.zarr")))


def largest(graph: TissueGraph) -> tuple[Any, Floats, Any]:
    """Return counts (cell, gene), positions [µm] and labels of the section of most cells, of those counted."""
    nodes = graph[names.CELL]
    here = nodes.section_index.numpy() == np.bincount(nodes.section_index.numpy()).argmax()
    rows = np.flatnonzero(here & nodes.rna_mask.numpy())
    obs = graph.obs(names.CELL)
    label = obs[names.LABEL].astype(str).to_numpy()[rows] if names.LABEL in obs else np.zeros(len(rows))
    return raw_values(graph, names.CELL, names.RNA).tocsr()[rows], nodes.pos.double().numpy()[rows], label


def stripped(n: int) -> Rows:
    """Return which half of the cells lose their positions, boolean (cell,)."""
    return np.random.default_rng(SEED).permutation(n) < n // 2


def square_of(pos: Floats) -> Rows:
    at = ((pos - pos.min(axis=0)) // SQUARE_UM).astype(np.int64)
    return at[:, 0] * 1_000 + at[:, 1]


def chequered(pos: Floats) -> Any:
    return (square_of(pos) // 1_000 + square_of(pos) % 1_000) % 2 == 0


def left(pos: Floats, asked: Any) -> dict[str, Any]:
    from scipy.spatial import cKDTree

    return scores(cKDTree(pos[~asked]).query(pos[asked])[0], square_of(pos)[asked])


def placed(counts: Any, pos: Floats, asked: Any) -> dict[str, Any]:
    """Return the scores of cells `asked`, boolean (cell,), placed among the others."""
    found, x, y = fitted(counts, pos, asked)
    started = time.perf_counter()
    told = found.place(y[found.rule.view], depth(counts[asked]))
    seconds = time.perf_counter() - started
    true, square = pos[asked], square_of(pos)[asked]
    rng = np.random.default_rng(SEED)
    near = np.concatenate([(unit(some) @ unit(x).T).argmax(axis=1) for some in np.array_split(y[EXPRESSION], 20)])
    rules = {"model": told.point, "nearest in genes": pos[~asked][near], "uniform": rng.choice(pos[~asked], len(true))}
    away = {name: np.linalg.norm(point - true, axis=1) for name, point in rules.items()}
    return {
        "cells asked, nodes left, places": [len(true), len(x), len(found.ground.places.centre)],
        "rule": {key: value if isinstance(value, str) else r(value) for key, value in vars(found.rule).items()},
        "nats over knowing nothing": {step: r(gain) for step, gain in found.gains.items()},
        "scores": {name: scores(one, square) for name, one in away.items()},
        "model less nearest": less(away["model"], away["nearest in genes"], square),
        "covered": coverage(found, y[found.rule.view], true, square),
        "coverage told of hidden nodes": r(found.coverage),
        "region, share of tissue": r(np.median(told.region_um2) / found.ground.places.area.sum()),
        "said within 100 µm": r(told.near.mean()),
        "cells that fit nowhere": r(np.mean(told.fit < LEAST_FIT)),
        "seconds to place": r(seconds),
    }


def fitted(counts: Any, pos: Floats, asked: Any) -> tuple[Placing, Floats, dict[str, Floats]]:
    x, y = expression_alike(counts[~asked], counts[asked])
    nodes = Nodes({EXPRESSION: x}, pos[~asked], np.ones(len(x)))
    return fit_placing(nodes, Places.of_nodes(nodes.pos_um), depth(counts[~asked]), SEED), x, {EXPRESSION: y}


def depth(counts: Any) -> Floats:
    return np.asarray(counts.sum(axis=1), np.float64).ravel()


def scores(away: Floats, square: Rows) -> dict[str, Any]:
    """Return the median distance and the share within 100 µm, each with its interval over squares."""
    return {
        "median µm": over_squares(lambda rows: float(np.median(away[rows])), square),
        "within 100 µm": over_squares(lambda rows: float(np.mean(away[rows] <= 100)), square),
    }


def less(one: Floats, other: Floats, square: Rows) -> dict[str, Any]:
    near = (one <= 100).astype(float) - (other <= 100)
    return {
        "median µm": over_squares(lambda rows: float(np.median(one[rows]) - np.median(other[rows])), square),
        "within 100 µm": over_squares(lambda rows: float(near[rows].mean()), square),
    }


def over_squares(value: Callable[[Rows], float], square: Rows) -> list[float]:
    """Return a value of all rows, and its 95 % interval over squares drawn again, whole."""
    members = [np.flatnonzero(square == one) for one in np.unique(square)]
    rng = np.random.default_rng(SEED)
    drawn = [
        value(np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))]))
        for _ in range(BOOTSTRAPS // 5)
    ]
    return [r(value(np.arange(len(square)))), r(np.quantile(drawn, 0.025)), r(np.quantile(drawn, 0.975))]


def coverage(found: Placing, y: Floats, true: Floats, square: Rows) -> list[float]:
    """Return the share of cells in the region said to hold nine of ten; a cell outside all places is in none."""
    places, inside = found.ground.places, np.zeros(len(y))
    corner = {tuple(one): i for i, one in enumerate(np.round(places.centre / places.side - 0.5).astype(int).tolist())}
    at = np.array([corner.get(tuple(one), -1) for one in (true // places.side).astype(int).tolist()])
    for rows, _, p in found.ground.blocks(y - placing_fit.platform_shift(found.ground, y)):
        here = p[np.arange(len(p)), at[rows]]
        held = np.where(p >= here[:, None], p, 0.0).sum(axis=1)
        inside[rows] = (held <= found.level) & (at[rows] >= 0)
    return over_squares(lambda rows: float(inside[rows].mean()), square)


def by_platform(counts: Any, pos: Floats, asked: Any) -> dict[str, Any]:
    """Return scores where asked cells are mostly of one kind and counted by another platform; see the file's head."""
    found, x, y = fitted(counts, pos, asked)
    kind = KMeans(8, n_init=2, random_state=SEED).fit(x[:, :20]).predict(y[EXPRESSION][:, :20])
    rng = np.random.default_rng(SEED)
    factor = np.exp(EFFECT * rng.standard_normal(counts.shape[1]))
    rows = np.flatnonzero(asked)
    result: dict[str, Any] = {}
    for one in np.argsort(-np.bincount(kind))[:3]:
        of, others = np.flatnonzero(kind == one), np.flatnonzero(kind != one)
        some = np.sort(np.r_[of, rng.permutation(others)[: len(of) // 4]])
        again = counts[rows[some]].copy()
        again.data = rng.poisson(again.data * factor[again.indices]).astype(np.float32)
        told = expression_alike(counts[~asked], again)[1]
        true, square = pos[rows[some]], square_of(pos)[rows[some]]
        result[f"kind {one}"] = {
            name: scores(np.linalg.norm(place.point - true, axis=1), square)
            for name, place in (
                ("model", found.place(told, depth(again))),
                ("without the shift", unshifted(found, told, depth(again))),
                ("no platform effect", found.place(y[EXPRESSION][some], depth(counts[rows[some]]))),
            )
        }
    return result


def unshifted(found: Placing, x: Floats, deep: Floats) -> Placed:
    shift = placing_fit.platform_shift
    placing_fit.platform_shift = lambda ground, x, seed: np.zeros(x.shape[1])  # type: ignore[assignment]
    try:
        return found.place(x, deep)
    finally:
        placing_fit.platform_shift = shift


def foreign(counts: Any, pos: Floats, label: Any) -> dict[str, Any]:
    """Return by type the share told to fit nowhere: of its cells, when it is not in the section, and of the others."""
    result, half = {}, stripped(len(pos))
    for kind in np.unique(label):
        gone = label == kind
        if min(gone.sum(), (~gone).sum() / 4) < 60:
            continue
        asked = half | gone
        found, _, y = fitted(counts, pos, asked)
        nowhere = found.place(y[EXPRESSION], depth(counts[asked])).fit < LEAST_FIT
        result[str(kind)] = {"of the type": r(nowhere[gone[asked]].mean()), "others": r(nowhere[~gone[asked]].mean())}
    return result


if __name__ == "__main__":
    main()
