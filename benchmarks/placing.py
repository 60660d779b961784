"""How near cells whose position was taken away are placed to where they were, and how surely.

    OMP_NUM_THREADS=1 AIVC_DATA=… python benchmarks/placing.py [--only xenium genes simulated] [--tangram PYTHON]

`xenium`: cells of the breast section (313 genes), of which half lose their positions, at random (`half`); `platform`:
of that half the cells of one kind four fifths, counted anew with genes up or down by a factor of their own (log-normal,
0.7), placed with and without what is said of platforms; and all. `squares`: those in squares of 500 µm in a
chequerboard lose theirs: nothing is left where they were; no rule that places cells at nodes can do better than the
nearest place that is left (`nearest place left`).
`genes`: half of the cells measured 213 of the 313 genes and keep their positions, the others all and lose them; the 100
others are told of the former. Correlation over nodes, mean over genes, beside the 30 nearest cells and ridge, interval
over genes; `within bounds`: how many means over tenths of the nodes lie in the 95 % bounds. Three draws of genes.
`tangram`: `half` and `genes` on 1,500 cells and 1,500 nodes, beside Tangram in an environment of its own.
`few`: half of 3,000 of the cells. `simulated`: a section of the cohort study, half.

Distance from the told to the true place [µm]: median, and the share of places told to be likeliest within 100 µm that
are, beside the node nearest by cosine
of log expression over shared genes, and a node at random. Intervals are over squares of 500 µm, drawn again whole.
`covered`: the share of cells in the 90 % region; `said within 100 µm`: the mean probability that they lie there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from first_model_parts import BOOTSTRAPS, CONFIGS, interval, r
from result_file import write_result
from sklearn.cluster import KMeans

from aivc_graph import names
from aivc_graph.config import load_config
from aivc_graph.evaluation import intervals
from aivc_graph.graph.panels import panel
from aivc_graph.graph.store import read_store
from aivc_graph.graph.terms import raw_values
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators import placing_fit
from aivc_graph.operators.genes_from_cells import (
    SHARPNESS,
    START,
    Alike,
    Way,
    choose_way,
    factor_off,
    likeness_by_gene,
    ratio_of_alike,
    tell,
)
from aivc_graph.operators.placing import Nodes, Places, unit
from aivc_graph.operators.placing_fit import Placed, Placing, fit_placing
from aivc_graph.pipeline.build import build
from aivc_graph.query.placing import EXPRESSION, expression_alike
from aivc_graph.simulate.simulate import simulate

SQUARE_UM, SEED, EFFECT = 500.0, 0, 0.7
PARTS = ("xenium", "squares", "few", "genes", "simulated")
HIDDEN, DRAWS, SMALL = 100, 3, 1_500
Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]
Rows = np.ndarray[Any, np.dtype[np.int64]]


def main() -> None:
    """Place the cells of each tissue and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--tangram", type=Path, help="an interpreter that has Tangram")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "placing.json")
    options = parser.parse_args()
    made = (xenium, squares, few, genes, simulated)
    parts: dict[str, Callable[[], dict[str, Any]]] = dict(zip(PARTS, made, strict=True))
    if options.tangram:
        parts["tangram"] = lambda: tangram(options.tangram)
    for name in ("tangram",) if options.tangram else options.only:
        found = parts[name]()
        print(name, json.dumps(found, indent=1), flush=True)
        write_result(options.out, found, part=name)


def xenium() -> dict[str, Any]:
    counts, pos, _ = breast()
    half = stripped(len(pos))
    found = fitted(counts, pos, half)
    return {"half": placed(counts, pos, half, found), "platform": by_platform(counts, pos, half, found)}


def squares() -> dict[str, Any]:
    counts, pos, _ = breast()
    gone = chequered(pos)
    return placed(counts, pos, gone, fitted(counts, pos, gone)) | {"nearest place left": left(pos, gone)}


def few() -> dict[str, Any]:
    counts, pos, _ = breast()
    order = np.random.default_rng(SEED).permutation(len(pos))[: 2 * SMALL]
    asked = np.arange(len(order)) < SMALL
    return placed(counts[order], pos[order], asked, fitted(counts[order], pos[order], asked))


def simulated() -> dict[str, Any]:
    counts, pos, _ = cohort()
    half = stripped(len(pos))
    return {"half": placed(counts, pos, half, fitted(counts, pos, half))}


def cohort() -> tuple[Any, Floats, Any]:
    """Return counts (cell, gene), positions [µm] and types of a section of the simulated cohort study."""
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(simulate("cohort", Path(folder) / "tissue", seed=SEED) / "config.yaml")
        return largest(read_store(build(config, Path(folder) / "graph.zarr")))


def breast() -> tuple[Any, Floats, list[str]]:
    """Return counts (cell, gene), positions [µm] and genes of the Xenium section."""
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(CONFIGS / "xenium_visium_breast.yaml")
        graph = read_store(build(config, Path(folder) / "graph.zarr"))
        counts, pos, _ = largest(graph)
        return counts, pos, list(panel(graph, names.CELL, names.RNA))


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

    away = cKDTree(pos[~asked]).query(pos[asked])[0]
    return scores(away, away, square_of(pos)[asked])


def placed(
    counts: Any, pos: Floats, asked: Any, model: tuple[Placing, Floats, dict[str, Floats], float]
) -> dict[str, Any]:
    """Return the scores of cells `asked`, boolean (cell,), placed among the others."""
    found, x, y, took = model
    started = time.perf_counter()
    told = found.place(y[found.rule.view])
    seconds = time.perf_counter() - started
    true, square = pos[asked], square_of(pos)[asked]
    rng = np.random.default_rng(SEED)
    near = np.concatenate([(unit(some) @ unit(x).T).argmax(axis=1) for some in np.array_split(y[EXPRESSION], 20)])
    rules = {"nearest in genes": pos[~asked][near], "uniform": rng.choice(pos[~asked], len(true))}
    away = {name: (np.linalg.norm(point - true, axis=1),) * 2 for name, point in rules.items()}
    away["model"] = np.linalg.norm(told.point - true, axis=1), np.linalg.norm(told.likely - true, axis=1)
    return {
        "cells asked, nodes left, places": [len(true), len(x), len(found.ground.places.centre)],
        "gaps, share of places": r(found.ground.gaps.mean()),
        "rule": {key: value if isinstance(value, str) else r(value) for key, value in vars(found.rule).items()},
        "opening": r(found.opening),
        "nats over knowing nothing": {step: r(gain) for step, gain in found.gains.items()},
        "scores": {name: scores(*one, square) for name, one in away.items()},
        "model less nearest": less(*away["model"], away["nearest in genes"][0], square),
        "covered": coverage(found, y[found.rule.view], true, square),
        "coverage told of hidden nodes": r(found.coverage),
        "region, share of tissue": r(np.median(told.region_um2) / found.ground.places.area.sum()),
        "said within 100 µm": r(told.near.mean()),
        "seconds to fit, to place": [r(took), r(seconds)],
    }


def fitted(counts: Any, pos: Floats, asked: Any) -> tuple[Placing, Floats, dict[str, Floats], float]:
    started = time.perf_counter()
    x, y = expression_alike(counts[~asked], counts[asked])
    nodes = Nodes({EXPRESSION: x}, pos[~asked], np.ones(len(x)))
    found = fit_placing(nodes, Places.of_nodes(nodes.pos_um), SEED)
    return found, x, {EXPRESSION: y}, time.perf_counter() - started


def depth(counts: Any) -> Floats:
    return np.asarray(counts.sum(axis=1), np.float64).ravel()


def scores(away: Floats, likely: Floats, square: Rows) -> dict[str, Any]:
    """Return the median distance and the share within 100 µm, each with its interval over squares."""
    return {
        "median µm": over_squares(lambda rows: float(np.median(away[rows])), square),
        "within 100 µm": over_squares(lambda rows: float(np.mean(likely[rows] <= 100)), square),
    }


def less(one: Floats, likely: Floats, other: Floats, square: Rows) -> dict[str, Any]:
    near = (likely <= 100).astype(float) - (other <= 100)
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
    return [r(value(np.arange(len(square)))), *map(r, intervals.interval(np.array(drawn), len(members)))]


def coverage(found: Placing, y: Floats, true: Floats, square: Rows) -> list[float]:
    """Return the share of cells in the region said to hold nine of ten; a cell outside all places is in none."""
    places, inside = found.ground.places, np.zeros(len(y))
    corner = {tuple(one): i for i, one in enumerate(np.round(places.centre / places.side - 0.5).astype(int).tolist())}
    at = np.array([corner.get(tuple(one), -1) for one in (true // places.side).astype(int).tolist()])
    for rows, p in found.ground.blocks(y - placing_fit.platform_shift(found.ground, y)):
        here = p[np.arange(len(p)), at[rows]]
        held = np.where(p >= here[:, None], p, 0.0).sum(axis=1)
        inside[rows] = (held <= found.level) & (at[rows] >= 0)
    return over_squares(lambda rows: float(inside[rows].mean()), square)


def by_platform(
    counts: Any, pos: Floats, asked: Any, model: tuple[Placing, Floats, dict[str, Floats], float]
) -> dict[str, Any]:
    """Return scores where asked cells are mostly of one kind and counted by another platform; see the file's head."""
    found, x, y, _ = model
    kind = KMeans(8, n_init=2, random_state=SEED).fit(x[:, :20]).predict(y[EXPRESSION][:, :20])
    rng = np.random.default_rng(SEED)
    factor = np.exp(EFFECT * rng.standard_normal(counts.shape[1]))
    rows = np.flatnonzero(asked)
    result: dict[str, Any] = {}
    for one in (-1, *np.argsort(-np.bincount(kind))[:2]):
        of, others = np.flatnonzero(kind == one), np.flatnonzero(kind != one)
        some = np.sort(np.r_[of, rng.permutation(others)[: len(of) // 4]]) if len(of) else others
        again = counts[rows[some]].copy()
        again.data = rng.poisson(again.data * factor[again.indices]).astype(np.float32)
        told = expression_alike(counts[~asked], again)[1]
        true, square = pos[rows[some]], square_of(pos)[rows[some]]
        result[f"kind {one}" if len(of) else "all kinds"] = {
            name: scores(*(np.linalg.norm(p - true, axis=1) for p in (place.point, place.likely)), square)
            for name, place in (
                ("model", found.place(told)),
                ("without the shift", unshifted(found, told)),
                ("no platform effect", found.place(y[EXPRESSION][some])),
            )
        }
    return result


def unshifted(found: Placing, x: Floats) -> Placed:
    shift = placing_fit.platform_shift
    placing_fit.platform_shift = lambda ground, x, seed: np.zeros(x.shape[1])  # type: ignore[assignment]
    try:
        return found.place(x)
    finally:
        placing_fit.platform_shift = shift


def genes() -> dict[str, Any]:
    """Return how well genes that nodes lack are told; see the file's head."""
    counts, pos, _ = breast()
    half = stripped(len(pos))
    by_rule: dict[str, list[Floats]] = {}
    bounds, ways = [], []
    for draw in range(DRAWS):
        told = of_genes(counts[~half], counts[half], pos[~half], draw)
        for rule, likeness in told["likeness"].items():
            by_rule.setdefault(rule, []).append(likeness)
        bounds.append(told["within bounds"])
        ways.append(told["way"])
    r_of = {rule: np.concatenate(one) for rule, one in by_rule.items()}
    return {
        "r": {rule: interval(one) for rule, one in r_of.items()},
        "cells less": {rule: interval(r_of["cells"] - one) for rule, one in r_of.items() if rule != "cells"},
        "within bounds": [r(one) for one in bounds],
        "ways": ways,
    }


def of_genes(nodes: Any, cells: Any, pos: Floats, draw: int) -> dict[str, Any]:
    """Return likeness by rule (gene,) of genes told of nodes, of cells and nodes by counts (cell, gene)."""
    order = np.random.default_rng(draw).permutation(nodes.shape[1])
    further, shared = np.sort(order[:HIDDEN]), np.sort(order[HIDDEN:])
    chosen = np.random.default_rng(draw + 100).permutation(shared)
    hidden, rest = np.sort(chosen[: len(shared) // 3]), np.sort(chosen[len(shared) // 3 :])
    choice = choose_way(alike(nodes, cells, pos, rest), *logs(cells, nodes, rest, hidden))
    middle, factor = factor_off(choice.told, logs(cells, nodes, rest, hidden)[1])
    values, measured = logs(cells, nodes, shared, further)
    rules = {"cells": choice.way, "30 nearest": START, "ridge": Way(0.0, SHARPNESS[0], 1.0)}
    told = dict(tell(alike(nodes, cells, pos, shared), values, tuple(dict.fromkeys(rules.values()))))
    off = np.abs(np.log(ratio_of_alike(told[choice.way], measured) / middle))
    return {
        "likeness": {rule: likeness_by_gene(told[way], measured) for rule, way in rules.items()},
        "within bounds": float(np.mean(off <= np.log(factor))),
        "way": [*choice.way],
        "further": further,
        "shared": shared,
        "measured": measured,
    }


def alike(nodes: Any, cells: Any, pos: Floats, columns: Rows) -> Alike:
    return Alike(*expression_alike(nodes[:, columns], cells[:, columns]), pos)


def logs(cells: Any, nodes: Any, by: Rows, columns: Rows) -> tuple[Floats, Floats]:
    """Return log counts of some genes in cells and in nodes (cell, gene), per median count of genes `by`."""
    usual = np.median(depth(nodes[:, by]))
    found = [
        np.log1p(one[:, columns].toarray() * usual / np.maximum(depth(one[:, by]), 1)[:, None])
        for one in (cells, nodes)
    ]
    return found[0], found[1]


def tangram(python: Path) -> dict[str, Any]:
    """Return our scores and Tangram's on the same few cells."""
    counts, pos, _ = breast()
    order = np.random.default_rng(SEED).permutation(len(pos))[: 2 * SMALL]
    counts, pos = counts[order], pos[order]
    asked = np.arange(len(order)) < SMALL
    nodes, cells = counts[~asked], counts[asked]
    result = placed(counts, pos, asked, fitted(counts, pos, asked))
    told = of_genes(nodes, cells, pos[~asked], 0)
    every = np.arange(counts.shape[1])
    point, _ = by_tangram(python, cells, nodes, every, every[:1])
    shared, further = told["shared"], told["further"]
    _, rate = by_tangram(python, cells, nodes, shared, further)
    away = np.linalg.norm(pos[~asked][point] - pos[asked], axis=1)
    likeness = told["likeness"] | {
        "tangram": likeness_by_gene(np.log1p(rate * np.median(depth(nodes))), told["measured"])
    }
    result["scores"]["tangram"] = scores(away, away, square_of(pos)[asked])
    result["genes, r"] = {rule: interval(one) for rule, one in likeness.items()}
    result["genes, cells less tangram"] = interval(likeness["cells"] - likeness["tangram"])
    return result


def by_tangram(python: Path, cells: Any, nodes: Any, shared: Rows, further: Rows) -> tuple[Rows, Floats]:
    """Return the likeliest node of each cell (cell,), and rates of further genes (node, gene)."""
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "in.npz", Path(folder) / "out.npz"
        parts = {"cells": cells[:, shared], "nodes": nodes[:, shared], "further": cells[:, further]}
        np.savez(given, **{name: one.toarray() for name, one in parts.items()})
        asked = "import sys, placing_tangram; placing_tangram.main(*sys.argv[1:])"
        subprocess.run([python, "-c", asked, given, out], check=True, cwd=Path(__file__).parent)
        told = np.load(out)
        return told["node"], told["genes"]


if __name__ == "__main__":
    main()
