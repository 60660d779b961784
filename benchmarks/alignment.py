"""Modalities brought together: of cells that nothing pairs, and by contrast where they are paired.

`cortex`: RNA and chromatin of the same mouse cortex nuclei (Chen 2019, doi:10.1038/s41587-019-0290-0), the pairing kept
from everybody. Asked are how far the true partner lies (FOSCTTM), and what type a nucleus is, told from its chromatin
by nuclei of other libraries that were typed by their RNA. Features shared are genes, by the links of peaks to genes of
the data; beside the true links stand some whose genes are drawn anew (`rewired`: each gene and peak keeps its number of
links) and genes under wrong names (`shuffled`); beside the correspondence stands canonical correlation across cells
alone (randomised SVD of scikit-learn, 20 directions). What is fixed in `operators/correspondence.py` was looked at on
libraries 09A to 09D; figures are of the other eight. Intervals are over libraries.

`bone marrow`: a model of RNA and protein (Luecken 2021, openreview.net/forum?id=gN35BGa1Rt), donor out, both ways, with
and without the `alignment` term: proteins told from RNA, FOSCTTM of the encodings of each modality, and what the gates
let through. Intervals are over the cells of the donor asked.

    AIVC_DATA=… OMP_NUM_THREADS=1 python benchmarks/alignment.py [--only cortex bmmc]
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from result_file import write_result
from scipy import sparse
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.extmath import randomized_svd

from aivc_graph.config import data_folder, load_config
from aivc_graph.evaluation import intervals
from aivc_graph.graph.hiding import hide_observations
from aivc_graph.graph.profiles import scale_counts
from aivc_graph.graph.terms import dense, measured_terms
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.correspondence import correspond
from aivc_graph.pipeline.train import train_config
from aivc_graph.query.predictions import told_by_others
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.training.checkpoint import CLOSED_FORM, load_model
from aivc_graph.training.gates import gates_of
from aivc_graph.training.run_folder import run_metrics

OUT = Path(__file__).parent / "results" / "alignment.json"
Array = np.ndarray[Any, Any]
LOOKED_AT = ("09A", "09B", "09C", "09D")
DIRECTIONS, NEIGHBOURS, DRAWS, CONTROLS, AT_ONCE = 20, 30, 2_000, 2, 500
WEIGHT = 0.1


def main() -> None:
    """Score everybody on everything and write the figures."""
    studies: dict[str, Callable[[], dict[str, Any]]] = {"cortex": cortex, "bmmc": bone_marrow}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=tuple(studies), default=tuple(studies))
    for name in parser.parse_args().only:
        found = studies[name]()
        print(name, json.dumps(found, indent=1), flush=True)
        write_result(OUT, found, part=name)


def cortex() -> dict[str, Any]:
    """Return scores of correspondences by true, rewired and shuffled links, and of canonical correlation alone."""
    folder = data_folder() / "snareseq-mouse-cortex"
    rna, peaks, links = (sparse.load_npz(folder / f"{name}.npz").tocsr() for name in ("GxC1", "RxC1", "GxR"))
    about = pd.read_csv(folder / "meta_c1.csv")
    kept = ~about["Batch"].isin(LOOKED_AT).to_numpy()
    library, label = (np.unique(about[key][kept].astype(str), return_inverse=True)[1] for key in ("Batch", "Ident"))
    rna, peaks = rna.T.tocsr()[kept], peaks.T.tocsr()[kept]
    given, said = logged(rna), {}
    for name, joined in controls(links):
        asked = logged(peaks @ joined.T)
        found = correspond(given, asked, library)
        laid = {"correspondence": (found.given, found.asked), "canonical correlation": across_cells(given, asked)}
        ways = {str(tuple(way)): round(value, 4) for way, value in found.agreement.items()}
        for who, places in laid.items():
            said[f"{who}, {name}"] = by_cell(*places, library, label)
        print(name, found.way, ways, {k: v.mean(axis=0).round(3).tolist() for k, v in said.items()}, flush=True)
        if name == "true":
            chosen = {"way": list(found.way), "agreement": ways}
    common = np.bincount(label).argmax()
    says = np.column_stack([np.full(len(label), 0.5), label == common, weight_of_type(label) * (label == common)])
    return {
        "cells": len(label),
        "libraries": int(library.max() + 1),
        "types": int(label.max() + 1),
        "chosen": chosen,
        "scores": {who: scores(values, library) for who, values in ({"chance": says} | said).items()},
        "better than canonical correlation": scores(
            said["correspondence, true"] - said["canonical correlation, true"], library
        ),
        "true less rewired": scores(said["correspondence, true"] - mean_of(said, "rewired"), library),
        "true less shuffled": scores(said["correspondence, true"] - mean_of(said, "shuffled"), library),
    }


def controls(links: sparse.csr_matrix) -> list[tuple[str, sparse.csr_matrix]]:
    """Return the true links (gene, peak), and some that say nothing."""
    found, end = [("true", links)], links.tocoo()
    for seed in range(CONTROLS):
        rng = np.random.default_rng(seed)
        rewired = sparse.csr_matrix((end.data, (rng.permutation(end.row), end.col)), links.shape)
        found += [(f"rewired {seed}", rewired), (f"shuffled {seed}", links[rng.permutation(links.shape[0])])]
    return found


def logged(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return log1p of counts at the median depth (cell, gene)."""
    counts = sparse.csr_matrix(counts)
    return scale_counts(counts, float(np.median(np.asarray(counts.sum(axis=1)))))


def across_cells(given: sparse.csr_matrix, asked: sparse.csr_matrix) -> tuple[Array, Array]:
    """Return cells of either side on the leading directions that they have in common, of unit length (cell, axis)."""
    x, y = (standard(one) for one in (given, asked))
    (left, s, u), (right, t, v) = (randomized_svd(one, 100, random_state=0) for one in (x, y))
    turn, _, back = np.linalg.svd((s[:, None] * (u @ v.T)) * t)
    return unit(left @ turn[:, :DIRECTIONS]), unit(right @ back[:DIRECTIONS].T)


def standard(values: sparse.csr_matrix) -> Array:
    """Return genes about their mean in units of their spread."""
    values = values.toarray() - np.asarray(values.mean(axis=0))
    spread = values.std(axis=0)
    return np.asarray(values / np.where(spread > 1e-9, spread, np.inf))


def unit(places: Array) -> Array:
    """Return places brought to unit length."""
    return places / np.linalg.norm(places, axis=1, keepdims=True)


def by_cell(given: Array, asked: Array, library: Array, label: Array) -> Array:
    """Return of each cell: FOSCTTM, whether its type was told, and that weighed alike by type (cell, 3)."""
    told = np.zeros(len(label), int)
    for half in (library % 2 == 0, library % 2 == 1):
        near = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(given[~half]).kneighbors(asked[half], return_distance=False)
        votes = np.stack([np.bincount(one, minlength=label.max() + 1) for one in label[~half][near]])
        told[half] = votes.argmax(axis=1)
    right = (told == label).astype(float)
    return np.column_stack([foscttm(given, asked), right, right * weight_of_type(label)])


def weight_of_type(label: Array) -> Array:
    """Return what makes a mean over cells one over types (cell,)."""
    number = np.bincount(label)
    return np.asarray(len(label) / (len(number) * number[label]))


def foscttm(given: Array, asked: Array) -> Array:
    """Return the share of other cells that lie closer than the true partner, the mean of both ways (cell,)."""
    own, found = ((given - asked) ** 2).sum(axis=1), np.zeros(len(given))
    for one, other in ((given, asked), (asked, given)):
        for start in range(0, len(one), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            apart = (one[some] ** 2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one[some] @ other.T
            found[some] += (apart < own[some, None] - 1e-9).sum(axis=1) / (2 * max(len(given) - 1, 1))
    return found


def mean_of(said: dict[str, Array], control: str) -> Array:
    """Return the mean over the draws of a control (cell, 3)."""
    return np.mean([values for who, values in said.items() if who.startswith(f"correspondence, {control}")], axis=0)


def scores(values: Array, unit_of: Array) -> dict[str, list[float]]:
    """Return means with intervals over units that are drawn again."""
    n = unit_of.max() + 1
    sums = np.stack([np.bincount(unit_of, one, n) for one in values.T], axis=1)
    number, rng = np.bincount(unit_of, minlength=n), np.random.default_rng(0)
    drawn = rng.integers(0, n, (DRAWS, n))
    means = sums[drawn].sum(axis=1) / number[drawn].sum(axis=1)[:, None]
    edges = np.array([intervals.interval(column, n) for column in means.T]).T
    names = ("foscttm", "accuracy", "accuracy by type")
    return {
        name: [round(float(x), 4) for x in (values[:, j].mean(), *edges[:, j])]
        for j, name in enumerate(names[: values.shape[1]])
    }


def bone_marrow() -> dict[str, Any]:
    """Return scores of models with and without the alignment of modalities, and what their gates let through."""
    config, found = Path(__file__).parents[1] / "configs" / "bmmc.yaml", {}
    for donor in ("s1d2", "s1d1"):
        said = {}
        for name, weight in (("off", 0.0), ("on", WEIGHT)):
            given = [f"task.split.test=[{donor}]", f"training.objective={{alignment: {weight}}}"]
            with tempfile.TemporaryDirectory() as folder:
                run = Path(folder) / "run"
                train_config(load_config(config, given), None, run, resume=False, device="cpu")
                graph, gates = VirtualTissue.load(run).graph, json.loads((run / "training.json").read_text())["gates"]
                models = {f"alignment {name}": load_model(run), "closed form": load_model(run, CLOSED_FORM)}
                shares = run_metrics(run)["gradient"].dropna().iloc[-1]
            opened = let_through(models[f"alignment {name}"])
            said |= {who: of_test(model, graph) for who, model in models.items()}
            said[f"alignment {name}, gates open"] = of_test(opened, graph)
            found[f"{donor}, alignment {name}: gradient"] = shares
            found[f"{donor}, alignment {name}: gates of encoders"] = {
                part: by for part, by in gates.items() if part.startswith("measurement") and "correction" in part
            }
        everyone = np.arange(len(said["closed form"]))
        of = ("foscttm", "squared error of proteins from RNA")
        found[f"{donor} asked"] = {
            who: dict(zip(of, scores(one, everyone).values(), strict=True)) for who, one in said.items()
        }
        less = said["alignment on"] - said["alignment off"]
        found[f"{donor} asked, on less off"] = dict(zip(of, scores(less, everyone).values(), strict=True))
    return found


def let_through(model: TissueModel) -> TissueModel:
    """Return a copy of a model with every correction let through in full."""
    found = copy.deepcopy(model)
    for gate in gates_of(found).values():
        gate.opening.fill_(1.0)
    return found


def of_test(model: TissueModel, graph: TissueGraph) -> Array:
    """Return FOSCTTM of encodings of RNA and protein, and the squared error of proteins told from RNA (cell, 2)."""
    rows = graph.in_split("cell", "test").numpy()
    inputs = model.prepare(graph)
    with torch.no_grad():
        given, asked = (
            unit(model.part("measurement", "cell", one).encode(inputs.measured("cell", one)).numpy()[rows])
            for one in ("rna", "protein")
        )
    told = told_by_others(model, hide_observations(graph, {("cell", "protein"): rows}), "cell", "protein", rows)
    true = dense(measured_terms(graph, "cell", "protein", rows))
    return np.column_stack([foscttm(given, asked), ((told - true) ** 2).mean(axis=1)])


if __name__ == "__main__":
    main()
