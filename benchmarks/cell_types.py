"""Types of cells: tissue of types alone (pancreas in type 1 diabetes), and labels told from expression (osmFISH).

    AIVC_DATA=… python benchmarks/cell_types.py [imc_pancreas] [osmfish] [--out FILE]

`imc_pancreas` builds, trains and scores `configs/imc_pancreas.yaml`: hidden cells by the tissue around, beside shares
of types among neighbours; stage of disease by niches, each donor by all others, beside shares of types; whether niches
recur over donors; and the share of beta among islet cells by stage, known of the data. `osmfish` hides the type of
every cell in held-out blocks of a section and asks for it by the cells' own counts.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
from first_model_parts import CONFIGS, r
from result_file import write_result
from sklearn.metrics import normalized_mutual_info_score

from aivc_graph.config import load_config
from aivc_graph.evaluation.records import Evaluation
from aivc_graph.pipeline.build import build
from aivc_graph.pipeline.evaluate import evaluate
from aivc_graph.pipeline.train import train
from aivc_graph.query.virtual_tissue import VirtualTissue

ISLET = ("alpha", "beta", "delta", "gamma")
# Told by the data's notes, of all islet cells of a stage together.
KNOWN_BETA = {"Non-diabetic": 0.54, "Onset": 0.31, "Long-duration": 0.00}
OSMFISH = (
    "task.sections.0.sources.0.label=ClusterName",
    "task.sections.0.sources.0.columns=[Region]",
    "task.split={kind: by_block}",
)


def main() -> None:
    """Score what is asked for and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=("imc_pancreas", "osmfish", []), default=[])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "types.json")
    options = parser.parse_args()
    for part in options.parts or ("imc_pancreas", "osmfish"):
        with tempfile.TemporaryDirectory() as folder:
            found = imc_pancreas(Path(folder)) if part == "imc_pancreas" else osmfish(Path(folder))
        print(part, found, flush=True)
        write_result(options.out, found, part=part)


def imc_pancreas(folder: Path) -> dict[str, Any]:
    """Return the figures of tissue of types alone."""
    tissue, found = run(folder, "imc_pancreas.yaml")
    niche = tissue.niches().obs["niche"].cat.codes.to_numpy()
    donor = tissue.surroundings.donor
    cells = pd.crosstab(niche, donor).to_numpy()
    beta = tissue.ask("abundance", by="stage", among=ISLET).query("what == 'cell type' and name == 'beta'")
    return found | {
        "niches": int(niche.max()) + 1,
        "NMI of niche and donor": r(normalized_mutual_info_score(niche, donor)),
        "donors with 20 cells or more of each niche": [int(one) for one in (cells >= 20).sum(axis=1)],
        "donors": int(donor.max()) + 1,
        "beta among islet cells, mean over donors": {
            g: r(s) for g, s in zip(beta["group"], beta["share"], strict=True)
        },
        "beta among islet cells, known, all cells together": KNOWN_BETA,
    }


def osmfish(folder: Path) -> dict[str, Any]:
    """Return the figures of types told from the cells' own counts."""
    return run(folder, "osmfish.yaml", *OSMFISH)[1]


def run(folder: Path, config: str, *overrides: str) -> tuple[VirtualTissue, dict[str, Any]]:
    """Build, train and score; return the tissue, and scores with seconds of each step and the most memory so far.

    Seconds are of the processor, which other work on the machine does not move.
    """
    settings, started = load_config(CONFIGS / config, overrides), time.process_time()
    graph = build(settings, folder / "graph.zarr")
    built = time.process_time()
    train(graph, settings, folder / "run")
    trained = time.process_time()
    scores = evaluate(folder / "run")
    scored = time.process_time()
    seconds = {"build": r(built - started), "train": r(trained - built), "evaluate": r(scored - trained)}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    tissue = VirtualTissue.load(folder / "run")
    return tissue, {
        "scores": figures(scores),
        "processor seconds": seconds,
        "types beside each other": beside(scores),
        "GiB": r(memory),
    }


def beside(scores: Evaluation) -> dict[str, Any]:
    """Return by distance the share of pairs of types whose measured number lies within 95 % of what was drawn."""
    found: dict[str, list[bool]] = {}
    for one in scores.type_contacts:
        found.setdefault(f"{one['within_um']:g} µm", []).append(one["lower"] <= one["measured"] <= one["upper"])
    return {within: {"pairs": len(each), "inside": r(sum(each) / len(each))} for within, each in found.items()}


def figures(scores: Evaluation) -> dict[str, Any]:
    """Return what everybody scored at telling types and the endpoint, and how far the model is from the best rule."""
    asked = ("cell_to_type", "context_to_type", "endpoint")
    found: dict[str, Any] = {}
    for one in (one for one in scores.results if one.task in asked and one.kind in ("model", "baseline")):
        found.setdefault(f"{one.task}, {one.metric}", {})[one.predictor] = r(one.value)
    for one in (one for one in scores.comparisons if one.task in asked and one.against == "baseline"):
        bounds = [None if bound is None else r(bound) for bound in (one.lower, one.upper)]
        apart = {"rule": one.b, "difference": r(one.difference), "interval": bounds}
        found[f"{one.task}, {one.metric}"]["model and best rule"] = apart | {"over": f"{one.n_units} {one.unit}s"}
    return found


if __name__ == "__main__":
    main()
