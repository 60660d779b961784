"""Scores beside their baselines, from ``evaluation.json``."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from aivc_graph.errors import StoreError

AXES = {
    "modality": "Does one assay tell the other?",
    "scale": "Do finer and coarser levels agree?",
    "context": "Does it hold on tissue from elsewhere?",
    "intervention": "Does it answer what was never done?",
}
KINDS = ("model", "ablation", "baseline", "ceiling")
GROUP = ("axis", "task", "split", "scale", "modality", "readout", "metric")
NEEDED = {"axis", "task", "metric", "predictor", "kind", "value", "higher_is_better"}
WIDTH = 160


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


def read_evaluation(file: Path) -> dict[str, Any] | None:
    """Return the evaluation of a run, or None where nothing was run.

    Raises
    ------
    StoreError
        If the file is damaged, or its records lack what a score needs.
    """
    if not file.exists():
        return None
    mend = "evaluate the run again: aivc evaluate RUN"
    try:
        found = dict(json.loads(file.read_text()))
        missing = sorted({key for record in found["results"] for key in NEEDED - set(record)})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StoreError(str(file), f"unreadable ({error})", mend=mend) from error
    if missing:
        raise StoreError(str(file), f"a result without {', '.join(missing)}", mend=mend)
    return found


def boards_of(evaluation: dict[str, Any]) -> dict[str, list[Board]]:
    """Return the boards of each of the four axes; an axis that was not run has none."""
    table = pd.DataFrame(evaluation["results"]).reindex(columns=_columns(evaluation["results"]))
    comparisons = pd.DataFrame(evaluation.get("comparisons", []))
    boards: dict[str, list[Board]] = {axis: [] for axis in AXES}
    if len(table):
        for key, rows in table.groupby(list(GROUP), sort=False, dropna=False):
            board = _board(dict(zip(GROUP, key, strict=True)), rows, comparisons)
            boards.setdefault(str(board.facts["axis"]), []).append(board)
    return boards


def _columns(results: list[dict[str, Any]]) -> list[str]:
    always = [*GROUP, "predictor", "kind", "value", "lower", "upper", "higher_is_better", "unit", "n_units", "leakage"]
    return list(dict.fromkeys([*always, *(key for record in results for key in record)]))


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
        drawn.append(Row(str(record["predictor"]), str(record["kind"]), value, lower, upper, *places))
    first = rows.iloc[0]
    facts = {**{name: None if part != part else part for name, part in key.items()}}
    facts |= {name: None if first[name] != first[name] else first[name] for name in ("unit", "n_units", "leakage")}
    facts["higher_is_better"] = bool(first["higher_is_better"])
    return Board(facts, tuple(drawn), *ends, _verdict(facts, drawn, comparisons))


def _place(value: float, low: float, high: float) -> float | None:
    return round(8 + (WIDTH - 16) * (value - low) / (high - low), 1) if math.isfinite(value) else None


def _verdict(facts: dict[str, Any], rows: list[Row], comparisons: pd.DataFrame) -> str:
    """Say how the model stands to the best baseline: by their paired difference, or not at all."""
    model = next((row for row in rows if row.kind == "model"), None)
    baseline = next((row for row in rows if row.kind == "baseline"), None)
    if model is None or baseline is None:
        return "No baseline beside it: the number alone says little."
    found = _comparison(facts, model.predictor, baseline.predictor, comparisons)
    if found is None:
        return f"The best baseline is {baseline.predictor}; the two were not compared unit by unit."
    if not all(map(math.isfinite, found)):
        return f"Against the best baseline, {baseline.predictor}: {found[0]:+.3f}; too few units for an interval."
    gain, lower, upper = found if facts["higher_is_better"] else (-found[0], -found[2], -found[1])
    word = "Better than" if lower > 0 else "Worse than" if upper < 0 else "No clear difference from"
    return f"{word} the best baseline, {baseline.predictor}: gain {gain:+.3f} [{lower:+.3f}, {upper:+.3f}]."


def _comparison(
    facts: dict[str, Any], model: str, baseline: str, comparisons: pd.DataFrame
) -> tuple[float, float, float] | None:
    """Return model − baseline and its interval on the same task, metric and split."""
    if comparisons.empty:
        return None
    keys = [key for key in GROUP if key in comparisons and facts[key] is not None]
    same = comparisons[(comparisons[keys] == [facts[key] for key in keys]).all(axis=1)]
    for a, b, sign in ((model, baseline, 1.0), (baseline, model, -1.0)):
        rows = same[(same["a"] == a) & (same["b"] == b)]
        if len(rows):
            one = pd.to_numeric(rows.iloc[0][["difference", "lower", "upper"]]).astype(float) * sign
            return one["difference"], min(one["lower"], one["upper"]), max(one["lower"], one["upper"])
    return None
