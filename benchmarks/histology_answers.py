"""What a slide alone tells, by a model and by rules on the same features: expression, pathways, niche, composition.

- `her2st`: each of the three donors with slides left out in turn, with its counts; the next one decides when to stop.
- `dlpfc`: one section whose blocks are held out, with the low-resolution picture (16 µm a pixel).
- `cohort`: a simulated study; two of eight donors are left out, and so are their cells: niches and composition.

A difference is below zero where the model is better at a loss, above where it is at a score; its interval is by
bootstrap over donors of a study, or over blocks of tissue of the donor left out, donors weighed alike.

    AIVC_DATA=… OMP_NUM_THREADS=1 python benchmarks/histology_answers.py --runs runs/image [--only her2st dlpfc cohort]

Runs that are there are not trained again.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from first_model_parts import CONFIGS, r
from result_file import write_result

from aivc_graph.config import Config, load_config
from aivc_graph.evaluation import intervals
from aivc_graph.evaluation.scoring import MODEL, Judged, judge
from aivc_graph.io.footprints import read_footprints
from aivc_graph.pipeline.tasks.task import TASKS, Asked
from aivc_graph.pipeline.train import train_config
from aivc_graph.pipeline.truth import find_truth
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.simulate.simulate import simulate

ASKED = ("image_to_expression", "image_to_niche", "image_to_composition")
DONORS, STUDIES = ("A", "B", "C"), range(1)
PICTURE = "task.features={tile_um: 330, target_mpp: 16}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "histology_answers.json")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    options = parser.parse_args()
    for name in options.only:
        found = together([scores(*one) for one in PARTS[name](options.runs)])
        write_result(options.out, found, part=name)
        print(name, json.dumps(found, indent=1), flush=True)


def her2st(runs: Path) -> list[tuple[Path, Config]]:
    """Return a run a donor with slides that is left out."""
    found = []
    for i, donor in enumerate(DONORS):
        split = f"task.split={{kind: by_group, key: donor, test: [{donor}], validation: [{DONORS[i - 1]}]}}"
        found.append((runs / f"her2st_{donor}", load_config(CONFIGS / "her2st.yaml", [split])))
    return found


def dlpfc(runs: Path) -> list[tuple[Path, Config]]:
    """Return the run on the section whose blocks are held out."""
    return [(runs / "dlpfc", load_config(CONFIGS / "dlpfc.yaml", [PICTURE, "task.split={kind: by_block}"]))]


def cohort(runs: Path) -> list[tuple[Path, Config]]:
    """Return the run on a simulated study."""
    for seed in STUDIES:
        if not (runs / f"study_{seed}").exists():
            simulate("cohort", runs / f"study_{seed}", seed=seed)
    return [(runs / f"cohort_{seed}", load_config(runs / f"study_{seed}" / "config.yaml", [])) for seed in STUDIES]


PARTS = {"her2st": her2st, "dlpfc": dlpfc, "cohort": cohort}


def scores(run: Path, config: Config) -> dict[str, Judged]:
    """Return everybody's estimates by task, readout and metric."""
    if not (run / "run.json").exists():
        train_config(config, None, run, resume=False, device="cpu")
    pathways = config.evaluation.pathways
    weights = None if pathways is None else read_footprints(pathways)
    asked = Asked(VirtualTissue.load(run), config, find_truth(config, None), weights)
    judged = judge([one for name in ASKED for one in TASKS[name](asked)])
    return {f"{one.task.task}, {one.task.readout}, {one.metric}": one for one in judged}


def together(runs: list[dict[str, Judged]]) -> dict[str, Any]:
    """Return scores, means over runs, and how far the model is from each rule."""
    found: dict[str, Any] = {"runs": len(runs)}
    for key in runs[0]:
        by_run = [one[key] for one in runs if key in one]
        values = defaultdict[str, list[float]](list)
        for one in by_run:
            for who, estimate in one.estimates.items():
                if one.kinds[who] in ("model", "baseline"):
                    values[who].append(estimate.value)
        told: dict[str, Any] = {who: r(np.mean(own)) for who, own in values.items()}
        told["by run"] = {who: [r(one) for one in own] for who, own in values.items()}
        told["higher is better"] = by_run[0].higher_is_better
        for who in values:
            if who != MODEL:
                told[f"model minus {who}"] = difference(by_run, who)
        found[key] = told
    return found


def difference(runs: list[Judged], rule: str) -> dict[str, Any]:
    """Return the mean difference of model and rule over runs, with an interval where all runs have one."""
    pairs = [(one.estimates[MODEL], one.estimates[rule]) for one in runs]
    found: dict[str, Any] = {"mean": r(np.mean([a.value - b.value for a, b in pairs]))}
    if all(a.draws is not None and b.draws is not None for a, b in pairs):
        draws = np.mean([a.draws - b.draws for a, b in pairs], axis=0)
        low, high = intervals.interval(draws, min(one.task.units.n for one in runs))
        found |= {"lower": r(low), "upper": r(high)}
    return found | {"units": [f"{one.task.units.n} {one.task.units.name}s" for one in runs]}


if __name__ == "__main__":
    main()
