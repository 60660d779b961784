"""How well a run reads tissue of which only a part of its genes was measured, and learns from such tissue.

A study of known truth (`cohort`, donors held out) and the Xenium breast (blocks held out) are trained on their whole
panel. Then a share of the cells' genes is taken away from the graph, three times at random, and the run is asked about
its test cells (`VirtualTissue.on`):

- own state: how many of each cell's 30 nearest in the state of the whole panel are so again, and the squared error
  over the variance; and, since the nearest of a count are those of its noise too, how many are so in another count of
  the same cells: each molecule goes to one of two halves, one is read without the genes, the other as a whole;
- genes taken away: correlation over test cells of log expression told with what was measured, mean over genes; beside
  it what ridge tells of them from the state that is read, which is all that the decoder has.

Beside it: the projection scaled up, and with zeros for what is missing; ridge from the shared genes to the state and to
the genes taken away, and the mean of the 30 nearest training cells in shared genes, both taught by training cells.
Intervals are over the test sections, or over the test blocks of tissue where there is one section.

Then each section has measured one of four panels, each a share of the genes at random (the Xenium breast is cut into
eight strips for it), and a run trains on all of them together: on the union of genes, or on those that all share.
Asked are the state of test cells, whose nearest are those of all sections, and the genes that their section lacks. The
ceiling is a run that trained on all genes, asked on the same sections. Beside it: components of counts with zeros
for what is missing, those scaled up, and components of counts completed by ridge, or by the 30 nearest cells, from the
genes that all sections share.

    OMP_NUM_THREADS=1 python benchmarks/panels.py --out benchmarks/results/panels.json [--only cohort xenium …]
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import panels_trained
import torch
from first_model_parts import interval
from result_file import write_result
from sklearn.neighbors import NearestNeighbors

from aivc_graph.config import load_config
from aivc_graph.graph.store import read_store
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr, to_torch_csr
from aivc_graph.operators.ridge import ridge
from aivc_graph.pipeline.train import train_config
from aivc_graph.query.predictions import measured_log_expression
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.simulate.simulate import simulate

SHARES, DRAWS, NEAREST, MOST = (0.8, 0.5, 0.3), 3, 30, 3_000
ASKED, TRAINED = ("tiny", "demo", "cohort", "xenium"), {"cohort, trained": "cohort", "xenium, trained": "xenium"}
LEVEL = "cell"
PER = 10_000.0
Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/panels.json"))
    parser.add_argument("--only", nargs="+", choices=(*ASKED, *TRAINED), default=("cohort", "xenium", *TRAINED))
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    for name in options.only:
        found = panels_trained.study(TRAINED[name]) if name in TRAINED else study(name)
        print(name, json.dumps(found, indent=1), flush=True)
        write_result(options.out, found, part=name)


def study(name: str) -> dict[str, Any]:
    """Return the scores of one tissue by the share of genes kept."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = Path("configs/xenium_visium_breast.yaml")
        if name != "xenium":
            path = simulate(name, folder / "tissue", seed=0) / "config.yaml"
        config = load_config(path, ["training.device=cpu"])
        run = train_config(config, None, folder / "run", resume=False, device="cpu").folder
        tissue, graph = VirtualTissue.load(run), read_store(run / "graph.zarr")
    return {str(share): by_share(tissue, graph, share) for share in SHARES}


def by_share(tissue: VirtualTissue, graph: TissueGraph, share: float) -> dict[str, Any]:
    """Return each rule's scores, mean over draws of genes, and the interval over units of ours less each."""
    found: dict[str, dict[str, list[Floats]]] = {}
    for draw in range(DRAWS):
        kept = np.random.default_rng(draw).random(len(tissue.model.plan.counts[LEVEL]["rna"])) < share
        for what, rules in scores(tissue, graph, kept).items():
            for rule, values in rules.items():
                found.setdefault(what, {}).setdefault(rule, []).append(values)
    said: dict[str, Any] = {}
    for what, rules in found.items():
        means = {rule: np.mean(values, axis=0) for rule, values in rules.items()}
        said[what] = {rule: round(float(values.mean()), 4) for rule, values in means.items()}
        for rule in [rule for rule in means if rule != "model"]:
            said[what][f"model minus {rule}"] = interval(means["model"] - means[rule])
    return said


def scores(tissue: VirtualTissue, graph: TissueGraph, kept: np.ndarray) -> dict[str, dict[str, Floats]]:
    """Return by what is asked, and by rule, one score a unit of test tissue (unit,)."""
    model, whole = tissue.model, tissue.graph
    part = model.count_operator(LEVEL, "rna")
    measured = whole[LEVEL]["rna_mask"].numpy()
    test = np.flatnonzero(whole.in_split(LEVEL, "test").numpy() & measured)
    train = np.flatnonzero(whole.in_split(LEVEL, "train").numpy() & measured)
    rng = np.random.default_rng(0)
    test, train = (np.sort(rng.permutation(rows)[:most]) for rows, most in ((test, MOST), (train, 4 * MOST)))
    cut, states, state, x, away = read_by(tissue, graph, kept, train, test)
    loading, section = part.loading.numpy(), whole[LEVEL].section_index.numpy()
    full = measured_log_expression(model, whole, LEVEL)
    to_genes = ridge(x[train][:, kept], away[train][:, ~kept], section[train])
    near = NearestNeighbors(n_neighbors=NEAREST).fit(x[train][:, kept]).kneighbors(x[test][:, kept])[1]
    read = encoded(cut)
    of_state = read[test] @ ridge(read[train], away[train][:, ~kept], section[train])
    told = cut.expression(at=LEVEL).X[test][:, ~kept] * float(part.target_depth) / PER
    genes = {
        "model": np.log1p(told),
        "scaled up": states["scaled up"] @ loading[~kept].T,
        "ridge": x[test][:, kept] @ to_genes,
        "ridge on the state": of_state,
        "nearest": away[train][:, ~kept][near].mean(axis=1),
    }
    units = unit_of(whole, test)
    overlap = {rule: by_unit(shared(values, state[test]), units) for rule, values in states.items()}
    half, rest = halves(graph)
    _, again, _, _, _ = read_by(tissue, half, kept, train, test)
    other = encoded(tissue.on(rest))[test]
    again["whole panel"] = encoded(tissue.on(half))[test]
    recounted = {rule: by_unit(shared(values, other), units) for rule, values in again.items()}
    error = {
        rule: by_unit(((values - state[test]) ** 2).sum(axis=1) / state[test].var(axis=0).sum(), units)
        for rule, values in states.items()
    }
    asked = full[test][:, ~kept]
    r = {rule: np.array([mean_r(values[units == one], asked[units == one]) for one in np.unique(units)])
         for rule, values in genes.items()}  # fmt: skip
    return {
        "neighbours kept": overlap,
        "neighbours of another count": recounted,
        "squared error of the state": error,
        "genes taken away, r": r,
    }


def read_by(
    tissue: VirtualTissue, graph: TissueGraph, kept: np.ndarray, train: np.ndarray, test: np.ndarray
) -> tuple[VirtualTissue, dict[str, Floats], Floats, Floats, Floats]:
    """Return the tissue without some genes, the state of test cells by each rule, and of all cells that of the whole.

    Then of all cells the log expression of genes that were kept and of the whole panel, about section means.
    """
    cut, whole = tissue.on(without_genes(graph, ~kept)), tissue.on(graph)
    part = tissue.model.count_operator(LEVEL, "rna")
    section = graph[LEVEL].section_index.numpy()
    data = [tissue.model.prepare(one.graph).measured(LEVEL, "rna") for one in (whole, cut)]
    state, ours = (encoded(one) for one in (whole, cut))
    loading = part.loading.numpy()
    x = data[1].scaled.forward_csr.to_dense().numpy() - data[1].section_mean.numpy()[section]
    away = measured_log_expression(tissue.model, whole.graph, LEVEL) - data[0].section_mean.numpy()[section]
    to_state = ridge(x[train][:, kept], state[train], section[train])
    near = NearestNeighbors(n_neighbors=NEAREST).fit(x[train][:, kept]).kneighbors(x[test][:, kept])[1]
    zeros = x[test][:, kept] @ loading[kept]
    states = {
        "model": ours[test],
        "scaled up": zeros / kept.mean(),
        "zeros": zeros,
        "ridge": x[test][:, kept] @ to_state,
        "nearest": state[train][near].mean(axis=1),
    }
    return cut, states, state, x, away


def encoded(tissue: VirtualTissue) -> Floats:
    """Return what counts alone say of each cell (cell, latent)."""
    part = tissue.model.count_operator(LEVEL, "rna")
    with torch.no_grad():
        return np.asarray(part.encode(tissue.model.prepare(tissue.graph).measured(LEVEL, "rna")).numpy())


def halves(graph: TissueGraph) -> tuple[TissueGraph, TissueGraph]:
    """Return the graph as if its cells had been counted twice, half as deep: each count goes to either at random."""
    relation = ("gene", "observed_in", LEVEL)
    counts = to_scipy_csr(graph.counts(LEVEL, "rna")).tocsr()
    one = counts.copy()
    one.data = np.random.default_rng(0).binomial(counts.data.astype(np.int64), 0.5).astype(np.float32)
    found = []
    for part in (one, counts - one):
        held = copy.copy(graph)
        held[relation].adj_t = to_torch_csr(part.tocsr().astype(np.float32))
        found.append(held)
    return found[0], found[1]


def without_genes(graph: TissueGraph, gone: np.ndarray) -> TissueGraph:
    """Return the graph as if the cells' panel lacked the genes `gone` (gene of the panel,)."""
    found = copy.copy(graph)
    panel = graph[LEVEL]["rna_panel"].clone()
    lacking = torch.nonzero(panel).ravel()[torch.from_numpy(gone)]
    panel[lacking] = False
    found[LEVEL]["rna_panel"] = panel
    counts = to_scipy_csr(graph.counts(LEVEL, "rna")).tolil()
    counts[:, lacking.numpy()] = 0
    relation = ("gene", "observed_in", LEVEL)
    found[relation].adj_t = to_torch_csr(counts.tocsr().astype(np.float32))
    return found


def unit_of(graph: TissueGraph, rows: np.ndarray) -> np.ndarray:
    """Return what is resampled: the section of each row, or the region of tissue where there is one section."""
    section = graph[LEVEL].section_index.numpy()[rows]
    return section if len(np.unique(section)) > 1 else graph[LEVEL].region_index.numpy()[rows]


def by_unit(values: Floats, units: np.ndarray) -> Floats:
    """Return the mean of each unit (unit,)."""
    return np.array([values[units == one].mean() for one in np.unique(units)])


def shared(one: Floats, other: Floats) -> Floats:
    """Return how much of the nearest nodes in one space are nearest in the other (node,)."""
    a, b = (NearestNeighbors(n_neighbors=NEAREST + 1).fit(x).kneighbors(x)[1][:, 1:] for x in (one, other))
    return np.array([len(np.intersect1d(p, q)) / NEAREST for p, q in zip(a, b, strict=True)])


def mean_r(told: Floats, measured: Floats) -> float:
    """Return the mean over genes of the correlation over nodes; of genes that vary."""
    a, b = (x - x.mean(axis=0) for x in (told, measured))
    varies = (b.std(axis=0) > 0) & (a.std(axis=0) > 0)
    return float(((a * b).sum(axis=0)[varies] / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))[varies]).mean())


if __name__ == "__main__":
    main()
