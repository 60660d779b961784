"""Run folder → ``evaluation.json``: every task the run can be asked, with baselines and intervals."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from pathlib import Path
from typing import Any

import pandas as pd

from aivc_graph import names
from aivc_graph.atomic import staged
from aivc_graph.config import load_config
from aivc_graph.errors import AivcError, QueryError
from aivc_graph.evaluation.calibration import calibration_of
from aivc_graph.evaluation.leakage import MEASURE
from aivc_graph.evaluation.readouts.footprints import Footprints
from aivc_graph.evaluation.records import Evaluation
from aivc_graph.evaluation.risk import risk_of
from aivc_graph.evaluation.scoring import Scored, judge
from aivc_graph.io.footprints import hashes_of_weights, read_footprints
from aivc_graph.io.h5ad_file import file_hashes
from aivc_graph.io.staging import check_place
from aivc_graph.pipeline.anchor_curves import anchor_curves
from aivc_graph.pipeline.audit import accepted_leaks, audit, built_facts
from aivc_graph.pipeline.card import card_of
from aivc_graph.pipeline.scores import FILE, put_together, text_of_evaluation, versions
from aivc_graph.pipeline.tasks.task import HIDDEN, TASKS, Asked
from aivc_graph.pipeline.truth import check_truth, find_truth
from aivc_graph.query.ablations import ABLATIONS, Given, ablated
from aivc_graph.query.cycles import cycles
from aivc_graph.query.predictive_checks import predictive_checks
from aivc_graph.query.type_contacts import type_contacts
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.report.write import PAGE
from aivc_graph.training.checkpoint import WEIGHTS, check_model
from aivc_graph.training.run_folder import METRICS, run_metrics

log = logging.getLogger(__name__)
LIBRARIES = ("aivc-graph", "numpy", "scipy", "torch", "scikit-learn")
COLUMNS = (
    "task",
    "readout",
    "metric",
    "split",
    "model",
    "best baseline",
    "baseline",
    "difference",
    "lower",
    "upper",
    "over",
)


def evaluate(
    run: Path,
    truth: Path | None = None,
    out: Path | None = None,
    pathways: Path | None = None,
    *,
    anchors: bool = False,
    tissue: VirtualTissue | None = None,
) -> Evaluation:
    """Score a run on every task it can be asked, write ``evaluation.json``, and return what it holds.

    Nodes scored are those of the test split, else of the validation split; where nothing was held out, training nodes
    whose own observation is taken away, with the leakage that this is.

    Parameters
    ----------
    run
        A finished run folder.
    truth
        The ``truth`` folder of a simulated tissue; found by itself where it lies beside the run's sections.
    out
        Folder for ``evaluation.json``; the run folder if not given.
    pathways
        What tells of pathways, in place of ``evaluation.pathways`` of the run's configuration.
    anchors
        Also fit the model anew, in closed form, to fewer and to wrong anchors, and score what cells and spots then tell
        of each other; see `anchor_curves`. Takes as long as ten fits.
    tissue
        The run's tissue where it is loaded already.

    Raises
    ------
    StoreError, ReadError
        If the run or the truth is missing or damaged, the truth is of another study, or the run was trained anew
        meanwhile.
    QueryError
        If there is no task the run can be asked, the weights are of other genes, or it has no anchors to make worse.
    """
    run = Path(run)
    place = (Path(out) if out is not None else run) / FILE
    tissue = tissue if tissue is not None else VirtualTissue.load(run)
    check_place(place)
    try:
        found = _scores(run, truth, pathways, tissue, anchors=anchors)
    except (AivcError, OSError):
        check_model(tissue.model, run)
        raise
    with staged(place) as beside:
        beside.write_text(text_of_evaluation(found))
        # Where the folder is swapped after this, `beside` is swapped away with it and never becomes scores of another.
        check_model(tissue.model, run)
        place.with_name(PAGE).unlink(missing_ok=True)  # it shows other scores
    return found


def _scores(
    run: Path, truth: Path | None, pathways: Path | None, tissue: VirtualTissue, *, anchors: bool
) -> Evaluation:
    config = load_config(run / "config.yaml", [])
    if (run / METRICS).exists():
        run_metrics(run)  # the report will show them; what is torn is told before the work
    known, built = find_truth(config, truth), built_facts(run)
    if known is not None:
        check_truth(known, tissue.graph, built.get("inputs"))
    given = pathways or config.evaluation.pathways
    asked = Asked(tissue, config, known, None if given is None else read_footprints(given))
    _check_weights(asked)
    curves = anchor_curves(asked) if anchors else []
    asked, not_ablated = _with_ablations(asked, run)
    scored, not_asked = list[Scored](), {}
    for name in TASKS:
        started = time.perf_counter()
        found = TASKS[name](asked)
        scored += found
        if not found:
            not_asked[name] = _needs(name)
        log.info("%s: %s", name, f"{time.perf_counter() - started:.1f} s" if found else f"not asked ({_needs(name)})")
    if not scored:
        needs = "; ".join(f"{name}: {_needs(name)}" for name in TASKS)
        raise QueryError(str(run), "nothing it could be asked", mend=f"what the tasks need: {needs}")
    judged, leaks = judge(scored), _leakage(built, asked, scored)
    risk = risk_of(judged, config.evaluation.weights)
    if asked.weights is None:
        not_asked["pathways"] = "weights: `evaluation.pathways`, or --weights"
    rows = {level: asked.scored(level) for level in asked.graph.levels}
    drawn = [one for one in scored if "crps" in one.metrics]
    return put_together(
        scored,
        judged,
        provenance=_provenance(run, built, asked) | hashes_of_weights(given) | {"ablations": _told(not_ablated)},
        risk=risk,
        leakage=leaks,
        calibration=[calibration_of(one, trained_on=asked.split == HIDDEN) for one in drawn],
        assays=tuple(predictive_checks(asked.model, asked.graph, rows)),
        type_contacts=tuple(type_contacts(asked.model, asked.graph, rows, asked.tissue.seed)),
        cycles=tuple(cycles(asked.model, asked.graph, rows)),
        anchors=tuple(curves),
        card=card_of(asked, scored, risk, not_asked, leaks, built.get("controls", {})),
    )


def _with_ablations(asked: Asked, run: Path) -> tuple[Asked, dict[str, str]]:
    """Return what is asked with the tissue's ablations, and why there is none of some."""
    rows = {level: asked.scored(level) for level in asked.model.plan.panels}
    tissues, missing = ablated(asked.tissue, Given(run, rows))
    return dataclasses.replace(asked, ablated=tissues), missing


def _check_weights(asked: Asked) -> None:
    """Raise a `QueryError` where weights tell of no pathway at any level, before any work."""
    panels = [by[names.RNA] for by in asked.model.plan.counts.values() if names.RNA in by]
    if asked.weights is not None and panels:
        Footprints(asked.weights, sorted({gene for panel in panels for gene in panel}))


def score_table(evaluation: Evaluation) -> pd.DataFrame:
    """Return a row a task and metric: the model, its best baseline, and their difference with its interval."""
    value = {(r.task, r.readout, r.metric, r.split, r.predictor): r.value for r in evaluation.results}
    rows = []
    for one in (one for one in evaluation.comparisons if one.against == "baseline"):
        key = (one.task, one.readout, one.metric, one.split)
        facts = dict(zip(("task", "readout", "metric", "split"), key, strict=True))
        scores = {"model": value[(*key, one.a)], "best baseline": one.b, "baseline": value[(*key, one.b)]}
        over = f"{one.n_units} {one.unit}{'' if one.n_units == 1 else 's'}"
        rows.append(
            {**facts, **scores, "difference": one.difference, "lower": one.lower, "upper": one.upper, "over": over}
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def _told(missing: dict[str, str]) -> dict[str, str]:
    """Return what each ablation is without, or why the run was not asked without it."""
    return {
        name: f"not asked: {missing[name]}" if name in missing else str(ABLATIONS.facts[name]["without"])
        for name in ABLATIONS
    }


def _needs(name: str) -> str:
    return str(TASKS.facts[name].get("needs", ""))


def _provenance(run: Path, built: dict[str, Any], asked: Asked) -> dict[str, Any]:
    facts = json.loads((run / "run.json").read_text())
    return {
        "task": facts.get("task", ""),
        "seed": facts["seed"],
        "graph": facts["graph"],
        "files": file_hashes(run / WEIGHTS) | built.get("inputs", {}),
        "split": asked.split,
        "truth": asked.truth is not None,
        "sections": [str(name) for name in asked.graph.obs(names.SECTION).index],
        "libraries": versions(LIBRARIES),
    }


def _leakage(built: dict[str, Any], asked: Asked, scored: list[Scored]) -> dict[str, Any]:
    by_level = {v: asked.leakage(v, asked.scored(v) & asked.counted(v)) for v in asked.model.plan.panels}
    accepted = [*accepted_leaks(built), *dict.fromkeys(leak for one in scored for leak in one.leaks)]
    found = {"measure": MEASURE, "by_level": by_level, "accepted": accepted}
    found["reach_um"] = built.get("reach_um", {})
    return found | (audit(asked) if asked.split != HIDDEN else {})
