"""Scores beside their baselines, from ``evaluation.json``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from aivc_graph.evaluation.records import Comparison, Result
from aivc_graph.report.words import words

QUESTIONS = {
    "modality": "Does one assay tell the other?",
    "scale": "Do finer and coarser levels agree?",
    "context": "Does it hold on tissue from elsewhere?",
    "intervention": "Does it answer what was never done?",
}
KINDS = ("model", "ablation", "baseline", "ceiling")
GROUP = ("axis", "task", "split", "scale", "modality", "readout", "metric")
WIDTH = 160
BETTER, NEITHER, WORSE = "Better than", "No clear difference from", "Worse than"


@dataclass(frozen=True)
class Row:
    """One predictor's score; `x`, `x_lower`, `x_upper` are places on the drawn axis, None where there is no number."""

    predictor: str
    kind: str
    value: float
    lower: float
    upper: float
    x: float | None
    x_lower: float | None
    x_upper: float | None


@dataclass(frozen=True)
class Board:
    """All predictors of one task, split and metric, with what follows for the model."""

    facts: dict[str, Any]
    rows: tuple[Row, ...]
    low: float
    high: float
    verdict: str


def boards_of(results: Sequence[Result], comparisons: Sequence[Comparison]) -> dict[str, list[Board]]:
    """Return the boards of each of the four axes; an axis that was not run has none."""
    table = pd.DataFrame([result.model_dump() for result in results])
    differences = pd.DataFrame([comparison.model_dump() for comparison in comparisons])
    boards: dict[str, list[Board]] = {axis: [] for axis in QUESTIONS}
    if len(table):
        for key, rows in table.groupby(list(GROUP), sort=False):
            board = _board(dict(zip(GROUP, key, strict=True)), rows, differences)
            boards[str(board.facts["axis"])].append(board)
    return boards


def _board(key: dict[str, Any], rows: pd.DataFrame, comparisons: pd.DataFrame) -> Board:
    numbers = rows[["value", "lower", "upper"]].apply(pd.to_numeric, errors="coerce").astype(float)
    low, high = float(numbers.min().min()), float(numbers.max().max())
    ends = (low, high) if high > low else (low - 0.5, high + 0.5)
    ordered = rows.assign(order=rows["kind"].map({kind: i for i, kind in enumerate(KINDS)}).fillna(len(KINDS)))
    best_first = -1 if bool(rows["higher_is_better"].iloc[0]) else 1
    ordered = ordered.assign(rank=best_first * numbers["value"]).sort_values(["order", "rank"], kind="stable")
    drawn = []
    for at, record in ordered.iterrows():
        value, lower, upper = (float(part) for part in numbers.loc[at])
        places = (_place(part, *ends) for part in (value, lower, upper))
        drawn.append(Row(record["predictor"], str(record["kind"]), value, lower, upper, *places))
    first = rows.iloc[0]
    facts = {**key, **{name: first[name] for name in ("unit", "n_units", "leakage")}}
    facts["higher_is_better"] = bool(first["higher_is_better"])
    return Board(facts, tuple(drawn), *ends, _verdict(facts, drawn, comparisons))


def summary_of(boards: dict[str, list[Board]]) -> str:
    """Say in one sentence how the model stands to the best baseline of each score."""
    verdicts = [board.verdict for of_axis in boards.values() for board in of_axis]
    better, worse, neither = (sum(v.startswith(word) for v in verdicts) for word in (BETTER, WORSE, NEITHER))
    untold = len(verdicts) - better - worse - neither
    return (
        f"Of {len(verdicts)} scores the model is clearly better than the best baseline in {better}, "
        f"clearly worse in {worse}, neither in {neither}{f'; {untold} without an interval' if untold else ''}."
    )


def _place(value: float, low: float, high: float) -> float | None:
    return round(8 + (WIDTH - 16) * (value - low) / (high - low), 1) if math.isfinite(value) else None


def _verdict(facts: dict[str, Any], rows: list[Row], comparisons: pd.DataFrame) -> str:
    """Say how the model stands to the best baseline: by their paired difference, or not at all."""
    model = next((row for row in rows if row.kind == "model"), None)
    baseline = next((row for row in rows if row.kind == "baseline"), None)
    if model is None or baseline is None:
        return "No baseline beside it: the number alone says little."
    found = _comparison(facts, model, baseline, comparisons)
    if found is None:
        return f"The best baseline is {words(baseline.predictor)}; the two were not compared unit by unit."
    if not all(map(math.isfinite, found)):
        (alone,) = signed(found[0])
        return f"Against the best baseline, {words(baseline.predictor)}: {alone}; too few units for an interval."
    gain, lower, upper = found if facts["higher_is_better"] else (-found[0], -found[2], -found[1])
    word = BETTER if lower > 0 else WORSE if upper < 0 else NEITHER
    said = signed(gain, lower, upper)
    return f"{word} the best baseline, {words(baseline.predictor)}: gain {said[0]} [{said[1]}, {said[2]}]."


def signed(*numbers: float) -> list[str]:
    """Return numbers with their signs, to as many decimals as two digits of the largest take: three to six."""
    largest = max((abs(one) for one in numbers if math.isfinite(one)), default=0.0)
    decimals = min(max(3, 1 - math.floor(math.log10(largest))), 6) if largest > 0 else 3
    return [f"{one:+.{decimals}f}".replace("-", "−") for one in numbers]


def _comparison(
    facts: dict[str, Any], model: Row, baseline: Row, comparisons: pd.DataFrame
) -> tuple[float, float, float] | None:
    """Return model − baseline and its interval on the same task, readout, metric and split."""
    if comparisons.empty:
        return None
    keys = [key for key in GROUP if key in comparisons]
    same = comparisons[(comparisons[keys] == [facts[key] for key in keys]).all(axis=1)]
    for a, b, sign in ((model.predictor, baseline.predictor, 1.0), (baseline.predictor, model.predictor, -1.0)):
        rows = same[(same["a"] == a) & (same["b"] == b)]
        if len(rows):
            one = pd.to_numeric(rows.iloc[0][["difference", "lower", "upper"]]).astype(float) * sign
            return one["difference"], min(one["lower"], one["upper"]), max(one["lower"], one["upper"])
    return None
