"""What Visium spots are made of, beside the Xenium cells of the neighbouring section, in blocks held out of training.

Cells are typed by the likelihood of their counts under the mean profiles of a dissociated reference of other patients
(Wu et al. 2021, doi:10.1038/s41588-021-00911-1); the spots' shares are then predicted from their own counts alone and
compared with the typed cells beneath. The types are themselves a prediction: this says whether the projection from
spots agrees with the cells, not whether either is right.

    python benchmarks/composition.py --out benchmarks/results/composition.json
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
from scipy import sparse

from aivc_graph.config import load_config
from aivc_graph.evaluation.scoring import score
from aivc_graph.graph.build import build_graph
from aivc_graph.pipeline.build import hold_out, read_section
from aivc_graph.pipeline.tasks.composition import spot_to_composition
from aivc_graph.pipeline.tasks.task import Asked
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.training.fit import fit

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "xenium_visium_breast.yaml"
REFERENCE = "scrna-breast-wu/wu_CID4465.h5ad"
LEAST_COUNTS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/composition.json"))
    parser.add_argument("--draws", type=int, default=3)
    options = parser.parse_args()
    draws = [draw(seed) for seed in range(options.draws)]
    found: dict[str, Any] = {"split": "spatial block with a buffer", "n_draws": len(draws), "by_draw": draws}
    for metric in ("jsd", "rmse_shares"):
        values = {name: [one[metric][name] for one in draws] for name in draws[0][metric]}
        found[metric] = {name: round(float(np.mean(each)), 4) for name, each in values.items()}
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def draw(seed: int) -> dict[str, Any]:
    """Train and score one draw of held-out blocks."""
    config = load_config(CONFIG, [f"task.split.seed={seed}", "training.epochs=5", "training.device=cpu"])
    section = read_section(config.task.sections[0])
    label_cells(section)
    hold_out([section], config.task)
    graph = build_graph([section], config.graph)
    with tempfile.TemporaryDirectory() as folder:
        model = fit(graph, config.model, config.training, Path(folder))
    asked = Asked(VirtualTissue(graph, model), config)
    results, comparisons = score(spot_to_composition(asked))
    row: dict[str, Any] = {"seed": seed, "shares": shares_of(model)}
    for metric in ("jsd", "rmse_shares"):
        row[metric] = {r.predictor: r.value for r in results if r.metric == metric}
        one = next(c for c in comparisons if c.metric == metric)
        row[f"{metric}, model less {one.b}"] = [one.difference, one.lower, one.upper, f"{one.n_units} {one.unit}s"]
    return row


def label_cells(section: Any) -> None:
    """Label each cell of ten counts or more by its most likely type."""
    reference = ad.read_h5ad(Path(os.environ.get("AIVC_DATA", "../shared/data")) / REFERENCE)
    kinds = reference.obs["celltype_major"].astype(str).to_numpy()
    table = section.tables["cell_rna"]
    genes = table.var_names.intersection(reference.var_names)
    counts, known = (sparse.csr_matrix(part[:, genes].X) for part in (table, reference))
    types = np.unique(kinds)
    profiles = np.stack([np.asarray(known[kinds == kind].sum(axis=0)).ravel() + 0.5 for kind in types])
    profiles /= profiles.sum(axis=1, keepdims=True)
    best = types[np.asarray(counts @ np.log(profiles).T).argmax(axis=1)].astype(object)
    best[np.asarray(counts.sum(axis=1)).ravel() < LEAST_COUNTS] = None
    rows = section.shapes["cell"].index.get_indexer(table.obs["barcode"])
    label = np.full(len(section.shapes["cell"]), None, dtype=object)
    label[rows] = best
    section.shapes["cell"]["label"] = label


def shares_of(model: Any) -> dict[str, float]:
    operator = model.composition_operator("cell", "patch")
    names = ("efficiency_share", "variance_share", "calibration_share", "neighbour_share")
    return {name: float(getattr(operator, name)) for name in names}


if __name__ == "__main__":
    main()
