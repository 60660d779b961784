"""The first model beside its baselines on four real questions, each held out by donor or block where labels are used.

- her2st labels: the pathologist's label from the latent, leave-donor-out, macro-F1 (logistic regression everywhere).
- her2st image → expression: train on donor C, test on B, and back; per-gene Pearson over the 250 best-expressed genes.
- osmFISH regions, DLPFC layers: adjusted Rand index of niches found without labels, baselines with the same mixture.
- simulated demo and cohort, six studies each: agreement of niches with the true ones on held-out donors, and how many
  are found where nothing is given; three studies without niches.
- Xenium → Visium: counts of spots in held-out blocks from the cells beneath; median per-gene Pearson.

    python benchmarks/first_model.py [--out FILE] [--only labels image regions simulated spots]
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from first_model_expression import her2st_image, xenium_spots
from first_model_niches import regions, simulated
from first_model_parts import CONFIGS, interval, log, r, scaled_counts, trained
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from aivc_graph.config import load_config
from aivc_graph.graph.build import build_graph
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.pipeline.build import hold_out, read_section
from aivc_graph.query.states import node_states


def main() -> None:
    tasks = {
        "labels": her2st_labels,
        "image": her2st_image,
        "regions": regions,
        "simulated": simulated,
        "spots": xenium_spots,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/first_model.json"))
    parser.add_argument("--only", nargs="+", choices=tasks, default=list(tasks))
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    found = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name in options.only:
        found[name] = tasks[name]()
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(found, indent=1) + "\n")
        print(json.dumps(found[name], indent=1), flush=True)


def her2st_labels() -> dict[str, Any]:
    """Leave-donor-out macro-F1 of the pathologist's label."""
    config = load_config(CONFIGS / "her2st.yaml", ["task.features=null"])
    labelled = [s for s in config.task.sections if "labels" in s.sources[0].options]
    sections = [read_section(s) for s in labelled]
    donors = [str(s.donor) for s in labelled]
    rows = []
    for i, donor in enumerate(donors):
        split = {"kind": "by_group", "key": "donor", "test": [donor], "validation": [donors[(i + 1) % len(donors)]]}
        hold_out(sections, config.task.model_copy(update={"split": split}))
        graph = build_graph(sections, config.graph)
        model, _ = trained(graph, config)
        rows.append({"donor": donor, **label_scores(graph, model)})
        log.info("labels %s", rows[-1])
    found: dict[str, Any] = {"metric": "macro-F1", "split": "leave donor out", "by_donor": rows}
    predictors = [key for key in rows[0] if key != "donor"]
    found["mean"] = {key: interval(np.array([row[key] for row in rows])) for key in predictors}
    for baseline in ("log counts", "own state (nested baseline)"):
        found[f"model minus {baseline}"] = interval(np.array([row["model"] - row[baseline] for row in rows]))
    return found


def label_scores(graph: TissueGraph, model: TissueModel) -> dict[str, float]:
    """Return macro-F1 on test nodes of the model's latent and of its baselines."""
    label = graph.obs("patch")["label"].astype(object).to_numpy()
    known = np.array([isinstance(v, str) and v != "undetermined" for v in label])
    test = graph.in_split("patch", "test").numpy() & known
    train = known & ~graph.in_split("patch", "test").numpy()
    counts = scaled_counts(graph, "patch")
    states = node_states(model, graph)["patch"]
    own = (counts - graph["section"].patch_rna_mean.numpy()[graph["patch"].section_index]) @ (
        model.count_operator("patch", "rna").loading.detach().numpy()
    )
    views = {
        "log counts": counts,
        "own state (nested baseline)": own,
        "model": np.hstack([states.z, states.context]),
    }
    scores = {}
    for name, x in views.items():
        x = (x - x[train].mean(axis=0)) / (x[train].std(axis=0) + 1e-9)
        regression = LogisticRegression(C=0.01, class_weight="balanced", max_iter=500).fit(x[train], label[train])
        scores[name] = r(f1_score(label[test], regression.predict(x[test]), average="macro"))
    return scores


if __name__ == "__main__":
    main()
