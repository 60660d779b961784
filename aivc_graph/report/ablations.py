"""Does the graph earn its place: each question beside the same without messages, and without the graph's own edges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aivc_graph.evaluation.records import Comparison, Evaluation
from aivc_graph.graph.known import CONTROLS
from aivc_graph.query.ablations import ABLATIONS, MESSAGES_OFF, REWIRED
from aivc_graph.report.scores import signed
from aivc_graph.report.words import words

# What an answer must gain over for the graph to earn its place: no graph at all, and another of the same degrees.
WITHOUT_GRAPH = (MESSAGES_OFF, REWIRED)
# And for what is known of genes to earn its own.
WITHOUT_PRIOR = tuple(f"prior_{kind}" for kind in CONTROLS)
Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Gain:
    """What the model gains over another, more being better: in words, and between which bounds."""

    value: float
    lower: float | None
    upper: float | None

    @property
    def same(self) -> bool:
        """Whether the two never differ."""
        return self.value == self.lower == self.upper == 0

    @property
    def said(self) -> str:
        """The gain alone."""
        return signed(self.value)[0]

    @property
    def bounds(self) -> str:
        """Its interval, or that there is none."""
        return "no interval" if self.lower is None or self.upper is None else "[{}, {}]".format(*self._signed()[1:])

    @property
    def whole(self) -> str:
        """Gain and interval together."""
        return f"{self.said}, too few units for an interval" if self.lower is None else f"{self.said} {self.bounds}"

    def _signed(self) -> list[str]:
        return signed(self.value, self.lower or 0.0, self.upper or 0.0)


@dataclass(frozen=True)
class Question:
    """One question: the model's score, its gains over each ablation, its best baseline, and what follows."""

    name: str
    metric: str
    model: float
    gains: dict[str, Gain]
    baseline: str
    over_baseline: Gain
    verdict: str
    rests_on: str


def ablations_of(evaluation: Evaluation) -> dict[str, Any] | None:
    """Return the table of ablations and what it says, None where nothing was asked without a part."""
    found: dict[Key, list[Comparison]] = {}
    for one in evaluation.comparisons:
        found.setdefault((one.task, one.readout, one.metric, one.split), []).append(one)
    score = {
        (r.task, r.readout, r.metric, r.split): r.value
        for r in evaluation.results
        if r.kind == "model" and r.value is not None
    }
    questions = [
        _question(key, score[key], of) for key, of in found.items() if any(one.against == "ablation" for one in of)
    ]
    if not questions:
        return None
    asked = {one.task for one in evaluation.comparisons if one.against == "ablation"}
    columns = (*WITHOUT_GRAPH, *(name for name in ABLATIONS if name not in WITHOUT_GRAPH), *WITHOUT_PRIOR)
    told = evaluation.provenance.get("ablations", {})
    return {
        "questions": questions,
        "columns": [name for name in columns if any(name in one.gains for one in questions)],
        "missing": {words(name): said for name, said in told.items() if said.startswith("not asked")},
        "others": ", ".join(sorted({words(r.task) for r in evaluation.results} - {words(task) for task in asked})),
    }


def _question(key: Key, score: float, comparisons: Iterable[Comparison]) -> Question:
    gains = {one.b: _gain(one) for one in comparisons if one.against == "ablation"}
    rule = next(one for one in comparisons if one.against == "baseline")
    asked = WITHOUT_GRAPH if set(WITHOUT_GRAPH) & set(gains) else WITHOUT_PRIOR
    verdict, rests_on = _verdict({name: gains[name] for name in asked if name in gains})
    name = f"{words(key[0])}, {key[1]}"
    return Question(name, words(key[2]), score, gains, words(rule.b), _gain(rule), verdict, rests_on)


def _gain(one: Comparison) -> Gain:
    if one.higher_is_better or one.lower is None or one.upper is None:
        return Gain(one.difference if one.higher_is_better else 0.0 - one.difference, one.lower, one.upper)
    return Gain(0.0 - one.difference, 0.0 - one.upper, 0.0 - one.lower)


def _verdict(gains: dict[str, Gain]) -> tuple[str, str]:
    """Return a word on whether the graph earns its place, and the least of what it gains, which the word rests on."""
    if not gains:
        return "not asked", ""
    name, least = min(gains.items(), key=lambda one: one[1].value)
    if all(gain.same for gain in gains.values()):
        return "no effect", " (the answer is the same without it)"
    over = f" ({least.whole} over {words(name)})"
    if any(gain.upper is not None and gain.upper < 0 for gain in gains.values()):
        return "no, it hurts", over
    if any(gain.lower is None for gain in gains.values()):
        return "too few units to tell", over
    return "yes" if all(gain.lower > 0 for gain in gains.values() if gain.lower is not None) else "not shown", over
