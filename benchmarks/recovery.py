"""What is recovered of simulated tissue whose truth is known, on donors never seen, beside baselines from the same run.

Each seed is a study of its own (donors, niches, effects, noise): `demo` and `cohort` for recovery, `null_effect` and
`null_niches` for what must not be found. Intervals are over seeds (t-distribution over the studies' differences);
within a study they are over donors, sections or blocks, as `aivc evaluate` gives them.

    python benchmarks/recovery.py --out benchmarks/results/recovery.json [--seeds 3] [--only demo cohort]
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from result_file import write_result
from scipy import stats

from aivc_graph.config import load_config
from aivc_graph.evaluation.metrics.metric import higher_is_better
from aivc_graph.evaluation.records import Evaluation
from aivc_graph.pipeline.evaluate import evaluate
from aivc_graph.pipeline.train import train_config
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.simulate.simulate import simulate

PRESETS = ("demo", "cohort", "null_effect", "null_niches")
log = logging.getLogger("recovery")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/recovery.json"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=PRESETS, default=PRESETS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    for preset in options.only:
        found = summary([study(preset, seed) for seed in range(options.seeds)])
        write_result(options.out, found, part=preset)
        for row in found["scores"]:
            print(preset, json.dumps(row), flush=True)


def study(preset: str, seed: int) -> dict[str, Any]:
    """Simulate, train and score one study; return its comparisons, and what was found where nothing was to be."""
    with tempfile.TemporaryDirectory() as folder:
        tissue = simulate(preset, Path(folder) / "tissue", seed=seed)
        config = load_config(tissue / "config.yaml", ["training.device=cpu", f"training.seed={seed}"])
        run = train_config(config, None, Path(folder) / "run", resume=False, device="cpu").folder
        scores = evaluate(run)
        facts = {"niches_found": VirtualTissue.load(run).niches().n_vars, "largest_effect": largest_effect(scores, run)}
        log.info("%s %d: %s", preset, seed, facts)
        return {"seed": seed, "rows": rows_of(scores), **facts}


def largest_effect(scores: Evaluation, run: Path) -> float | None:
    """Return the largest effect [counts per 10,000] predicted of the first known intervention, by niche and gene."""
    from aivc_graph.tissue.intervention import Combination, Intervention

    tissue = VirtualTissue.load(run)
    plan = tissue.model.plan.interventions
    if plan is None:
        return None
    kind, name = plan.keys[0].split(":", 1)
    part = Intervention(kind=kind, name=name, targets=plan.targets[0], hours=plan.hours[0][1])  # type: ignore[arg-type]
    table = tissue.intervene(Combination(parts=(part,))).readout("genes", by="niche")
    return float(table["shrunken"].abs().max())


def rows_of(scores: Evaluation) -> list[dict[str, Any]]:
    value = {(r.task, r.readout, r.metric, r.predictor): r.value for r in scores.results}
    rows = []
    for c in (one for one in scores.comparisons if one.against == "baseline"):
        key = (c.task, c.readout, c.metric)
        model, baseline = value[(*key, c.a)], value[(*key, c.b)]
        row = {"task": c.task, "readout": c.readout, "metric": c.metric, "model": model, "best_baseline": c.b}
        row |= {"baseline": baseline, "difference": c.difference, "lower": c.lower, "upper": c.upper, "unit": c.unit}
        others = {
            r.predictor: r.value
            for r in scores.results
            if (r.task, r.readout, r.metric) == key and r.kind in ("model", "baseline")
        }
        rows.append({**row, "all": others})
    return rows


def summary(studies: list[dict[str, Any]]) -> dict[str, Any]:
    """Return each score over studies: means, and the paired difference to the best rule with its interval over seeds.

    The rule compared with is the one that is best on average over the studies.
    """
    keys = dict.fromkeys((r["task"], r["readout"], r["metric"]) for one in studies for r in one["rows"])
    scores = []
    for key in keys:
        found = [r["all"] for one in studies for r in one["rows"] if (r["task"], r["readout"], r["metric"]) == key]
        names = set.intersection(*({n for n, v in each.items() if v is not None} for each in found))
        means = {name: float(np.mean([each[name] for each in found])) for name in sorted(names)}
        better = higher_is_better(key[2])
        rules = {name: value for name, value in means.items() if name != "model"}
        if "model" not in means or not rules:
            continue
        best = (max if better else min)(rules, key=rules.__getitem__)
        differences = np.array([each["model"] - each[best] for each in found])
        low, high = interval(differences)
        scores.append(
            {
                "task": key[0],
                "readout": key[1],
                "metric": key[2],
                "higher_is_better": better,
                "model": r(means["model"]),
                "best_baseline": best,
                "baseline": r(rules[best]),
                "difference": r(differences.mean()),
                "lower": low,
                "upper": high,
                "n_seeds": len(found),
                "all": {name: r(value) for name, value in means.items()},
            }
        )
    found_in = {what: [one[what] for one in studies] for what in ("niches_found", "largest_effect")}
    by_seed = [
        {"seed": one["seed"], "rows": [{k: v for k, v in row.items() if k != "all"} for row in one["rows"]]}
        for one in studies
    ]
    return {"scores": scores, **found_in, "by_seed": by_seed}


def interval(values: np.ndarray) -> tuple[float | None, float | None]:
    """Return the 95 % t-interval of the mean over studies."""
    if len(values) < 3:
        return None, None
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return r(values.mean() - half), r(values.mean() + half)


def r(value: float) -> float:
    return round(float(value), 4)


if __name__ == "__main__":
    main()
