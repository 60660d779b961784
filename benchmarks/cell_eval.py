"""Our scores of responses beside those of cell-eval and cell-eval2, condition by condition, on the same cells.

Both peers (Arc Institute, github.com/ArcInstitute/cell-eval; Roohani et al. 2025, doi:10.1016/j.cell.2025.06.008) need
an environment of their own:

    python -m venv peers && peers/bin/pip install cell-eval==0.8.2 cell-eval2==0.20.0
    AIVC_DATA=… python benchmarks/cell_eval.py --python peers/bin/python

Cells of Norman 2019 (doi:10.1126/science.aax4438): one half of each condition's cells is the prediction of the other.
The file holds logarithms; counts are their exponentials over the least of each cell, rounded. Conditions have names
that are no genes, so that nobody leaves a target out. A condition of which no gene is called has no overlap here, and
0 there: these are counted apart. Writes ``benchmarks/results/cell_eval.json``.
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
from result_file import write_result
from scipy import sparse

from aivc_graph.config import data_folder
from aivc_graph.evaluation.metrics.metric import metric
from aivc_graph.evaluation.responses.asking import examine
from aivc_graph.evaluation.responses.predictions import keys_of, view_of
from aivc_graph.evaluation.responses.questions import Fold, Question
from aivc_graph.evaluation.responses.table import halves_of, responses_of
from aivc_graph.evaluation.scoring import rounded

FILE = "norman19-mcfaline23-devel/devel.h5ad"
OUT = Path(__file__).parent / "results" / "cell_eval.json"
CONTROL = "control"
# Ours → the peer's, of the 2026 definitions (cell-eval2) and of the 2025 ones (cell-eval, on the same profiles).
PEERS = {
    "pearson_delta_profile": "delta_pearson",
    "mse_delta": "delta_mse",
    "pds_cosine": "pds_cosine",
    "pds_l1_2025": "discrimination_score_l1",
    "des_overlap": "de_wilcoxon_overlap",
    "direction_fidelity": "de_wilcoxon_direction_fidelity_yield_raw",
    "direction_reach": "de_wilcoxon_direction_reach_raw",
    "sig_jaccard": "de_wilcoxon_sig_jaccard",
    "lfc_nmae": "de_wilcoxon_lfc_nmae",
}
# A ratio of sums: its two parts are compared.
RATIO = "unbiased_mse_ratio"
PARTS = {f"{RATIO}, error": "expr_mse_unbiased_capped", f"{RATIO}, effect": "expr_distance_unbiased"}
PEER = """
import csv
import sys
import anndata as ad
import cell_eval2
from cell_eval.metrics import discrimination_score
from cell_eval._types import PerturbationAnndataPair
folder, names = sys.argv[1], sys.argv[2].split(",")
predicted, measured, profiles, true = (
    ad.read_h5ad(f"{folder}/{one}.h5ad") for one in ("predicted", "measured", "profiles", "true")
)
config = cell_eval2.EvalConfig(
    metrics=[name for name in names if name != "discrimination_score_l1"], pert_col="condition", control="control",
    target_gene_map={"*": None}, device="cpu", num_threads=1,
)
rows = list(cell_eval2.compute_metrics(predicted, measured, config=config).iter_rows())
pair = PerturbationAnndataPair(real=true, pred=profiles, control_pert="control", pert_col="condition")
rows += [(name, "discrimination_score_l1", value) for name, value in discrimination_score(pair, metric="l1").items()]
with open(f"{folder}/peer.csv", "w") as lines:
    csv.writer(lines).writerows(rows)
"""


def main() -> None:
    """Score the same cells twice and write how far the two are apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, required=True, help="interpreter of an environment with both peers")
    options = parser.parse_args()
    predicted, measured = halves()
    ours, profiles = our_scores(predicted, measured)
    theirs = their_scores({"predicted": predicted, "measured": measured, **profiles}, options.python)
    found = {name: compared(ours[name], theirs[peer]) | {"peer": peer} for name, peer in (PEERS | PARTS).items()}
    write_result(OUT, found)
    print(json.dumps(found, indent=1))


def halves() -> tuple[ad.AnnData, ad.AnnData]:
    """Return one half of the cells of each condition as prediction, the other as measurement, with all controls."""
    table = ad.read_h5ad(data_folder() / FILE)
    table = table[table.obs["cell_type"] == "k562"]
    names = table.obs["condition"].astype(str).to_numpy()
    x = np.expm1(sparse.csr_matrix(table.X).toarray().astype(np.float64))
    x = np.round(x / np.where(x > 0, x, np.inf).min(axis=1, keepdims=True))
    code = {name: f"condition {i:02d}" for i, name in enumerate(sorted(set(names) - {CONTROL}))} | {CONTROL: CONTROL}
    half = halves_of(np.unique(names, return_inverse=True)[1], 0)
    return tuple(_side(x, [code[name] for name in names], (half == one) | (names == CONTROL)) for one in (0, 1))


def our_scores(
    predicted: ad.AnnData, measured: ad.AnnData
) -> tuple[dict[str, dict[str, float]], dict[str, ad.AnnData]]:
    """Return our score of each condition, by metric, and the predicted and the true profiles, controls among them."""
    table = responses_of(measured, "condition", CONTROL)
    asked = ~table.is_control
    question = Question("parity", "intervention", (Fold(~asked, asked),), "condition", tuple(map(str, table.condition)))
    exam = examine(table, question)
    said = predicted[predicted.obs["condition"] != CONTROL].copy()
    view = view_of(said, keys_of(said, "condition", None, "predicted"), exam, "predicted")
    names = list(map(str, exam.table.condition[exam.rows]))
    found = {name: dict(zip(names, map(float, scores(name, view, exam)), strict=True)) for name in PEERS}
    parts = metric(RATIO).statistics(view, exam.measured, np.arange(len(names)), len(names), np.zeros(len(names)))
    found |= {name: dict(zip(names, map(float, parts[:, i]), strict=True)) for i, name in enumerate(PARTS)}
    control, everyone = table.profile[table.is_control], np.ones(len(names) + 1, bool)
    sides = {"profiles": view.profile, "true": exam.measured.profile}
    return found, {
        name: _side(np.concatenate([control, profile]), [CONTROL, *names], everyone) for name, profile in sides.items()
    }


def their_scores(sides: dict[str, ad.AnnData], python: Path) -> dict[str, dict[str, float]]:
    """Return the peers' score of each condition, by metric."""
    wanted = [*PEERS.values(), *PARTS.values()]
    found: dict[str, dict[str, float]] = {name: {} for name in wanted}
    with tempfile.TemporaryDirectory() as folder:
        for name, side in sides.items():
            side.write_h5ad(Path(folder) / f"{name}.h5ad")
        subprocess.run([str(python), "-c", PEER, folder, ",".join(wanted)], check=True)
        for condition, name, value in csv.reader((Path(folder) / "peer.csv").open()):
            found[name][condition] = float(value)
    return found


def compared(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, Any]:
    """Return both means over the conditions both have scored, how many one alone scores, and the largest difference."""
    known = [{name for name, value in one.items() if np.isfinite(value)} for one in (ours, theirs)]
    shared = sorted(known[0] & known[1])
    a, b = (np.array([one[name] for name in shared]) for one in (ours, theirs))
    return {
        "conditions": len(shared),
        "scored_by_one": len(known[0] ^ known[1]),
        "ours": rounded(float(a.mean())),
        "theirs": rounded(float(b.mean())),
        "largest_difference": rounded(float(np.abs(a - b).max())),
    }


def _side(x: np.ndarray, condition: list[str], kept: np.ndarray) -> ad.AnnData:
    side = ad.AnnData(sparse.csr_matrix(x[kept]), obs={"condition": np.array(condition)[kept]})
    side.obs_names = [f"row{i}" for i in np.flatnonzero(kept)]
    side.var_names = [f"gene{i}" for i in range(x.shape[1])]
    return side


if __name__ == "__main__":
    main()
