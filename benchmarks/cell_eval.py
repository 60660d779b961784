"""Our scores of responses beside those of cell-eval, condition by condition, on the same predicted and measured cells.

cell-eval (Arc Institute, github.com/ArcInstitute/cell-eval; Roohani et al. 2025, doi:10.1016/j.cell.2025.06.008) needs
an environment of its own:

    python -m venv cell-eval && cell-eval/bin/pip install cell-eval==0.8.2
    AIVC_DATA=… python benchmarks/cell_eval.py --python cell-eval/bin/python

Cells of Norman 2019 (doi:10.1126/science.aax4438): one half of each condition's cells is the prediction of the other.
Cells are brought to one depth over genes well seen in controls, and conditions have names that are no genes, so that
both sides look at the same numbers: cell-eval itself leaves a target out in one score only, and never rescales.
Writes ``benchmarks/results/cell_eval.json``.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
from responses import scores
from scipy import sparse

from aivc_graph.config import data_folder
from aivc_graph.evaluation.responses.asking import examine
from aivc_graph.evaluation.responses.predictions import keys_of, view_of
from aivc_graph.evaluation.responses.questions import Fold, Question
from aivc_graph.evaluation.responses.table import halves_of, responses_of
from aivc_graph.evaluation.scoring import rounded

FILE = "norman19-mcfaline23-devel/devel.h5ad"
OUT = Path(__file__).parent / "results" / "cell_eval.json"
CONTROL = "control"
DEPTH = 1e4
LEAST_CPM = 50.0
PAIRS = {
    "pearson_delta_profile": "pearson_delta",
    "mse_delta": "mse_delta",
    "pds_l1_2025": "discrimination_score_l1",
    "des_overlap": "overlap_at_N",
}
PEER = """
import sys
import anndata as ad
from cell_eval import MetricsEvaluator
folder = sys.argv[1]
found, _ = MetricsEvaluator(
    adata_pred=ad.read_h5ad(f"{folder}/predicted.h5ad"), adata_real=ad.read_h5ad(f"{folder}/measured.h5ad"),
    control_pert="control", pert_col="condition", num_threads=1, outdir=f"{folder}/peer",
    pdex_kwargs={"geometric_mean": False},
).compute(profile="full", write_csv=False, skip_metrics=["clustering_agreement", "pearson_edistance"])
found.write_csv(f"{folder}/peer.csv")
"""


def main() -> None:
    """Score the same cells twice and write how far the two are apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, required=True, help="interpreter of an environment with cell-eval")
    options = parser.parse_args()
    predicted, measured = halves()
    ours = our_scores(predicted, measured)
    theirs = their_scores(predicted, measured, options.python)
    found = {name: compared(ours[name], theirs[peer]) | {"peer": peer} for name, peer in PAIRS.items()}
    OUT.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def halves() -> tuple[ad.AnnData, ad.AnnData]:
    """Return one half of the cells of each condition as prediction, the other as measurement; both with all controls."""
    table = ad.read_h5ad(data_folder() / FILE)
    table = table[table.obs["cell_type"] == "k562"]
    names = table.obs["condition"].astype(str).to_numpy()
    x = np.expm1(sparse.csr_matrix(table.X).toarray().astype(np.float64))
    million = x / x.sum(axis=1, keepdims=True) * 1e6
    x = x[:, million[names == CONTROL].mean(axis=0) > LEAST_CPM]
    x = np.log1p(x / x.sum(axis=1, keepdims=True) * DEPTH)
    kinds = sorted(set(names) - {CONTROL})
    code = {name: f"condition {i:02d}" for i, name in enumerate(kinds)} | {CONTROL: CONTROL}
    half = halves_of(np.unique(names, return_inverse=True)[1], 0)
    sides = []
    for side in (0, 1):
        kept = (half == side) | (names == CONTROL)
        obs = {"condition": [code[name] for name in names[kept]]}
        one = ad.AnnData(sparse.csr_matrix(x[kept]), obs=obs)
        one.obs_names = [f"cell{i}" for i in np.flatnonzero(kept)]
        one.var_names = [f"gene{i}" for i in range(x.shape[1])]
        sides.append(one)
    return sides[0], sides[1]


def our_scores(predicted: ad.AnnData, measured: ad.AnnData) -> dict[str, dict[str, float]]:
    """Return our score of each condition, by metric."""
    table = responses_of(measured, "condition", CONTROL)
    asked = ~table.is_control
    exam = examine(table, Question("parity", "intervention", (Fold(~asked, asked),)))
    said = predicted[predicted.obs["condition"] != CONTROL].copy()
    view = view_of(said, keys_of(said, "condition", None, "predicted"), exam, "predicted")
    names = exam.table.condition[exam.rows]
    return {name: dict(zip(names, map(float, scores(name, view, exam)), strict=True)) for name in PAIRS}


def their_scores(predicted: ad.AnnData, measured: ad.AnnData, python: Path) -> dict[str, dict[str, float]]:
    """Return the peer's score of each condition, by metric."""
    with tempfile.TemporaryDirectory() as folder:
        predicted.write_h5ad(Path(folder) / "predicted.h5ad")
        measured.write_h5ad(Path(folder) / "measured.h5ad")
        subprocess.run([str(python), "-c", PEER, folder], check=True)
        rows = list(csv.DictReader((Path(folder) / "peer.csv").open()))
    return {
        peer: {row["perturbation"]: float(row[peer]) for row in rows if row[peer] != ""} for peer in PAIRS.values()
    }


def compared(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, Any]:
    """Return both means over the conditions both have scored, and the largest difference of one."""
    shared = sorted(name for name in ours if name in theirs and np.isfinite(ours[name]))
    a, b = (np.array([one[name] for name in shared]) for one in (ours, theirs))
    return {
        "conditions": len(shared),
        "ours": rounded(float(a.mean())),
        "theirs": rounded(float(b.mean())),
        "largest_difference": rounded(float(np.abs(a - b).max())),
    }


if __name__ == "__main__":
    main()
