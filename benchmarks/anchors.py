"""Two levels of one tissue through its anchors: what is lost with fewer of them, and with wrong ones.

Xenium cells and Visium spots of neighbouring sections of one tumour (Janesick et al. 2023,
doi:10.1038/s41467-023-43458-x), in blocks held out of training. Spots are told from the cells beneath, cells from the
spot above, and what spots are made of from their own counts; anchors are thinned to a share, or all cells are moved
against the spots. Types of cells are told by a reference of other patients. Cells belong to spots within the reach that
is configured, or by a standard error that is told: of the move, and 50 µm that the two sections differ by. Beside it
the hard nearest join, where a cell belongs to the spot nearest to it. Models are in closed form, but for those that say
how many epochs they were trained, with a term across levels or without.

    python benchmarks/anchors.py --out benchmarks/results/anchors.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from composition import CONFIG
from deconvolution import label_by_markers
from result_file import write_result
from scipy import sparse
from scipy.spatial import cKDTree

from aivc_graph.config import Config, load_config
from aivc_graph.graph.build import build_graph
from aivc_graph.graph.panels import labels, panel, shared_columns, type_shares, types_of
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.gate import EXPRESSION
from aivc_graph.pipeline.build import hold_out, read_section
from aivc_graph.query.composition import measured_shares, predicted_shares
from aivc_graph.query.states import run_windows
from aivc_graph.training.fit import fit

# Standard error [µm] of places that the two sections differ by, untouched.
BETWEEN_SECTIONS_UM = 50.0
BLOCK_UM, BOOTSTRAPS = 400.0, 500
JOIN = "nearest join"
CELL, SPOT = ("cell", "rna"), ("patch", "rna")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/anchors.json"))
    parser.add_argument("--draws", type=int, default=1, help="draws of held-out blocks of 800 µm")
    options = parser.parse_args()
    draws = [Draw.of(seed) for seed in range(options.draws)]
    found: dict[str, Any] = {"draws": len(draws), "intervals": f"over blocks of {BLOCK_UM:g} µm of test tissue"}
    for name, over in conditions().items():
        found[name] = pooled([one.scores(over) for one in draws])
        write_result(options.out, found)  # as far as it is: each takes half a minute of a core
    print(json.dumps(found, indent=1))


def conditions() -> dict[str, list[str]]:
    """Return by name what is done to anchors, as the configuration says it; what tells most comes first."""

    def moved(shift_um: float, told: bool) -> list[str]:
        sigma = np.hypot(BETWEEN_SECTIONS_UM, shift_um / np.sqrt(2))
        soft = ["graph.patch_reach_um=0", f"graph.anchors.sigma_um={sigma:.1f}"]
        return [f"graph.anchors.shift_um={shift_um}", *(soft if told else [])]

    found = {"untouched": moved(0.0, told=False), "untouched, error told": moved(0.0, told=True)}
    for shift in (100.0, 50.0, 25.0):
        found[f"moved {shift:g} µm"] = moved(shift, told=False)
        found[f"moved {shift:g} µm, error told"] = moved(shift, told=True)
        share = {100.0: 0.05, 50.0: 0.2, 25.0: 0.5}[shift]
        found[f"{share:.0%} of anchors"] = [f"graph.anchors.share={share}"]
    found["5 epochs"] = ["training.epochs=5"]
    for term in ("down_up", "up_down", "anchors"):
        found[f"5 epochs, {term}"] = ["training.epochs=5", f"training.objective.{term}=0.1"]
    return found


@dataclass(frozen=True)
class Draw:
    """One draw of held-out blocks: the section, and the graph of untouched anchors, whose compositions are true."""

    section: Any
    config: Config
    seed: int
    untouched: TissueGraph

    @classmethod
    def of(cls, seed: int) -> Draw:
        config = load_config(CONFIG, [f"task.split.seed={seed}"])
        section = read_section(config.task.sections[0])
        label_by_markers(section)
        hold_out([section], config.task)
        return cls(section, config, seed, build_graph([section], config.graph))

    def scores(self, over: list[str]) -> dict[str, Sums]:
        """Return by question and predictor what the test side of a model fitted with changed anchors comes to."""
        config = load_config(
            CONFIG, [f"task.split.seed={self.seed}", *over, "training.epochs=0", "training.device=cpu"]
        )
        graph = build_graph([self.section], config.graph)
        with tempfile.TemporaryDirectory() as folder:
            model = fit(graph, config.model, config.training, Path(folder))
        return score(graph, model, self.untouched, moved_cells(graph, config))


def moved_cells(graph: TissueGraph, config: Config) -> np.ndarray:
    """Return where the anchors take the cells to lie (cell, 2) [µm]."""
    return graph["cell"].pos.numpy() + config.graph.anchors.shift(str(graph.obs("section").index[0]))


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


def pooled(draws: list[dict[str, Sums]]) -> dict[str, Any]:
    """Return each score and its 95 % interval over blocks, and that of its difference from the nearest join."""
    found: dict[str, Any] = {}
    for key in draws[0]:
        question, predictor = key.split(": ")
        one, join = (Sums(np.concatenate([d[k].moments for d in draws])) for k in (key, f"{question}: {JOIN}"))
        rng, n = np.random.default_rng(0), len(one.moments)
        again = rng.integers(0, n, (BOOTSTRAPS, n))
        told = interval(one.value(np.arange(n)), [one.value(b) for b in again]) | {"blocks": n}
        if predictor != JOIN:
            lead = one.value(np.arange(n)) - join.value(np.arange(n))
            told["less nearest join"] = interval(lead, [one.value(b) - join.value(b) for b in again])
        found.setdefault(question, {})[predictor] = told
    return found


def interval(value: float, again: list[float]) -> dict[str, Any]:
    low, high = np.quantile(again, [0.025, 0.975])
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
        found[f"spots from cells, r: {name}"] = moments(graph, "patch", log_shares(values), log_shares(spots.toarray()))
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
        found[f"cells from spots, r: {name}"] = moments(graph, "cell", log_shares(values), log_shares(cells.toarray()))
    truth = measured_shares(model, untouched, "cell", "patch")
    made = {"model": made_of, JOIN: type_shares(join, kind, len(kinds)), "mean": mean_shares(graph, truth)}
    for name, shares in made.items():
        found[f"composition, JSD: {name}"] = errors(graph, shares, truth)
    return found


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
            place = cKDTree(graph["patch"].pos.numpy()[theirs]).query(cells_um[mine])[1]
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
    split = graph["patch"].split.numpy() == graph["patch"].split.numpy()[graph.in_split("patch", "test").numpy()][0]
    places = np.unique(np.floor(graph["patch"].pos.numpy()[split] / BLOCK_UM), axis=0)
    own = np.floor(graph[level].pos.numpy()[asked] / BLOCK_UM)
    return cKDTree(places).query(own)[1]


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
