"""What each part of the model gives: paired differences to its ablations, and held-out likelihood stage by stage.

Each study is trained twice, once with no epoch, so that the closed form with its later fits can be asked too. Scores
are those of `aivc evaluate`; intervals are over its units. The likelihood is that of counts of scored nodes that were
taken away (negative binomial at each node's own depth, nats a node and molecule): of the mean profile of what is left
of the section, of the closed form, and of the trained model.

    python benchmarks/ablations.py [--out FILE] [--only demo osmfish] [--set training.epochs=5]
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from first_model_parts import CONFIGS, r
from numpy.typing import NDArray
from result_file import write_result
from scipy.stats import nbinom

from aivc_graph import names
from aivc_graph.config import Config, load_config
from aivc_graph.evaluation import intervals
from aivc_graph.evaluation.intervals import resampled
from aivc_graph.graph.hiding import hide_observations
from aivc_graph.graph.panels import panel_columns
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.pipeline.evaluate import evaluate
from aivc_graph.pipeline.tasks.context_expression import hidden_rows
from aivc_graph.pipeline.tasks.task import Asked
from aivc_graph.pipeline.train import train_config
from aivc_graph.query.ablations import CLOSED_FORM
from aivc_graph.query.predictions import expected
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.simulate.simulate import simulate
from aivc_graph.training.checkpoint import load_model

Floats = NDArray[np.float64]
SIMULATED = ("demo", "cohort")
MEASURED = ("osmfish", "dlpfc", "her2st", "xenium_visium_breast")
log = logging.getLogger("ablations")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ablations.json"))
    parser.add_argument("--only", nargs="+", choices=SIMULATED + MEASURED, default=SIMULATED + MEASURED)
    parser.add_argument("--set", nargs="+", default=[], help="settings of the configuration, as in aivc train")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    for name in options.only:
        with tempfile.TemporaryDirectory() as folder:
            found = study(name, Path(folder), ["training.device=cpu", *options.set])
        write_result(options.out, found, part=name)
        log.info("%s %s", name, json.dumps(found["likelihood"]))


def study(name: str, folder: Path, settings: list[str]) -> dict[str, Any]:
    """Train with and without gradient, score with every ablation, and return what each part gives."""
    path = simulate(name, folder / "tissue") / "config.yaml" if name in SIMULATED else CONFIGS / f"{name}.yaml"
    run = train_config(load_config(path, settings), None, folder / "run", resume=False, device="cpu").folder
    if not (run / CLOSED_FORM).exists():
        start = load_config(path, [*settings, "training.epochs=0"])
        start_run = train_config(start, run / "graph.zarr", folder / "start", resume=False, device="cpu").folder
        shutil.copy(start_run / "model.safetensors", run / CLOSED_FORM)
    scores = evaluate(run)
    value = {(s.task, s.readout, s.metric, s.predictor): s.value for s in scores.results}
    rows = []
    for one in scores.comparisons:
        key = (one.task, one.readout, one.metric)
        if (*key, "messages_off") in value:
            row: dict[str, Any] = dict(zip(("task", "readout", "metric"), key, strict=True))
            row |= {
                "model": value[(*key, one.a)],
                "other": one.b,
                "against": one.against,
                "score": value[(*key, one.b)],
            }
            row |= {part: getattr(one, part) for part in ("difference", "lower", "upper", "p_adjusted")}
            rows.append(row | {"higher_is_better": one.higher_is_better, "over": f"{one.n_units} {one.unit}s"})
    likelihood = likelihoods(run, load_config(path, settings))
    return {"split": scores.provenance["split"], "scores": rows, "likelihood": likelihood}


def likelihoods(run: Path, config: Config) -> dict[str, Any]:
    """Return the held-out likelihood of each stage, and differences of the later two with intervals."""
    asked = Asked(VirtualTissue.load(run), config)
    level, rows = hidden_rows(asked)
    if not rows.any():
        return {}
    left = hide_observations(asked.graph, {(level, names.RNA): rows})
    closed = load_model(run, CLOSED_FORM)
    stages = {
        "mean profile": nll(closed, asked.graph, level, rows, mean_profile(left, level)[rows]),
        "closed form": nll(closed, asked.graph, level, rows, told(closed, left, level, rows)),
        "trained": nll(asked.model, asked.graph, level, rows, told(asked.model, left, level, rows)),
    }
    units = asked.units(level, rows)
    one_hot = np.eye(units.n)[units.code]
    drawn = resampled(units)

    def paired(a: str, b: str) -> dict[str, Any]:
        sums, number = (stages[a] - stages[b]) @ one_hot, one_hot.sum(axis=0)
        ends = (None, None) if drawn is None else intervals.interval((drawn @ sums) / (drawn @ number), units.n)
        bounds = {end: None if one is None else r(one) for end, one in zip(("lower", "upper"), ends, strict=True)}
        return {"difference": r(sums.sum() / number.sum()), **bounds, "over": f"{units.n} {units.name}s"}

    return {
        "level": level,
        **{stage: r(values.mean()) for stage, values in stages.items()},
        "closed form minus mean profile": paired("closed form", "mean profile"),
        "trained minus closed form": paired("trained", "closed form"),
    }


def told(model: TissueModel, left: TissueGraph, level: str, rows: NDArray[np.bool_]) -> Floats:
    """Return expected shares of the nodes in `rows` (asked, molecule)."""
    return np.asarray(expected(model, left, level, rows).shares.numpy(), np.float64)


def mean_profile(left: TissueGraph, level: str) -> Floats:
    """Return for each node the mean shares of what is left of its section, else of all sections (node, molecule)."""
    counts, section = panel_counts(left, level), left[level].section_index.numpy()
    sums = np.stack([np.asarray(counts[section == one].sum(axis=0)).ravel() for one in range(section.max() + 1)])
    sums[sums.sum(axis=1) == 0] = sums.sum(axis=0)
    shares = sums + 0.5
    return np.asarray((shares / shares.sum(axis=1, keepdims=True))[section])


def nll(model: TissueModel, graph: TissueGraph, level: str, rows: NDArray[np.bool_], shares: Floats) -> Floats:
    """Return the negative log-likelihood a molecule of the counts of `rows` at their own depths (asked,)."""
    counts = panel_counts(graph, level)[rows].toarray()
    size = model.count_operator(level, names.RNA).log_dispersion.detach().exp().numpy().astype(np.float64)
    mean = np.maximum(shares * counts.sum(axis=1, keepdims=True), 1e-8)
    return np.asarray(-nbinom.logpmf(np.round(counts), size, size / (size + mean)).mean(axis=1))


def panel_counts(graph: TissueGraph, level: str) -> Any:
    """Return counts of the panel (node, molecule), sparse."""
    return to_scipy_csr(graph.counts(level, names.RNA))[:, panel_columns(graph, level, names.RNA).numpy()]


if __name__ == "__main__":
    main()
