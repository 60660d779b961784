"""Two levels of one tissue through its anchors: what is lost with fewer of them, and with wrong ones.

Xenium cells and Visium spots of neighbouring sections of one tumour (Janesick et al. 2023,
doi:10.1038/s41467-023-43458-x), in blocks held out of training, and eight simulated donors, two of them held out,
whose places are exact. Spots are told from the cells beneath, cells from the spot above, and what spots are made of
from their own counts; anchors are thinned to a share, or all cells are moved against the spots. Types of the tumour's
cells are told by markers. The standard error of places is left unstated, so that counts tell it,
or taken as none (`σ 0`), or as it is (`σ true`: of the move, and 50 µm that the two sections of the tumour differ by);
or cells belong to spots within the 100 µm that are configured for the tumour (`untouched`, and shares of it). Beside it
the hard nearest join, where a cell belongs to the spot nearest to it, overlap, shares of area, and types of the nearest
spot: of whom these say nothing is as the mean of training. Profiles are judged by the median correlation over genes
(`r`), and by what the counts cost, nats a node, each profile with one part in a hundred of the mean. Intervals of what
is told: how often they hold, their mean width, and the relative standard deviation they are made of. Models are in
closed form, but for those that say how many epochs they were trained, with the three terms across levels or without.

    python benchmarks/anchors.py --out benchmarks/results/anchors.json [--picture anchors.png]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anchors_picture import draw
from markers import label_by_markers
from result_file import write_result
from scipy import sparse, special, stats
from scipy.spatial import cKDTree

from aivc_graph import names
from aivc_graph.config import Config, load_config
from aivc_graph.evaluation import intervals
from aivc_graph.graph.anchors import AnchorConfig
from aivc_graph.graph.build import build_graph
from aivc_graph.graph.panels import labels, panel, shared_columns, type_shares, types_of
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.gate import EXPRESSION
from aivc_graph.pipeline.build import hold_out, read_section
from aivc_graph.query.composition import measured_shares, predicted_shares
from aivc_graph.query.cycles import cycles
from aivc_graph.query.states import run_windows
from aivc_graph.simulate.simulate import simulate
from aivc_graph.training.fit import fit

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "xenium_visium_breast.yaml"
# Standard error [µm] of places that the two sections differ by, untouched.
BETWEEN_SECTIONS_UM = 50.0
BLOCK_UM, BOOTSTRAPS = 400.0, 500
JOIN = "nearest join"
SHARES, SHIFTS = (0.05, 0.2, 0.5), (100.0, 50.0, 25.0, 0.0)
SMOOTHED = 0.01  # of a profile is that of the mean, where counts are judged by it
CELL, SPOT = ("cell", "rna"), ("patch", "rna")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/anchors.json"))
    parser.add_argument("--study", choices=list(STUDIES), action="append", help="one of them; both if not given")
    parser.add_argument("--picture", type=Path, help="where performance is drawn against share and shift")
    options = parser.parse_args()
    found: dict[str, Any] = json.loads(options.out.read_text()) if options.out.is_file() else {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.study or STUDIES:
            study, done = STUDIES[name](Path(folder)), found.setdefault(name, {})
            for condition, over in study.conditions().items():
                if condition not in done:  # as far as an earlier run came: each takes half a minute of a core
                    done[condition] = told_of(study.scores(over))
                    write_result(options.out, done, part=name)
    if options.picture:
        draw({name: done for name, done in found.items() if name in STUDIES and "untouched" in done}, options.picture)
    print(json.dumps(found, indent=1))


@dataclass(frozen=True)
class Study:
    """Sections of one configuration, and the graph of untouched anchors, whose compositions are true.

    `between_um`: standard error of places that are untouched; `reach`: whether cells reach spots from beyond them;
    `trained`: by gradient, with the terms across levels or without.
    """

    path: Path
    sections: list[Any]
    untouched: TissueGraph
    between_um: float
    reach: bool
    trained: bool = False

    def conditions(self) -> dict[str, list[str]]:
        """Return by name what is done to anchors, as the configuration says it; what tells most comes first."""
        if self.trained:
            terms = [f"training.objective.{term}=0.1" for term in ("down_up", "up_down", "anchors")]
            return {"5 epochs": ["training.epochs=5"], "5 epochs, terms": ["training.epochs=5", *terms]}
        exact = ["graph.patch_reach_um=0"] if self.reach else []
        shares = {f"{share:.0%} of anchors": [f"graph.anchors.share={share}"] for share in SHARES}
        moved: dict[str, list[str]] = {}
        for sigma in ("", ", σ 0", ", σ true"):
            for shift in SHIFTS:
                um = np.hypot(self.between_um, shift / np.sqrt(2)) if "true" in sigma else 0.0
                said = [f"graph.anchors.sigma_um={um:.1f}"] if sigma else []
                moved[f"moved {shift:g} µm{sigma}"] = [*exact, f"graph.anchors.shift_um={shift}", *said]
        return {"untouched": [], f"moved {SHIFTS[0]:g} µm": moved[f"moved {SHIFTS[0]:g} µm"]} | shares | moved

    def scores(self, over: list[str]) -> dict[str, Any]:
        """Return by question and predictor what the test side of a model fitted with changed anchors comes to."""
        config = load_config(self.path, ["training.epochs=0", "training.device=cpu", *over])
        graph = build_graph(self.sections, config.graph)
        with tempfile.TemporaryDirectory() as folder:
            model = fit(graph, config.model, config.training, Path(folder))
        test = {level: graph.in_split(level, "test").numpy() for level in graph.levels}
        sigma = graph.obs("section").get("anchor_sigma_um")
        return score(graph, model, self.untouched, moved_cells(graph, config)) | {
            "cycles, noise units": cycles(model, graph, test),
            "interval of cells": coverage(model, graph, CELL),
            "interval of spots": coverage(model, graph, SPOT),
            "σ": 0.0 if sigma is None else [round(float(sigma.min()), 1), round(float(sigma.max()), 1)],
        }


def tumour(_: Path) -> Study:
    """Return the tumour, its cells labelled by a reference."""
    config = load_config(CONFIG)
    section = read_section(config.task.sections[0])
    label_by_markers(section)
    hold_out([section], config.task)
    untouched = build_graph([section], config.graph)
    return Study(CONFIG, [section], untouched, BETWEEN_SECTIONS_UM, reach=True)


def simulated(folder: Path) -> Study:
    """Return one section of each of the donors of the simulated cohort."""
    simulate("cohort", folder / "cohort")
    path = folder / "cohort" / "config.yaml"
    config = load_config(path)
    sections = [read_section(one) for one in config.task.sections if "adjacent" not in one.name]
    hold_out(sections, config.task)
    graph = config.graph.model_copy(update={"anchors": AnchorConfig(sigma_um=0.0)})
    return Study(path, sections, build_graph(sections, graph), 0.0, reach=False)


def trained(folder: Path) -> Study:
    """Return the simulated cohort, to be trained by gradient."""
    return replace(simulated(folder / "trained"), trained=True)


STUDIES = {"simulated cohort": simulated, "xenium-visium-breast": tumour, "simulated cohort, trained": trained}


def moved_cells(graph: TissueGraph, config: Config) -> np.ndarray:
    """Return where the anchors take the cells to lie (cell, 2) [µm], sections apart."""
    shifts = np.array([config.graph.anchors.shift(str(name)) for name in graph.obs("section").index])
    return placed(graph, "cell") + shifts[graph["cell"].section_index.numpy()]


def placed(graph: TissueGraph, level: str) -> np.ndarray:
    """Return where the nodes of a level lie (node, 2) [µm], each section far from the others."""
    return graph[level].pos.double().numpy() + 1e6 * graph[level].section_index.numpy()[:, None] * [1.0, 0.0]


def coverage(model: TissueModel, graph: TissueGraph, key: tuple[str, str]) -> dict[str, Any]:
    """Return how often 95 % intervals of test nodes hold their counts, and the mean log ratio of their ends.

    Ends below a thousandth are taken as that: where rates scatter by more than twice themselves, as those of single
    cells do, the ratio no longer grows with the scatter, and the relative standard deviation does. Of counts, whose
    distribution function jumps, by a place drawn in the jump.
    """
    part = next(one for one in model.parts_of("prediction") if one.target == key and one.columns)
    if not np.isfinite(scatter := part.scatter.double().numpy()).all():
        return {"coverage": None, "width": None, "relative sd": None}
    columns = list(part.columns)
    counts = counts_of(graph, key, columns).toarray()
    asked = graph.in_split(key[0], "test").numpy() & graph[key[0]].rna_mask.numpy() & beneath(graph, key[0])
    shares = told(model, graph, key)[asked][:, columns]
    n = counts[asked].sum(axis=1, keepdims=True)
    mean, shape = np.maximum(n * shares / shares.sum(axis=1, keepdims=True), 1e-9), 1 / scatter
    law = stats.nbinom(shape, shape / (shape + mean))
    place = np.random.default_rng(0).random(mean.shape)
    at = law.cdf(counts[asked] - 1) + place * law.pmf(counts[asked])
    low, high = (special.gammaincinv(shape, q) for q in (0.025, 0.975))
    width = np.log(np.maximum(high, 1e-3) / np.maximum(low, 1e-3)).mean()
    coverage = float(((at > 0.025) & (at < 0.975)).mean())
    spread = float(np.sqrt(scatter).mean())
    return {"coverage": round(coverage, 4), "width": round(float(width), 3), "relative sd": round(spread, 3)}


def beneath(graph: TissueGraph, level: str) -> np.ndarray:
    """Return which nodes of a level have another above or beneath them (node,)."""
    within = overlap(graph)
    return np.asarray(within.sum(axis=1 if level == "patch" else 0)).ravel() > 0


@dataclass(frozen=True)
class Sums:
    """Sums over the nodes of each block of test tissue, from which a score of any blocks follows.

    `moments` (block, 6, gene): number, x, y, xx, yy, xy of predicted x and measured y; or (block, 2, 1): number and sum
    of an error.
    """

    moments: np.ndarray

    def value(self, blocks: np.ndarray) -> float:
        """Return the median correlation over genes, or the mean error, of some blocks."""
        n, *sums = self.moments[blocks].sum(axis=0)
        if len(sums) == 1:
            return float((sums[0] / n)[0])
        x, y, xx, yy, xy = (one / n for one in sums)
        spread = np.sqrt(np.maximum(xx - x**2, 0) * np.maximum(yy - y**2, 0))
        r = np.where(spread > 1e-12, (xy - x * y) / np.maximum(spread, 1e-12), 0.0)
        return float(np.median(r[yy - y**2 > 1e-12]))


def told_of(scores: dict[str, Any]) -> dict[str, Any]:
    """Return each score and its 95 % interval over blocks, and that of the model less each other."""
    found: dict[str, Any] = {key: value for key, value in scores.items() if not isinstance(value, Sums)}
    for key in scores.keys() - found.keys():
        question, predictor = key.split(": ")
        one, model = scores[key], scores[f"{question}: model"]
        rng, n = np.random.default_rng(0), len(one.moments)
        again = rng.integers(0, n, (BOOTSTRAPS, n))
        drawn = np.array([one.value(b) for b in again])
        told = interval(one.value(np.arange(n)), drawn, n) | {"blocks": n}
        if predictor != "model":
            lead = model.value(np.arange(n)) - one.value(np.arange(n))
            told["model less this"] = interval(lead, np.array([model.value(b) for b in again]) - drawn, n)
        found.setdefault(question, {})[predictor] = told
    return {key: found[key] for key in sorted(found)}


def interval(value: float, again: np.ndarray, n: int) -> dict[str, Any]:
    low, high = intervals.interval(again, n)
    return {"value": round(value, 4), "lower": round(float(low), 4), "upper": round(float(high), 4)}


def score(graph: TissueGraph, model: TissueModel, untouched: TissueGraph, cells_um: np.ndarray) -> dict[str, Sums]:
    """Score what a model says of test spots and cells, beside the rules."""
    own, shared = shared_columns(panel(graph, *CELL), panel(graph, *SPOT))
    cells, spots = counts_of(graph, CELL, own), counts_of(graph, SPOT, shared)
    join, within = nearest(graph, cells_um), overlap(graph)
    found: dict[str, Sums] = {}
    up = {
        "model": told(model, graph, SPOT)[:, shared],
        "overlap": np.asarray((within @ cells).todense()),
        JOIN: np.asarray((join @ cells).todense()),
    }
    for name, values in up.items():
        found |= profiles_judged(graph, "patch", "spots from cells", name, values, spots.toarray())
    kinds = labels(graph, "cell")
    kind = types_of(graph, "cell", kinds)
    profiles = type_profiles(graph, cells, kind, len(kinds))
    made_of = predicted_shares(model, graph, "cell", "patch")
    above = row_mean(join.T.tocsr())
    down = {
        "model": told(model, graph, CELL)[:, own],
        "area share": row_mean(within.T.tocsr()) @ spots.toarray(),
        "types of the spot": above @ made_of @ profiles,
        "its own type, known": np.where(kind[:, None] >= 0, profiles[kind], profiles.mean(axis=0)),
        JOIN: above @ spots.toarray(),
    }
    for name, values in down.items():
        found |= profiles_judged(graph, "cell", "cells from spots", name, values, cells.toarray())
    truth = measured_shares(model, untouched, "cell", "patch")
    made = {"model": made_of, JOIN: type_shares(join, kind, len(kinds)), "mean": mean_shares(graph, truth)}
    for name, shares in made.items():
        found[f"composition, JSD: {name}"] = errors(graph, shares, truth)
    return found


def profiles_judged(
    graph: TissueGraph, level: str, question: str, name: str, values: np.ndarray, counts: np.ndarray
) -> dict[str, Sums]:
    """Return by what is told of profiles (node, molecule) both scores of them; nothing told is the mean of training."""
    train = graph.in_split(level, names.TRAIN).numpy() & graph[level].rna_mask.numpy()
    mean = counts[train].sum(axis=0) / counts[train].sum()
    total = values.sum(axis=1, keepdims=True)
    shares = np.where(total > 0, values / np.maximum(total, 1e-12), mean)
    costs = -(counts * np.log((1 - SMOOTHED) * shares + SMOOTHED * mean + 1e-12)).sum(axis=1, keepdims=True)
    asked = graph.in_split(level, "test").numpy() & graph[level].rna_mask.numpy()
    sums = Sums(summed(blocks_of(graph, level, asked), [np.ones_like(costs[asked]), costs[asked]]))
    r = moments(graph, level, log_shares(shares), log_shares(counts))
    return {f"{question}, r: {name}": r, f"{question}, nats: {name}": sums}


def told(model: TissueModel, graph: TissueGraph, key: tuple[str, str]) -> np.ndarray:
    """Return expected shares (node, molecule) of a level none of whose counts are seen."""
    level, out = key[0], np.zeros((int(graph[key[0]].num_nodes), len(panel(graph, *key))))
    for inputs, state, core, rows in run_windows(model, graph, (key,), question=EXPRESSION):
        with torch.no_grad():
            shares = model.expression(state, inputs, level)
        out[rows[level][core[level]].numpy()] = shares[core[level]].numpy()
    return out


def counts_of(graph: TissueGraph, key: tuple[str, str], columns: list[int]) -> sparse.csr_matrix:
    there = np.flatnonzero(graph[key[0]].rna_panel.numpy())[columns]
    return to_scipy_csr(graph.counts(*key))[:, there]


def overlap(graph: TissueGraph) -> sparse.csr_matrix:
    return to_scipy_csr(graph["cell", "within", "patch"].adj_t)


def nearest(graph: TissueGraph, cells_um: np.ndarray) -> sparse.csr_matrix:
    """Return (spot, cell): one where the spot is the one nearest to a cell, of those of its side of the split."""
    split = [graph[level].split.numpy() for level in ("cell", "patch")]
    out = sparse.lil_matrix((int(graph["patch"].num_nodes), len(cells_um)))
    for side in np.unique(split[0]):
        mine, theirs = np.flatnonzero(split[0] == side), np.flatnonzero(split[1] == side)
        if len(theirs):
            place = cKDTree(placed(graph, "patch")[theirs]).query(cells_um[mine])[1]
            out[theirs[place], mine] = 1.0
    return out.tocsr()


def type_profiles(graph: TissueGraph, cells: sparse.csr_matrix, kind: np.ndarray, n: int) -> np.ndarray:
    """Return the mean counts of a training cell of each type (type, gene)."""
    train = graph.in_split("cell", "train").numpy() & (kind >= 0)
    onehot = sparse.csr_matrix((np.ones(train.sum()), (kind[train], np.flatnonzero(train))), (n, len(kind)))
    return row_mean(onehot) @ cells.toarray()


def mean_shares(graph: TissueGraph, shares: np.ndarray) -> np.ndarray:
    known = graph.in_split("patch", "train").numpy() & (shares.sum(axis=1) > 0)
    return np.broadcast_to(shares[known].mean(axis=0), shares.shape)


def row_mean(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    total = np.asarray(matrix.sum(axis=1)).ravel()
    return sparse.diags(1.0 / np.maximum(total, 1e-12)) @ matrix


def log_shares(values: np.ndarray) -> np.ndarray:
    return np.log1p(100 * values / np.maximum(values.sum(axis=1, keepdims=True), 1e-12))


def blocks_of(graph: TissueGraph, level: str, asked: np.ndarray) -> np.ndarray:
    """Return the block of tissue that each of the nodes `asked` lies in, numbered alike at both levels."""
    test = graph.in_split("patch", "test").numpy()
    places = np.unique(np.floor(placed(graph, "patch")[test] / BLOCK_UM), axis=0)
    return cKDTree(places).query(np.floor(placed(graph, level)[asked] / BLOCK_UM))[1]


def moments(graph: TissueGraph, level: str, x: np.ndarray, y: np.ndarray) -> Sums:
    asked = graph.in_split(level, "test").numpy() & graph[level].rna_mask.numpy()
    x, y, block = x[asked], y[asked], blocks_of(graph, level, asked)
    return Sums(summed(block, [np.ones_like(x), x, y, x**2, y**2, x * y]))


def errors(graph: TissueGraph, shares: np.ndarray, truth: np.ndarray) -> Sums:
    """Return the Jensen–Shannon divergence [bit] of compositions from the truth; all of it where nothing is said."""
    asked = graph.in_split("patch", "test").numpy() & (truth.sum(axis=1) > 0)
    p, q = shares[asked], truth[asked]
    entropy = [-(s * np.log2(np.maximum(s, 1e-12))).sum(axis=1) for s in ((p + q) / 2, p, q)]
    error = np.where(p.sum(axis=1) > 0, entropy[0] - (entropy[1] + entropy[2]) / 2, 1.0)[:, None]
    return Sums(summed(blocks_of(graph, "patch", asked), [np.ones_like(error), error]))


def summed(block: np.ndarray, values: list[np.ndarray]) -> np.ndarray:
    chooser = sparse.csr_matrix((np.ones(len(block)), (block, np.arange(len(block)))))
    return np.stack([chooser @ one for one in values], axis=1)


if __name__ == "__main__":
    main()
