"""Two runs on the same units: paired differences of scores, adjusted for their number."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from aivc_graph.errors import ConfigError, Faults
from aivc_graph.evaluation.intervals import Estimate, Units, holm, resampled
from aivc_graph.evaluation.records import Evaluation, UnitScores
from aivc_graph.evaluation.scoring import MODEL, rounded

log = logging.getLogger(__name__)
Key = tuple[str, str, str]
ANEW = "run aivc evaluate again"
ROUNDED = 2e-6


def compare_evaluations(evaluations: Mapping[str, Evaluation]) -> pd.DataFrame:
    """Return a row for each pair of runs and each score both have: the mean over units of a's score less b's.

    ``score_a`` and ``score_b`` are the scores as `evaluate` and the page tell them. ``difference`` and its interval are
    of ``mean_a`` − ``mean_b``, means over units: these weigh every unit alike, where the scores weigh nodes or are
    roots and ratios of sums. The interval and the p-value resample units; p-values are
    adjusted by Holm's method within a task and readout. A score that only one of a pair has, or of which the two were
    asked different things while others agree, is left out.

    Parameters
    ----------
    evaluations
        Two or more, by the name of their run.

    Raises
    ------
    ConfigError
        If the runs were asked different things: other sections, another split, other units, other measurements; all
        reasons at once.
    """
    faults, rows, p_values = Faults(ConfigError), [], []
    for (a, one), (b, other) in itertools.combinations(evaluations.items(), 2):
        where = f"{a} and {b}"
        _check_alike(where, one, other, faults)
        bare = [name for name, of in ((a, one), (b, other)) if not of.units]
        if bare:
            faults.add(where, f"no scores by unit in {' and '.join(bare)}", "scores by unit", ANEW)
            continue
        scores = _by_score(one), _by_score(other)
        shared = [key for key in scores[0] if key in scores[1]]
        if not shared:
            faults.add(where, "no score that both have", "one task, readout and metric in common", ANEW)
        unlike = [key for key in shared if not _alike(scores[0][key], scores[1][key])]
        if len(unlike) == len(shared):
            for key in shared:
                _check_units(where, scores[0][key], scores[1][key], faults)
        elif unlike:  # what the niches of each run make of a measurement is of that run
            log.warning("%s: left out, as other things were asked: %s", where, "; ".join(map(" · ".join, unlike)))
        for key in (key for key in shared if key not in unlike):
            row, p = _difference(scores[0][key], scores[1][key])
            told = {f"score_{name}": _score(of, key) for name, of in (("a", one), ("b", other))}
            rows.append({"a": a, "b": b, **dict(zip(("task", "readout", "metric"), key, strict=True)), **told, **row})
            p_values.append(p)
    faults.raise_if_any()
    return pd.DataFrame(rows).assign(
        p_adjusted=pd.Series(holm(p_values, [(row["task"], row["readout"]) for row in rows]), dtype=float)
    )


def _check_alike(where: str, one: Evaluation, other: Evaluation, faults: Faults) -> None:
    for key in ("sections", "split"):
        found = one.provenance.get(key), other.provenance.get(key)
        if found[0] != found[1]:
            shown = f"{key} {_shown(found[0])} and {_shown(found[1])}"
            faults.add(where, shown, f"the same {key}", "compare runs of one split")


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value[:4])) + (f", … {len(value) - 4} more" if len(value) > 4 else "")
    return repr(value)


def _by_score(one: Evaluation) -> dict[Key, UnitScores]:
    return {(u.task, u.readout, u.metric): u for u in one.units if MODEL in u.values}


def _score(of: Evaluation, key: Key) -> float | None:
    """Return the model's score as it stands in an evaluation."""
    found = (one.value for one in of.results if (one.task, one.readout, one.metric) == key and one.kind == "model")
    return next(found, None)


def _alike(one: UnitScores, other: UnitScores) -> bool:
    return (one.unit, one.names, one.asked) == (other.unit, other.names, other.asked)


def _check_units(where: str, one: UnitScores, other: UnitScores, faults: Faults) -> None:
    name = f"{where} · {one.task} · {one.readout} · {one.metric}"
    if (one.unit, one.names) != (other.unit, other.names):
        found = f"{len(one.names)} {one.unit}s and {len(other.names)} {other.unit}s that are not the same"
        faults.add(name, found, "the same units", "evaluate both on the same graph")
    elif one.asked != other.asked:
        mend = "evaluate both on the same graph or files, with the same seed: it draws who is hidden"
        faults.add(name, "other measurements", "the same ones", mend)


def _difference(one: UnitScores, other: UnitScores) -> tuple[dict[str, Any], float | None]:
    pairs = [(x, y) for x, y in zip(one.values[MODEL], other.values[MODEL], strict=True) if None not in (x, y)]
    values = np.array(pairs, float).reshape(-1, 2)
    differences = values[:, 0] - values[:, 1]
    # What was written is rounded: a smaller difference is none.
    differences[np.abs(differences) <= ROUNDED * np.abs(values).max(axis=1)] = 0.0
    n = len(differences)
    weights = resampled(Units(np.arange(n), one.unit, np.zeros(n, int)))
    mean = float(differences.mean()) if n else float("nan")
    found = Estimate(mean, None if weights is None else weights @ differences / n, differences)
    lower, upper = found.bounds()
    row = {
        "split": one.split,
        "mean_a": rounded(float(values[:, 0].mean())) if n else None,
        "mean_b": rounded(float(values[:, 1].mean())) if n else None,
        "difference": rounded(mean),
        "lower": rounded(lower),
        "upper": rounded(upper),
        "higher_is_better": one.higher_is_better,
        "unit": one.unit,
        "n_units": n,
    }
    return row, found.p_of_none()
