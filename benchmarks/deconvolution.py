"""What spots are made of, told by dissociated, labelled cells of other tissue, against known truth.

Five sets, each with a reference from outside the tissue that is asked:

- ``xenium_visium``: Visium spots of a breast tumour (Janesick et al. 2023, doi:10.1038/s41467-023-43458-x), cells of
  another patient (Wu et al. 2021, doi:10.1038/s41588-021-00911-1); truth: the Xenium cells of the neighbouring section
  beneath, typed by the markers below. The sections differ and lie tens of microns apart: no method can reach it. How
  well it is known itself stands in ``truth``, see `deconvolution_truth`, by how far places may be wrong: by nothing, by
  40 µm, and by the 80 µm that counts tell.
- ``merfish``: windows of 100 µm over MERFISH cells of the mouse preoptic area (Moffitt et al. 2018,
  doi:10.1126/science.aau5324), reference dissociated cells of the hypothalamus (the pair of Cable et al. 2022).
- ``simulated``: spots of seven simulated donors, reference the cells of the eighth.
- ``hippocampus``, ``cerebellum``: spots put together of cells of the references of Cable et al. 2022,
  doi:10.1038/s41587-021-00830-w, which are not in the reference, seen by a platform that catches genes unevenly.

Truth is the share of cells, and looked at for scores alone; ``mean_shares`` are those told and the true ones, over all
spots. ``cells``: where it is known how many cells each spot holds, their number in every second one told from that in
the others, beside molecules in proportion. Baselines of the same run: the composition of the reference for every spot
(``constant``); non-negative least squares on mean profiles (``nnls``), on mean counts (``nnls cells``), and on profiles
scaled by the ratio of all spots to their fit (``nnls platform``, and with ours of molecules a cell, ``… cells``).

    python benchmarks/deconvolution.py --out benchmarks/results/deconvolution.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from deconvolution_truth import circles, doubted
from markers import MARKERS, label_by_markers
from result_file import write_result
from scipy import sparse

from aivc_graph.config import load_config
from aivc_graph.evaluation import intervals
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.panels import type_shares, types_of
from aivc_graph.graph.tissue_graph import to_scipy_csr
from aivc_graph.graph.windows import windows
from aivc_graph.model.plan import ModelPlan
from aivc_graph.model.settings import ModelConfig
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.composition.composition import non_negative
from aivc_graph.operators.composition.reference_fit import OPENINGS
from aivc_graph.operators.composition.reference_material import gather
from aivc_graph.operators.composition.reference_width import CONTENT_SHARE
from aivc_graph.operators.part import Fitting
from aivc_graph.pipeline.build import read_section
from aivc_graph.query.answers import node_table
from aivc_graph.query.composition import cells_of_patches, told_by_reference
from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.section import add_cells, add_level, add_observation, new_section

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("AIVC_DATA", "../shared/data"))
Floats = np.ndarray
BOOTSTRAPS = 500
# Radius of a spot of Visium [µm].
SPOT_UM = 27.5
# A type is there where it has so much of a spot.
PRESENT = 0.02
# How far places of neighbouring sections may be wrong [µm].
SIGMAS_UM = (0.0, 40.0, 80.0)
EPITHELIAL = {"Cancer Epithelial": "Epithelial", "Normal Epithelial": "Epithelial"}
# Words of the tissue, then of the reference, to common ones; cells that either calls unclear are left out.
HYPOTHALAMUS = {
    "Astrocyte": "Astrocytes",
    **{f"Endothelial {i}": "Endothelial" for i in (1, 2, 3)},
    **{f"OD Mature {i}": "Mature OD" for i in (1, 2, 3, 4)},
    **{f"OD Immature {i}": "Immature OD" for i in (1, 2)},
    "Pericytes": "Mural",
    "Immature oligodendrocyte": "Immature OD",
    "Newly formed oligodendrocyte": "Mature OD",
    "Mature oligodendrocyte": "Mature OD",
}
UNCLEAR = ("Ambiguous", "Unstable")


@dataclass(frozen=True)
class Case:
    """Sections with spots, and a dissociated one; true shares by ``section:barcode``; what is drawn anew together.

    `number` of cells by ``section:barcode``, if it is known; `held`, if the truth has an error of its own, what each
    row of it may have held instead (row, type, draw), by what is supposed.
    """

    sections: list[Any]
    truth: pd.DataFrame
    unit: Callable[[pd.DataFrame], Any]
    number: pd.Series | None = None
    held: dict[str, Floats] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/deconvolution.json"))
    parser.add_argument("--sets", nargs="+", default=list(CASES), choices=list(CASES))
    options = parser.parse_args()
    for name in options.sets:
        found = judge(CASES[name](), baselines)
        write_result(options.out, found, part=name)
        print(name, json.dumps(found, indent=1), flush=True)


def judge(case: Case, others: Callable[[Floats, Floats, Floats, int], dict[str, Floats]]) -> dict[str, Any]:
    """Fit, answer, and score against the truth, beside what `others` say of the same counts and cells."""
    graph = build_graph(case.sections, GraphConfig(edges={"patch": {"kind": "knn", "k": 6}}))
    model = TissueModel(ModelPlan.of(graph, ModelConfig(latent=4, rings=(6,)))).eval()
    for one in model.parts_of("measurement"):
        one.begin(graph)
    part, nobody = model.part("composition", "cell", "patch"), np.full(len(case.sections), -1)
    part.fit(Fitting(model, [], [], np.random.default_rng(0), 0, graph, 40_000, nobody))
    told = told_by_reference(model, graph, "cell", "patch")
    obs, types = node_table(graph, "patch"), list(part.plan.types)
    rows = np.flatnonzero(obs.index.isin(case.truth.index) & (told.shares.sum(dim=1) > 0).numpy())
    true = case.truth.reindex(obs.index[rows], columns=types).fillna(0.0).to_numpy()
    material = gather(windows(graph, model.steps, 10**7), part.plan, len(part.genes))
    counts, answers = material.patches.double().numpy(), {"model": told.shares.double().numpy()[rows]}
    cells, kind = material.cells.double().numpy(), material.kind
    kept = np.flatnonzero(np.asarray(graph["patch"].rna_mask.numpy(), bool))
    place = pd.Series(np.arange(len(kept)), kept).reindex(rows).to_numpy()
    answers |= {name: each[place] for name, each in others(counts, cells, kind, len(types)).items()}
    lower, upper = (part.double().numpy()[rows] for part in (told.lower, told.upper))
    inside = (lower <= true + 1e-6) & (true <= upper + 1e-6)
    found: dict[str, Any] = {"spots": len(rows), "genes": counts.shape[1], "types": types}
    found |= {"opened": OPENINGS[int(part.opened)], "neighbours": round(float(part.neighbour_share), 2)}
    found["coverage_90"] = round(float(inside.mean()), 3)
    found["coverage_90_present"] = round(float(inside[true > PRESENT].mean()), 3)
    if case.held:
        row, kinds = case.truth.index.get_indexer(obs.index[rows]), case.truth.columns.get_indexer(types)
        of_each = {name: held[row][:, kinds] for name, held in case.held.items()}
        found["truth"] = {name: doubted(lower, answers["model"], upper, true, held) for name, held in of_each.items()}
    if case.number is not None:
        molecules = pd.Series(counts.sum(axis=1), kept).reindex(rows).to_numpy()
        number = case.number.reindex(obs.index[rows]).to_numpy(np.float64)
        amount = {"model": told.amount.double().numpy()[rows], "molecules": molecules}
        found["cells"] = {name: number_scores(each, number) for name, each in amount.items()}
    found["mean_interval"] = round(float((upper - lower).mean()), 3)
    found["mean_shares"] = {
        name: [round(float(told_of), 3), round(float(true_of), 3)]
        for name, told_of, true_of in zip(types, answers["model"].mean(axis=0), true.mean(axis=0), strict=True)
    }
    found["by_predictor"] = {name: scores(each, true) for name, each in answers.items()}
    unit = np.unique(np.asarray(case.unit(obs.iloc[rows]), str), return_inverse=True)[1]
    found["rmse_model_less"] = {
        name: difference(answers["model"], each, true, unit) for name, each in answers.items() if name != "model"
    }
    return found


def baselines(counts: Floats, cells: Floats, kind: Floats, n: int) -> dict[str, Floats]:
    """Return the shares of each baseline (spot, type)."""
    mean = np.stack([cells[kind == one].mean(axis=0) for one in range(n)])
    profiles = mean / mean.sum(axis=1, keepdims=True)
    plain = non_negative(counts, profiles)
    ratio = (counts.sum(axis=0) + 1) / (plain.sum(axis=0) @ profiles + 1)
    found = {
        "constant": np.tile(np.bincount(kind, minlength=n), (len(counts), 1)),
        "nnls": plain,
        "nnls cells": non_negative(counts, mean),
        "nnls platform": non_negative(counts, profiles * ratio),
    }
    content = mean.sum(axis=1) ** CONTENT_SHARE
    found["nnls platform cells"] = found["nnls platform"] / np.where(content > 0, content, 1.0)
    return {name: each / np.maximum(each.sum(axis=1, keepdims=True), 1e-12) for name, each in found.items()}


def number_scores(amount: Floats, number: Floats) -> dict[str, float]:
    """Return RMSE, correlation and coverage of cells in every second spot, told by the number in the others."""
    hidden = np.arange(len(number)) % 2 == 1
    told = cells_of_patches(amount, np.where(hidden, np.nan, number)).to_numpy()[hidden].T
    true = number[hidden]
    return {
        "rmse": round(float(np.sqrt(((told[0] - true) ** 2).mean())), 2),
        "rmse_constant": round(float(np.sqrt(((number[~hidden].mean() - true) ** 2).mean())), 2),
        "pcc": round(float(np.corrcoef(told[0], true)[0, 1]), 3),
        "coverage_90": round(float(((told[1] <= true) & (true <= told[2])).mean()), 3),
    }


def scores(told: Floats, true: Floats) -> dict[str, float]:
    """Return RMSE, mean Jensen–Shannon distance [bit^½], and the mean over types of their correlation over spots."""

    def entropy(shares: Floats) -> Floats:
        return -(shares * np.log2(np.maximum(shares, 1e-12))).sum(axis=1)

    distance = np.maximum(entropy((told + true) / 2) - (entropy(told) + entropy(true)) / 2, 0.0)
    varied = np.flatnonzero((true.std(axis=0) > 1e-3) & (told.std(axis=0) > 1e-9))
    pcc = [float(np.corrcoef(told[:, one], true[:, one])[0, 1]) for one in varied]
    rmse = float(np.sqrt(((told - true) ** 2).mean()))
    return {
        "rmse": round(rmse, 4),
        "jsd": round(float(np.sqrt(distance).mean()), 4),
        "pcc": round(float(np.mean(pcc)), 3) if pcc else 0.0,
    }


def difference(one: Floats, other: Floats, true: Floats, unit: Floats) -> list[float]:
    """Return the difference of two RMSEs with its 95 % interval over units drawn with replacement."""
    squares = np.stack([np.bincount(unit, ((each - true) ** 2).mean(axis=1)) for each in (one, other)])
    number, random = np.bincount(unit), np.random.default_rng(0)

    def between(drawn: Floats) -> float:
        first, second = np.sqrt(squares[:, drawn].sum(axis=1) / number[drawn].sum())
        return float(first - second)

    drawn = np.array([between(random.integers(0, len(number), len(number))) for _ in range(BOOTSTRAPS)])
    ends = intervals.interval(drawn, len(number))
    return [round(float(v), 4) for v in (between(np.arange(len(number))), *ends)]


def reference_section(counts: Floats, labels: Any, genes: list[str]) -> Any:
    """Return dissociated cells with their labels as a section."""
    section, barcodes = new_section("reference", donor="reference"), [f"r{i}" for i in range(len(labels))]
    add_cells(section, barcodes, pd.DataFrame({"label": np.asarray(labels, str)}, index=barcodes))
    add_observation(section, "cell", "rna", _table(counts, barcodes, genes))
    return section


def spot_section(name: str, counts: Floats, pos_um: Floats, genes: list[str], radius: float) -> Any:
    """Return spots as a section."""
    section, barcodes = new_section(name, donor=name), [f"p{i}" for i in range(len(counts))]
    add_level(section, "patch", barcodes, pos_um, radius, scale_affine(1.0), pd.DataFrame(index=range(len(counts))))
    add_observation(section, "patch", "rna", _table(counts, barcodes, genes))
    return section


def _table(counts: Floats, barcodes: list[str], genes: list[str]) -> Any:
    table = ad.AnnData(sparse.csr_matrix(np.asarray(counts, np.float32)))
    table.obs_names, table.var_names = barcodes, genes
    return table


def _block(obs: pd.DataFrame) -> Any:
    """Return the block of 400 µm that each spot lies in."""
    return [f"{x:.0f} {y:.0f}" for x, y in np.floor(obs[["x_um", "y_um"]] / 400).to_numpy()]


def xenium_visium() -> Case:
    """Visium spots; truth from the Xenium cells beneath, typed by markers of their clusters."""
    config = load_config(ROOT / "configs" / "xenium_visium_breast.yaml", [])
    section = read_section(config.task.sections[0])
    label_by_markers(section)
    graph = build_graph([section], GraphConfig(patch_reach_um=100))
    types = tuple(MARKERS)
    beneath, kind = to_scipy_csr(graph["cell", "within", "patch"].adj_t), types_of(graph, "cell", types)
    shares = type_shares(beneath, kind, len(types))
    truth = pd.DataFrame(shares, graph.obs("patch").index, list(types))
    truth["number"] = np.asarray(beneath.sum(axis=1)).ravel()
    reference = ad.read_h5ad(DATA / "scrna-breast-wu" / "wu_CID4465.h5ad")
    spots = section.tables["patch_rna"]
    shared = spots.var_names.intersection(reference.var_names)
    labels = reference.obs["celltype_major"].astype(str).replace(EPITHELIAL)
    place = node_table(graph, "patch").set_index("barcode").loc[spots.obs["barcode"].astype(str)]
    made = spot_section(
        "breast_rep1", spots[:, shared].X.toarray(), place[["x_um", "y_um"]].to_numpy(), list(shared), SPOT_UM
    )
    truth = truth.reindex([f"breast_rep1:{one}" for one in spots.obs["barcode"]])
    truth.index = [f"breast_rep1:p{i}" for i in range(len(truth))]
    cells = reference_section(reference[:, shared].X.toarray(), labels, list(shared))
    known = truth[list(types)].sum(axis=1).to_numpy() > 0.5
    cells_um, spots_um = (node_table(graph, "cell")[["x_um", "y_um"]].to_numpy(), place[["x_um", "y_um"]].to_numpy())
    held = {
        f"{sigma:.0f} µm": circles(cells_um, kind, spots_um[known], SPOT_UM, sigma, len(types)) for sigma in SIGMAS_UM
    }
    truth = truth[known]
    return Case([made, cells], truth[list(types)], _block, truth["number"], held)


def merfish() -> Case:
    """Windows of 100 µm with five clear cells or more; counts are volumes undone: the least value of a cell is one."""
    tissue = ad.read_h5ad(DATA / "merfish-mouse-poa" / "merfish_mousePOA.h5ad")
    counts, labels = _rctd_reference("Merfish_Ref")
    genes = [gene for gene in counts if gene in tissue.var_names]
    values = sparse.csr_matrix(tissue[:, genes].X).toarray()
    least = np.where(values > 0, values, np.inf).min(axis=1, keepdims=True)
    kind = tissue.obs["celltype"].astype(str).replace(HYPOTHALAMUS).to_numpy()
    clear = ~np.isin(kind, UNCLEAR)
    seen, kind = np.rint(np.where(np.isfinite(least), values / least, 0.0))[clear], kind[clear]
    step = np.floor(np.asarray(tissue.obsm["spatial"])[clear] / 100).astype(int)
    window, home, number = np.unique(step, axis=0, return_inverse=True, return_counts=True)
    pooled = np.stack([seen[home.ravel() == one].sum(axis=0) for one in range(len(window))])
    truth = pd.crosstab(home.ravel(), kind, normalize="index")
    kept = np.flatnonzero(number >= 5)
    truth = truth.loc[kept].set_axis([f"poa:p{i}" for i in range(len(kept))])
    told = ~np.isin(labels, UNCLEAR)
    cells = reference_section(counts[genes].to_numpy()[told], labels[told], genes)
    spots = spot_section("poa", pooled[kept], 100.0 * window[kept] + 50, genes, 50.0)
    return Case([spots, cells], truth, _block, pd.Series(number[kept], truth.index))


def _rctd_reference(name: str) -> tuple[pd.DataFrame, Floats]:
    """Return counts (cell, gene) and labels of a reference, words of the hypothalamus made common."""
    folder = DATA / "rctd-pairs" / "Reference" / name
    if name == "Vignette":
        counts, facts = (
            pd.read_csv(folder / "dge.csv", index_col=0).T,
            pd.read_csv(folder / "meta_data.csv", index_col=0),
        )
        words = pd.read_csv(folder / "cell_type_dict.csv", index_col=0)["Name"]
        labels = facts["cluster"].map(words).reindex(counts.index)
    else:
        counts = pd.read_csv(folder / "counts.csv", index_col=0).T
        labels = pd.read_csv(folder / "cell_types.csv", index_col=0).iloc[:, 0].reindex(counts.index)
    return counts, labels.astype(str).replace(HYPOTHALAMUS).to_numpy()


def simulated(seed: int = 0) -> Case:
    """Spots of seven simulated donors; the cells of the eighth are the reference."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "cohort"
        words = ["simulate", "cohort", "--seed", str(seed), "--out", str(out)]
        subprocess.run([sys.executable, "-m", "aivc_graph", *words], check=True)
        config = load_config(out / "config.yaml", [])
        spots, truths, cells = [], [], None
        for entry in config.task.sections:
            if entry.donor == "D1" and cells is not None:
                continue
            section = read_section(entry)
            if entry.donor == "D1":
                table = section.tables["cell_rna"]
                label = section.shapes["cell"]["label"].reindex(table.obs["barcode"]).astype(str)
                cells = reference_section(table.X.toarray(), label, list(table.var_names))
                continue
            del section.tables["cell_rna"], section.shapes["cell"]
            truth = pd.read_parquet(out / "truth" / entry.name / "spots.parquet").set_index("barcode")
            shares = truth[[one for one in truth if one.startswith("share_")]]
            shares.columns = [one.removeprefix("share_") for one in shares]
            truths.append(shares[shares.sum(axis=1) > 0.5].set_axis([f"{entry.name}:{one}" for one in shares.index]))
            spots.append(section)
    return Case([*spots, cells], pd.concat(truths), lambda obs: obs["section"])


def made_of(name: str, seed: int = 0) -> Case:
    """Spots of 2 to 10 cells that are not in the reference; a gene is caught e^N(0, 0.5²) times as well."""
    counts, labels = _rctd_reference(name)
    random = np.random.default_rng(seed)
    values, half = counts.to_numpy(np.float64), random.random(len(counts)) < 0.5
    types, effect = np.unique(labels), np.exp(random.normal(0, 0.5, counts.shape[1]))
    pooled, truth, number = [], [], []
    for _ in range(400):
        few = random.choice(types, random.integers(1, 5), replace=False)
        kinds = random.choice(few, random.integers(2, 11))
        drawn = [random.choice(np.flatnonzero(half & (labels == one))) for one in kinds]
        truth.append([(kinds == one).mean() for one in types])
        number.append(len(kinds))
        pooled.append(random.poisson((values[drawn] * effect).sum(axis=0)))
    pos = 100.0 * np.array([(i % 20, i // 20) for i in range(400)])
    cells = reference_section(values[~half], labels[~half], list(counts))
    index = [f"made:p{i}" for i in range(400)]
    found = pd.DataFrame(truth, index, list(types))
    spots = spot_section("made", np.array(pooled), pos, list(counts), 27.5)
    return Case([spots, cells], found, lambda obs: obs.index, pd.Series(number, index))


CASES: dict[str, Callable[[], Case]] = {
    "xenium_visium": xenium_visium,
    "merfish": merfish,
    "simulated": simulated,
    "hippocampus": lambda: made_of("Visium_Ref"),
    "cerebellum": lambda: made_of("Vignette"),
}

if __name__ == "__main__":
    main()
