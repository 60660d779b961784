"""What published result tables say of the trivial rules, recomputed item by item, beside the numbers usually quoted.

    AIVC_DATA=… python benchmarks/reference_scores.py

Writes ``benchmarks/results/reference_scores.json``. Tables: scPerturBench (Wei et al. 2025, doi:10.1038/s41592-025-
02980-0), NeurIPS 2021 predict modality (Lance et al. 2022, PMLR 176, 162–176), fitness of pairs and Perturb-seq fits of
Norman et al. 2019, doi:10.1126/science.aax4438. Other people's harnesses: compare only like with like.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from result_file import write_result

from aivc_graph.config import data_folder

OUT = Path(__file__).parent / "results" / "reference_scores.json"
PAIR = "+"
QUOTED = {
    "pairs": {"additive": 0.705, "biolord": 0.698, "CPA": 0.648, "GEARS": 0.591},
    "singles": {"bilinear": 0.562, "mean": 0.435},
    "drugs": {"chemCPA": 0.398, "mean": 0.225},
    "contexts": {"CellOT": 0.459, "mean": 0.425},
    "protein from rna": {"kNN": 0.7245, "kernel ridge": 0.7305},
}


def main() -> None:
    """Recompute everything and write it."""
    folder = data_folder() / "reference-scores"
    found = {
        "quoted": QUOTED,
        "norman": norman(folder),
        "drugs": means(pd.read_csv(folder / "scperturbench_chemical_single_top5000.csv.gz"), "cor"),
        "contexts": contexts(folder),
        "protein from rna": modality(folder),
        "fitness of pairs": fitness(data_folder() / "norman19-gi-fitness"),
    }
    write_result(OUT, found)
    print(json.dumps(found["norman"], indent=1))


def norman(folder: Path) -> dict[str, Any]:
    """Return mean Pearson delta over 5,000 genes by method: singles, pairs, and pairs by how many parts were seen.

    The test items of a split are listed, so a part was seen alone where its single is not among them. The table has no
    method called additive: the quoted 0.705 is the mean of ``trainMean`` (and of ``linearModel``) over all pairs,
    whatever was seen of their parts. The two are nearly alike pair by pair though far apart on singles, as two forms of
    the additive rule with a fallback would be; the tables alone cannot say more.
    """
    table = pd.read_csv(folder / "scperturbench_genetic_combo_top5000.csv.gz")
    table = table[table["DataSet"] == "Norman"].copy()
    table[["item", "fold"]] = table["op"].str.rsplit("_", n=1, expand=True)
    held = {fold: set(rows["item"]) for fold, rows in table.groupby("fold")}
    table["seen"] = [
        sum(part not in held[fold] for part in item.split(PAIR)) if PAIR in item else -1
        for item, fold in zip(table["item"], table["fold"], strict=True)
    ]
    pairs = table["seen"] >= 0
    wide = table[pairs].pivot(index=["op", "seen"], columns="method", values="cor")
    both = wide.xs(2, level="seen")
    differ = (wide["trainMean"] - wide["linearModel"]).abs()
    return {
        "additive 0.705": {
            "found as": "trainMean over all pairs",
            "all pairs": rounded(wide["trainMean"].mean()),
            "both parts seen": rounded(both["trainMean"].mean()),
            "correlation with linearModel over pairs": rounded(
                np.corrcoef(wide["trainMean"], wide["linearModel"])[0, 1]
            ),
        },
        "singles": means(table[~pairs], "cor"),
        "pairs": means(table[pairs], "cor"),
        "pairs by parts seen": {str(k): means(rows, "cor") for k, rows in table[pairs].groupby("seen")},
        "items": {"singles": len(table[~pairs]["op"].unique()), "pairs": len(wide), "both parts seen": len(both)},
        "largest difference of trainMean and linearModel": {
            "both parts seen": rounded(differ.xs(2, level="seen").max()),
            "one or none seen": rounded(differ[differ.index.get_level_values("seen") < 2].max()),
        },
        "with the fits of Norman 2019": against_fits(both),
    }


def against_fits(both: pd.DataFrame) -> dict[str, Any]:
    """Return how the rules go with the published correlation of each double with the sum of its singles."""
    fits = pd.read_csv(data_folder() / "norman19-gi-fitness" / "regr_fits_final.csv")
    own = {frozenset(str(name).split("_")): value for name, value in zip(fits["name"], fits["corr_sum"], strict=True)}
    keys = [frozenset(op.rsplit("_", 1)[0].split(PAIR)) for op in both.index]
    there = np.array([key in own for key in keys])
    true = np.array([own[key] for key in keys if key in own])
    return {
        "pairs": int(there.sum()),
        "mean of corr_sum": rounded(true.mean()),
        "correlation over pairs": {
            name: rounded(np.corrcoef(both.loc[there, name], true)[0, 1])
            for name in ("trainMean", "linearModel", "GEARS")
        },
    }


def contexts(folder: Path) -> dict[str, Any]:
    """Return the mean over the data sets of the table, of contexts never seen; two of the twelve are not in it."""
    table = pd.read_csv(folder / "scperturbench_summary.csv")
    table = table[table["table"] == "cellular_ood_top5000"]
    return means(table, "pcc_delta_mean") | {"data sets": int(table["DataSet"].nunique())}


def modality(folder: Path) -> dict[str, Any]:
    """Return RMSE of protein from RNA by method and phase."""
    found = {}
    for phase in ("phase1", "phase2_private"):
        table = pd.read_csv(folder / f"neurips2021_predict_modality_{phase}.csv")
        rows = table[(table["dataset_subtask"] == "GEX2ADT") & (table["rmse"] < 1e4)]
        found[phase] = {name: rounded(value) for name, value in zip(rows["method_id"], rows["rmse"], strict=True)}
    return found


def fitness(folder: Path) -> dict[str, Any]:
    """Return how the sum of two genes' fitness tells that of the pair, against the mean, and between replicates."""
    whole = pd.read_csv(folder / "CRISPRa_K562_phenotypeMatrix_gene.txt", sep="\t", index_col=0)
    single = pd.read_csv(folder / "single_fitnesses.csv", index_col=0)["average_fitness"]
    genes = [gene for gene in whole.index if gene in single.index and gene in whole.columns]
    upper = np.triu_indices(len(genes), 1)
    true = whole.loc[genes, genes].to_numpy(float)[upper]
    alone = single.loc[genes].to_numpy(float)
    said, known = alone[upper[0]] + alone[upper[1]], np.isfinite(true)
    said, true = said[known], true[known]
    return {
        "pairs": len(true),
        "additive": {"pearson": rounded(np.corrcoef(said, true)[0, 1]), "mse": rounded(((said - true) ** 2).mean())},
        "mean": {"mse": rounded(true.var())},
    }


def means(table: pd.DataFrame, column: str) -> dict[str, Any]:
    """Return the mean of a column by method, best first."""
    found = table.groupby("method")[column].mean().sort_values(ascending=False)
    return {str(name): rounded(value) for name, value in found.items()}


def rounded(value: float) -> float:
    """Return a number at four digits after the point."""
    return round(float(value), 4)


if __name__ == "__main__":
    main()
