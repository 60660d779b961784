"""Scores on one scale, from floor to ceiling, and what they come to over axes and groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from aivc_graph.evaluation.intervals import DRAWS, interval
from aivc_graph.evaluation.metrics.metric import METRICS, Array
from aivc_graph.evaluation.records import AXES, PREDICTORS, Axis
from aivc_graph.evaluation.scoring import MODEL, Judged, rounded
from aivc_graph.evaluation.weighing import cvar, similarity_curve, weight_sensitivity

CLIP = 3.0
TAIL = 0.2
NOT_EVALUATED = "not evaluated"
NO_MODEL = "no model was asked, or it has no score"
BEST_RULE = "best baseline"
# The mean rule of a task, by preference; the best baseline where it has none of them.
FLOORS = ("global_mean", "mean_shift", "context_mean", "identity", "own_mixture")
CEILINGS = ("truth", "split_half", "replicate_half")
DEFINITION = (
    "risk = 1 - s = (u - r) / (b - r): 0 at the ceiling r, 1 at the mean rule b (at chance where a metric scores the "
    "mean rule by decree), clipped at 3; b and r as found, "
    "without their own uncertainty; mean over metrics of a readout, readouts of a task, tasks of an axis, axes by "
    "weight"
)


@dataclass(frozen=True)
class Scale:
    """What one score comes to: its `floor` and `ceiling` by name with their values, or why there is no scale."""

    floor: str | None
    ceiling: str | None
    b: float
    r: float
    reason: str = ""

    def risk(self, score: Any) -> Any:
        """Return the unclipped risk of scores."""
        return (score - self.r) / (self.b - self.r)


def scale_of(one: Judged) -> Scale:
    """Return the scale from the mean rule to the ceiling; the ceiling must be the better of the two.

    Where a metric gives the mean rule a score by decree, its `chance` stands in for it.
    """
    baselines = [name for name, kind in one.kinds.items() if kind == "baseline"]
    floor = next((name for name in FLOORS if name in baselines and _known(one, name)), one.best("baseline"))
    ceiling = next((name for name in CEILINGS if one.kinds.get(name) == "ceiling" and _known(one, name)), None)
    b, r = (float("nan") if name is None else one.estimates[name].value for name in (floor, ceiling))
    if floor is not None and "chance" in METRICS.facts[one.metric]:
        floor, b = "chance", float(METRICS.facts[one.metric]["chance"])  # type: ignore[arg-type]
    if floor is None:
        return Scale(None, ceiling, b, r, "no baseline has a score")
    if ceiling is None:
        return Scale(floor, None, b, r, one.task.no_ceiling if not one.task.ceilings else "no ceiling by this metric")
    gain = (r - b) if one.higher_is_better else (b - r)
    reason = "" if gain > 1e-9 else "a repeat of the measurement is no better than the mean rule: nothing to scale by"
    return Scale(floor, ceiling, b, r, reason)


def risk_of(judged: Iterable[Judged], weights: Mapping[Axis, float]) -> dict[str, Any]:
    """Return the aggregate risk of the model as ``evaluation.json`` holds it.

    .. math:: R = \\sum_a w_a \\, \\mathrm{mean}_{t \\in a} \\, \\mathrm{mean}_{f \\in t} \\, \\mathrm{mean}_m
        \\min(\\tilde l_{tfm}, 3)

    A task that is read in several terms f (genes, pathways, neighbourhoods) weighs as one, and so does each of them
    within it: neither more readouts nor more metrics of one make an axis or a task count more.

    The interval resamples the units of every score, equal units alike. An axis that was not run reads "not evaluated";
    one that was, but has no score with floor and ceiling, says why and takes no part.

    Parameters
    ----------
    weights
        By axis, not negative.
    """
    by_axis: dict[str, list[tuple[Judged, Scale]]] = {axis: [] for axis in AXES}
    for one in judged:
        by_axis[one.task.axis].append((one, scale_of(one)))
    found: dict[str, Any] = {axis: _axis(rows) if rows else NOT_EVALUATED for axis, rows in by_axis.items()}
    usable = {axis: [row for row in rows if not row[1].reason] for axis, rows in by_axis.items()}
    usable = {axis: [row for row in rows if _known(row[0], MODEL)] for axis, rows in usable.items()}
    given = {str(axis): weight for axis, weight in weights.items()}
    total = sum(given.get(axis, 0.0) for axis, rows in usable.items() if rows)
    used = {axis: given.get(axis, 0.0) / total for axis, rows in usable.items() if rows} if total > 0 else {}
    found |= {"definition": DEFINITION, "clip": CLIP, "weights": {axis: rounded(w) for axis, w in used.items()}}
    if not used:
        return found | {"total": {"value": None, "reason": "no axis with a weight has a score with floor and ceiling"}}
    parts = {axis: _risks(rows, MODEL) for axis, rows in usable.items() if axis in used}
    worst = max(parts, key=lambda axis: parts[axis]["value"])
    groups = _groups({axis: usable[axis] for axis in used}, used)
    predictors = _predictors({axis: usable[axis] for axis in used})
    return found | {
        "total": _weighted(parts, used),
        "worst_axis": {"axis": worst, "value": rounded(parts[worst]["value"])},
        "cvar_0.2": {"value": rounded(cvar(groups[:, 0], groups[:, 1], TAIL)), "n_groups": len(groups)},
        "similarity": similarity_curve(groups[:, 0], groups[:, 2]),
        "predictors": {who: rounded(sum(used[a] * one[a] for a in used)) for who, one in predictors.items()},
        "sensitivity": weight_sensitivity(predictors, used),
    }


def gaps_of(risk: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the axes that were not evaluated, and those that were but came to no risk, each with why."""
    return {
        "axes": [axis for axis, found in risk.items() if found == NOT_EVALUATED],
        "without_risk": [
            f"{axis}: {one['reason']}"
            for axis, one in risk.items()
            if isinstance(one, dict) and "scores" in one and one["value"] is None
        ],
    }


def _known(one: Judged, name: str) -> bool:
    return name in one.estimates and bool(np.isfinite(one.estimates[name].value))


def _axis(rows: list[tuple[Judged, Scale]]) -> dict[str, Any]:
    usable = [row for row in rows if not row[1].reason and _known(row[0], MODEL)]
    scores = []
    for one, scale in rows:
        value = one.estimates[MODEL].value if _known(one, MODEL) else float("nan")
        unclipped = None if scale.reason else rounded(scale.risk(value))
        key = {"task": one.task.task, "readout": one.task.readout, "metric": one.metric}
        ends = {"floor": scale.floor, "b": rounded(scale.b), "ceiling": scale.ceiling, "r": rounded(scale.r)}
        clipped = None if unclipped is None else min(unclipped, CLIP)
        scores.append({**key, **ends, "u": rounded(value), "risk": clipped, "unclipped": unclipped})
        if scale.reason:
            scores[-1]["reason"] = scale.reason
    found: dict[str, Any] = {"tasks": sorted({one.task.task for one, _ in rows})}
    if usable:
        part = _risks(usable, MODEL)
        found |= {key: rounded(part[key]) for key in ("value", "unclipped")}
        found |= _interval(part["draws"], part["n_scores"], part["held"], part["few"])
    else:
        found |= {"value": None, "reason": "; ".join(sorted({s.reason or NO_MODEL for _, s in rows}))}
    return found | {"scores": scores}


def _risks(rows: list[tuple[Judged, Scale]], who: str) -> dict[str, Any]:
    """Return the risk over the scores of an axis, tasks alike, with its draws and the numbers of units they are over.

    A score without draws stays as found.
    """
    shares = _shares(rows)
    values = np.array([scale.risk(one.estimates[who].value) for one, scale in rows])
    drawn, held, few = np.zeros(DRAWS), 0, []
    for share, value, (one, scale) in zip(shares, values, rows, strict=True):
        draws = one.estimates[who].draws
        fixed = draws is None or not np.isfinite(draws).all()
        held += fixed
        few += [] if fixed else [one.task.units.n]
        drawn += share * np.minimum(value if fixed else scale.risk(draws), CLIP)
    clipped, unclipped = float(shares @ np.minimum(values, CLIP)), float(shares @ values)
    return {"value": clipped, "unclipped": unclipped, "draws": drawn, "n_scores": len(rows), "held": held, "few": few}


def _interval(drawn: Array, n_scores: int, held: int, few: list[int]) -> dict[str, Any]:
    """Return the bounds of draws, as wide as the fewest units ask, and how many scores stand as found in them."""
    if held == n_scores:
        return {"lower": None, "upper": None, "interval": "too few units to resample"}
    low, high = interval(drawn, min(few))
    said = f"{held} of {n_scores} scores held as found: too few units to resample" if held else "over units"
    return {"lower": rounded(low), "upper": rounded(high), "interval": said}


def _shares(rows: list[tuple[Judged, Scale]]) -> Array:
    """Return the part each score has in its axis: tasks alike, readouts alike in each, and metrics in each of those."""
    tasks = [one.task.task for one, _ in rows]
    readouts = [(one.task.task, one.task.readout) for one, _ in rows]
    n_readouts = {task: len({key for key in readouts if key[0] == task}) for task in tasks}
    return np.array([1 / readouts.count(key) / n_readouts[key[0]] / len(set(tasks)) for key in readouts])


def _weighted(parts: dict[str, dict[str, Any]], weights: dict[str, float]) -> dict[str, Any]:
    found = {key: rounded(sum(weights[a] * parts[a][key] for a in weights)) for key in ("value", "unclipped")}
    n_scores, held = (sum(parts[axis][key] for axis in weights) for key in ("n_scores", "held"))
    few = [n for axis in weights for n in parts[axis]["few"]]
    return found | _interval(sum(weights[axis] * parts[axis]["draws"] for axis in weights), n_scores, held, few)


def _groups(usable: dict[str, list[tuple[Judged, Scale]]], weights: dict[str, float]) -> Array:
    """Return risk, mass and similarity to training of every unit of every score (group, 3)."""
    found = []
    for axis, rows in usable.items():
        for share, (one, scale) in zip(_shares(rows), rows, strict=True):
            values = np.minimum(scale.risk(one.estimates[MODEL].by_unit), CLIP)
            known = np.isfinite(values)
            mass = weights[axis] * share / max(known.sum(), 1)
            likeness = np.array([one.task.similarity.get(label, np.nan) for label in one.task.units.labels])
            found.append(np.column_stack([values, np.full(len(values), mass), likeness])[known])
    return np.concatenate(found)


def _predictors(usable: dict[str, list[tuple[Judged, Scale]]]) -> dict[str, dict[str, float]]:
    """Return the risk by axis of whoever has a score everywhere; the best rule of each score stands as one more."""
    rows = [row for of_axis in usable.values() for row in of_axis]
    everywhere = set.intersection(*(set(one.estimates) for one, _ in rows))
    able = [who for who in rows[0][0].kinds if who in everywhere and rows[0][0].kinds[who] in PREDICTORS]
    able = [who for who in able if all(_known(one, who) for one, _ in rows)]
    found = {who: {axis: _risks(of, who)["value"] for axis, of in usable.items()} for who in able}
    found[BEST_RULE] = {}
    for axis, of in usable.items():
        values = [scale.risk(one.estimates[str(one.best("baseline"))].value) for one, scale in of]
        found[BEST_RULE][axis] = float(_shares(of) @ np.minimum(values, CLIP))
    return found
