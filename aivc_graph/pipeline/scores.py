"""Scores of tables: composed as ``evaluation.json``, written, and shown as a table."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from aivc_graph.atomic import staged
from aivc_graph.evaluation.calibration import bands_of
from aivc_graph.evaluation.inversions import inversions_of
from aivc_graph.evaluation.records import AXES, Axis, Evaluation
from aivc_graph.evaluation.responses.asking import READOUT
from aivc_graph.evaluation.responses.collapse import LEAST, distinctness
from aivc_graph.evaluation.responses.views import Measured, Predicted
from aivc_graph.evaluation.risk import gaps_of, risk_of
from aivc_graph.evaluation.scoring import (
    Judged,
    Scored,
    comparisons_of,
    judge,
    results_of,
    rounded,
    units_of_scores,
    with_audits,
)

log = logging.getLogger(__name__)
FILE = "evaluation.json"
LIBRARIES = ("aivc-graph", "numpy", "scipy", "scikit-learn")


def write_scores(
    scored: Sequence[Scored],
    out: Path,
    *,
    provenance: dict[str, Any],
    leakage: dict[str, Any],
    card: dict[str, Any],
    weights: Mapping[Axis, float],
) -> Evaluation:
    """Score what was asked, write ``evaluation.json`` into the folder `out`, and return what it holds.

    Parameters
    ----------
    scored
        Tasks with everybody's answers.
    provenance
        What the scores rest on; versions, and how distinct the model's predictions are, are added.
    leakage
        As `put_together` takes it.
    card
        Data, split, assumptions and gaps; axes that were not evaluated are added.
    weights
        Of the axes in the risk.
    """
    started = time.perf_counter()
    judged = []
    for one in scored:
        began = time.perf_counter()
        judged += judge([one])
        log.info("%s: %d metrics, %.1f s", one.task, len(one.metrics), time.perf_counter() - began)
    genes = [one for one in scored if one.readout == READOUT]
    distinct = {one.task: share for one in genes if (share := _distinct(one)) is not None}
    for task, share in distinct.items():
        if share < LEAST:
            log.warning("%s: predictions are all alike (%.2g of the measured differences between them)", task, share)
    risk = risk_of(judged, weights)
    made = {
        "distinctness": {task: rounded(share) for task, share in distinct.items()},
        "collapsed": sorted(task for task, share in distinct.items() if share < LEAST),
    }
    found = put_together(
        scored,
        judged,
        provenance={**provenance, "libraries": versions(LIBRARIES), **made},
        risk=risk,
        leakage=leakage,
        card={**card, "not_evaluated": {**card["not_evaluated"], **gaps_of(risk)}},
    )
    place = Path(out) / FILE
    with staged(place) as beside:
        beside.write_text(text_of_evaluation(found))
    log.info("%d scores in %.1f s; wrote %s", len(found.results), time.perf_counter() - started, place)
    return found


def put_together(
    scored: Sequence[Scored],
    judged: Sequence[Judged],
    *,
    leakage: dict[str, Any],
    calibration: Sequence[dict[str, Any]] = (),
    **facts: Any,
) -> Evaluation:
    """Return scores as ``evaluation.json`` holds them, and say what the split was let share.

    Parameters
    ----------
    scored, judged
        What was asked, and what everybody came to.
    leakage
        How leakage was measured, what leaks and was accepted; the audit and the figure by split are added.
    calibration
        Of tasks that have draws; bands of responses are added.
    facts
        Further fields of `Evaluation`.
    """
    for leak in leakage.get("accepted", ()):
        log.warning("the split leaks: %s", leak)
    results = results_of(judged)
    bands = (bands_of(one) for one in scored if one.readout == READOUT)
    by_split = {one: max(s.leakage for s in scored if s.split == one) for one in {s.split for s in scored}}
    return Evaluation(
        leakage=with_audits(leakage, scored) | {"by_split": by_split},
        results=tuple(results),
        comparisons=tuple(comparisons_of(judged)),
        units=tuple(units_of_scores(judged)),
        calibration=(*calibration, *(band for band in bands if band is not None)),
        inversions=tuple(inversions_of(results)),
        **facts,
    )


def text_of_evaluation(evaluation: Evaluation) -> str:
    """Return scores as the text of ``evaluation.json``."""
    return json.dumps(evaluation.model_dump(mode="json"), indent=1) + "\n"


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """Return the version of each library."""
    return {name: version(name) for name in libraries}


def board(evaluation: Evaluation) -> pd.DataFrame:
    """Return a row a task, readout and metric: model, best baseline, and the model between mean rule and ceiling.

    The scale is that of the risk: s = (u - b) / (r - b), 0 the mean rule b, 1 a replicate r.
    """
    scales = {
        (one["task"], one["readout"], one["metric"]): one
        for axis in AXES
        if isinstance(evaluation.risk[axis], dict)
        for one in evaluation.risk[axis]["scores"]
    }
    rows = []
    for key in dict.fromkeys((one.task, one.readout, one.metric) for one in evaluation.results):
        found = [one for one in evaluation.results if (one.task, one.readout, one.metric) == key]
        known = [one for one in found if one.kind == "baseline" and one.value is not None]
        if known:
            best = (max if found[0].higher_is_better else min)(known, key=lambda one: one.value or 0.0)
            scale = scales.get(key, {})
            risk = scale.get("unclipped")
            ends = {"mean rule": scale.get("b"), "ceiling": scale.get("r")}
            model = {"model": next((one.value for one in found if one.kind == "model"), None)}
            rules = {"best baseline": best.predictor, "baseline": best.value}
            scaled = {"scaled": None if risk is None else 1 - risk, best.unit + "s": best.n_units}
            named = dict(zip(("task", "readout", "metric"), key, strict=True))
            rows.append({**named, **model, **rules, **ends, **scaled})
    return pd.DataFrame(rows).dropna(axis=1, how="all")


def text_of(table: pd.DataFrame, heads: Sequence[str], number: str = "{:.4g}") -> str:
    """Return a table as lines that fit a terminal: what `heads` say stands once, above the rows that share it."""
    own = table.drop(columns=list(heads))
    first, *lines = own.to_string(index=False, na_rep="", float_format=number.format).splitlines()
    shown, last = [first], ""
    for head, line in zip(table[list(heads)].astype(str).agg(" · ".join, axis=1), lines, strict=True):
        shown += [line] if head == last else [head, line]
        last = head
    return "\n".join(shown)


def _distinct(one: Scored) -> float | None:
    if not isinstance(one.measured, Measured) or not isinstance(one.model, Predicted):
        return None
    return distinctness(one.model, one.measured)
