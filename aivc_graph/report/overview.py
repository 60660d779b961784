"""The evaluation at a glance: each score between mean rule and ceiling, the risk of each axis, what may leak."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from aivc_graph import names
from aivc_graph.evaluation.records import AXES, Evaluation, Result
from aivc_graph.report.scores import QUESTIONS
from aivc_graph.report.words import plural, words

WIDTH, INSET = 320, 10
LEFT, RIGHT = -0.5, 1.25
Key = tuple[str, str, str]
# Scores of one task that are drawn at once; further ones are folded away below them.
SHOWN = 4


@dataclass(frozen=True)
class Mark:
    """One score as drawn: places on the axis, and the same in words.

    `beyond` says that the model lies left (−1) or right (1) of what is drawn.
    """

    label: str
    readout: str
    model: float
    rule: float | None
    lower: float | None
    upper: float | None
    beyond: int
    said: str


@dataclass(frozen=True)
class Group:
    """The marks of one task: those drawn at once, and those folded away."""

    task: str
    shown: tuple[Mark, ...]
    folded: tuple[Mark, ...]


def overview_of(evaluation: Evaluation) -> dict[str, Any]:
    """Return what the page says before the single scores."""
    scores = [score for axis in AXES for score in _axis(evaluation, axis).get("scores", ())]
    results: dict[Key, list[Result]] = {}
    for result in evaluation.results:
        results.setdefault((result.task, result.readout, result.metric), []).append(result)
    scaled = [s for s in scores if s["risk"] is not None]
    return {
        "groups": _groups(scaled, results),
        "unscaled": _unscaled([s for s in scores if s["risk"] is None]),
        "ticks": {name: place(value) for name, value in (("mean rule", 0.0), ("ceiling", 1.0))},
        "axes": [_axis_row(axis, _axis(evaluation, axis)) for axis in AXES],
        "total": _total(evaluation.risk),
        "leaks": _leaks(evaluation.leakage),
        "calibration": [_calibration(one) for one in evaluation.calibration],
        "inversions": [_inversion(one) for one in _by_first_error(evaluation) if one["inverted"]],
        "n_inversions": len(evaluation.inversions),
    }


def place(scaled: float) -> float:
    """Return where a scaled score lies on the drawn axis, its ends at most."""
    inside = min(max(scaled, LEFT), RIGHT)
    return round(INSET + (WIDTH - 2 * INSET) * (inside - LEFT) / (RIGHT - LEFT), 1)


def _axis(evaluation: Evaluation, axis: str) -> dict[str, Any]:
    found = evaluation.risk[axis]
    return found if isinstance(found, dict) else {}


def _groups(scaled: list[dict[str, Any]], results: dict[Key, list[Result]]) -> list[Group]:
    """Return marks by task, the first score of each of its readouts before the second of any."""
    of: dict[str, list[Mark]] = {}
    for score in sorted(scaled, key=lambda one: _place_in_readout(one, scaled)):
        of.setdefault(score["task"], []).append(_mark(score, results[score["task"], score["readout"], score["metric"]]))
    of = {task: of[task] for task in dict.fromkeys(score["task"] for score in scaled)}
    return [Group(words(task), tuple(marks[:SHOWN]), tuple(marks[SHOWN:])) for task, marks in of.items()]


def _place_in_readout(score: dict[str, Any], scores: list[dict[str, Any]]) -> int:
    """Return how many scores of the same task and readout stand before one."""
    alike = [one for one in scores if (one["task"], one["readout"]) == (score["task"], score["readout"])]
    return next(i for i, one in enumerate(alike) if one is score)


def _mark(score: dict[str, Any], results: list[Result]) -> Mark:
    def scale(value: float) -> float:
        return (value - score["b"]) / (score["r"] - score["b"])

    model = next(r for r in results if r.kind == "model")
    rules = [scale(r.value) for r in results if r.kind == "baseline" and r.value is not None]
    ends = [scale(end) for end in (model.lower, model.upper) if end is not None]
    s, rule = scale(score["u"]), max(rules, default=None)
    said = f"model {s:.2f}" + (f", 95 % interval {min(ends):.2f} to {max(ends):.2f}" if len(ends) == 2 else "")
    said += f", best baseline {rule:.2f}" if rule is not None else ""
    return Mark(
        label=f"{words(score['task'])}, {words(score['metric'])}",
        readout=f"{score['readout']}; {_ceiling(score['ceiling'])}",
        model=place(s),
        rule=None if rule is None else place(rule),
        lower=place(min(ends)) if len(ends) == 2 else None,
        upper=place(max(ends)) if len(ends) == 2 else None,
        beyond=-1 if s < LEFT else 1 if s > RIGHT else 0,
        said=f"{said} (0 mean rule, 1 ceiling)".replace("-", "−"),
    )


def _ceiling(name: str) -> str:
    return "1 is the truth" if name == "truth" else "1 is a repeat of the measurement"


def _unscaled(scores: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return why scores have no place on the common scale, and which they are."""
    found: dict[str, list[str]] = {}
    for score in scores:
        named = f"{words(score['task'])}, {words(score['metric'])} ({score['readout']})"
        found.setdefault(score.get("reason", "the model has no score"), []).append(named)
    return [(reason, "; ".join(names)) for reason, names in found.items()]


def _axis_row(axis: str, found: dict[str, Any]) -> dict[str, Any]:
    counted = sorted({score["task"] for score in found.get("scores", ()) if score["risk"] is not None})
    numbers = {key: _number(found.get(key)) for key in ("value", "lower", "upper")}
    return {
        "axis": axis,
        "question": QUESTIONS[axis],
        "tasks": ", ".join(map(words, counted or found.get("tasks", ()))),
        "reason": found.get("reason", "") if found else "not evaluated",
        **numbers,
    }


def _total(risk: dict[str, Any]) -> dict[str, Any] | None:
    total = risk.get("total")
    if not isinstance(total, dict) or total.get("value") is None:
        return None
    weights = ", ".join(f"{axis} {weight:.2f}" for axis, weight in risk["weights"].items())
    return {**total, "weights": weights, "worst": risk["worst_axis"], "tail": risk["cvar_0.2"]} | {
        "sensitivity": risk["sensitivity"],
        "similarity": risk["similarity"],
        "rule": risk["predictors"].get("best baseline"),
    }


def _leaks(leakage: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what was looked for and what was found, in words; parts that were not looked at are left out."""
    found = []
    for split, share in leakage.get("by_split", {}).items():
        found.append((f"scored nodes ({split}) whose donor or very counts were trained on", f"{share:.1%}"))
    for level, kinds in leakage.get("groups", {}).items():
        shared = ", ".join(f"{kind} {share:.0%}" for kind, share in kinds.items())
        found.append((f"{plural(2, level)} whose group was trained on too", shared))
    for level, one in leakage.get("similarity", {}).items():
        if _number(one.get("value")) is not None and _number(one.get("by_chance")) is not None:
            said = f"{one['value']:.2f}, by chance {one['by_chance']:.2f}"
            found.append((f"{_looked_at(level)}: share of all likeness that lies across the split", said))
    for level, one in leakage.get("nearest", {}).items():
        if _number(one.get("ratio")) is not None:
            told = "from the nearest that trained, over that among themselves"
            found.append((f"{_looked_at(level)}: distance {told}", f"{one['ratio']:.2f}"))
    for level, probes in leakage.get("optimism", {}).items():
        for name, one in probes.items():
            if _number(one.get("gap")) is not None:
                said = f"{one['gap']:+.2f}".replace("-", "−")
                found.append(
                    (f"{_looked_at(level)}: how much better a random split would have looked, by {name}", said)
                )
    return found


def _looked_at(name: str) -> str:
    """Return the nodes of a level as a word, or the name of a question."""
    return plural(2, name) if name in names.LEVELS else words(name)


def _calibration(one: dict[str, Any]) -> str:
    said, band = f"{words(one['task'])}: ", "A band around the answer, calibrated on"
    if one["stated"] is not None:
        said += (
            f"stated intervals of {one['level']:.0%} hold {one['stated']['coverage']:.0%} of what was measured, "
            f"{one['stated']['worst']['coverage']:.0%} in the {one['unit']} that fares worst. "
        )
        band = "Widened by"
    if one["conformal"] is None:
        return f"{said}No band for new {one['unit']}s: {one['reason']}.{_worst_group(one)}"
    calibrated, worst = (part["coverage"] for part in (one["conformal"], one["conformal"]["worst"]))
    said += f"{band} the other {one['unit']}s {'holds' if one['stated'] is None else 'they hold'} {calibrated:.0%}"
    return f"{said}, at worst {worst:.0%}.{_worst_group(one)}"


def _worst_group(one: dict[str, Any]) -> str:
    """Say how the kind of node fares that is covered worst, by what is stated and by a band of its own."""
    said = ""
    for what, worst in one.get("worst_group", {}).items():
        band = "intervals as stated" if what == "stated" else "a band for each kind"
        if worst is not None:
            said += f" By {band}, {worst['group']} fares worst: {worst['coverage']:.0%}."
        elif one["conformal"] is not None:
            said += f" No {band[2:]}: {next(iter(one['by_group'].values()))['reason']}."
    return said


def _by_first_error(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return what disagrees with the first error of each task; further errors say much the same."""
    first: dict[str, Any] = {}
    for one in evaluation.inversions:
        first.setdefault(one["task"], one["error"])
    return [one for one in evaluation.inversions if one["error"] == first[one["task"]]]


def _inversion(one: dict[str, Any]) -> dict[str, Any]:
    first = one["inverted"][0]
    return {
        "task": words(one["task"]),
        "error": f"{words(one['error'][1])} ({one['error'][0]})",
        "readout": f"{words(one['readout'][1])} ({one['readout'][0]})",
        "share": f"{len(one['inverted'])} of {one['pairs']}",
        "such_as": f"{words(first['better_by_readout'])} over {words(first['better_by_error'])}",
    }


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
