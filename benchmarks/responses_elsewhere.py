"""The intervention operator beside every rule, on screens other than Norman 2019 and on drawn ones.

    AIVC_DATA=… OMP_NUM_THREADS=1 nice -n 10 python benchmarks/responses_elsewhere.py

Writes ``benchmarks/results/responses_elsewhere.json``: for each set and question the squared error and Pearson-Δ of
model and rules, the best rule in hindsight, and the model's error relative to it, with a 95 % interval over conditions.
The design was chosen on `CHOSEN_ON` and on drawn screens of other seeds; the others had no part in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from response_sets import INTERACTIONS, Floats, drawn, of_states, sets_in
from result_file import write_result

from aivc_graph.config import data_folder
from aivc_graph.evaluation import intervals
from aivc_graph.evaluation.baselines.baseline import run_baselines
from aivc_graph.evaluation.responses.asking import READOUT, conditions_in, scene_of
from aivc_graph.evaluation.responses.questions import Question, conditions_of_table, question_of
from aivc_graph.evaluation.responses.table import Responses
from aivc_graph.operators.intervention.condition_stack import RULES, predict_responses, rules
from aivc_graph.splits.design import split_design
from aivc_graph.splits.drawn import AbstractDrawnSplit

OUT = Path(__file__).parent / "results" / "responses_elsewhere.json"
CHOSEN_ON = ("korkut15", "hepg2 midas", "mathews14", "gi fitness 0", "gi fitness 1", "l1000 shrna", "p100",
             "l1000 a375", "l1000 a375 10 uM", "l1000 a375 1.11 uM", "l1000 lines")  # fmt: skip
OF_CONTEXTS = ("l1000 times",)
SEEDS = range(100, 104)
DRAWS = 2000
# Rules that are no peers: labels shuffled on purpose, and the model's own part.
NO_PEERS = ("model", "label_shuffled", "best linear")
LEAST_GENES = 10


def main() -> None:
    """Ask everything and write the figures."""
    found: dict[str, Any] = {"sets": {}, "drawn": {}}
    for name, read in sets_in(data_folder()).items():
        table = read()
        for question in asked_of(name, table):
            row = summary(*answers(table, question))
            found["sets"][f"{name}: {question.name}"] = {"part in the design": name in CHOSEN_ON, **row}
            show(f"{name}: {question.name}", row)
    pooled: dict[str, list[tuple[dict[str, Floats], dict[str, Floats]]]] = {}
    for how in INTERACTIONS:
        for noise in (0.15, 0.5):
            for seed in SEEDS:
                table = drawn(how, seed, noise, seed % 2 == 0)
                for question in asked_of("drawn", table):
                    pooled.setdefault(f"{how}, noise {noise}: {question.name}", []).append(answers(table, question))
    for follows, name in ((True, "follow the untreated state"), (False, "are of the context alone")):
        for seed in SEEDS:
            table = of_states(follows, seed)
            for question in asked_of("drawn", table):
                pooled.setdefault(f"effects {name}: {question.name}", []).append(answers(table, question))
    for name, parts in pooled.items():
        errors, likeness = ({k: np.concatenate([one[i][k] for one in parts]) for k in parts[0][i]} for i in (0, 1))
        found["drawn"][name] = summary(errors, likeness)
        show(name, found["drawn"][name])
    found["in all"] = {kind: in_all(found[kind]) for kind in ("sets", "drawn")}
    write_result(OUT, found)
    print(json.dumps(found["in all"], indent=1))


def asked_of(name: str, table: Responses) -> list[Question]:
    """Return the questions of a table; of one with many contexts, new contexts alone."""
    many = len(set(table.context)) > 2 or name in OF_CONTEXTS
    pairs = [{"kind": "by_intervention", "hold": "combination", "seen": n} for n in (2, 1, 0)]
    targets = {"kind": "by_intervention", "n_test": -(-len(table.targets) // 5)}
    found = [put(table, **one) for one in ([{"kind": "by_context"}] if many else [targets, *pairs])]
    return [one for one in found if one is not None]


def put(table: Responses, kind: str, within: Sequence[str] = (), **options: Any) -> Question | None:
    """Return a question by its design, None where a table has nothing of the kind."""
    design, conditions = split_design(kind, **options), conditions_of_table(table)
    assert isinstance(design, AbstractDrawnSplit)
    return question_of(design, table, conditions, within) if design.drawn_from(conditions) else None


def answers(table: Responses, question: Question) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Return the squared error of each condition by predictor, relative to the mean square of all, and Pearson-Δ."""
    errors: dict[str, list[Floats]] = {}
    likeness: dict[str, list[Floats]] = {}
    for fold in question.folds:
        true = table.effect[fold.asked]
        said = run_baselines(scene_of(table, fold), READOUT)
        said["model"] = predict_responses(conditions_in(table, fold), fold.asked)
        said["best linear"] = rules(conditions_in(table, fold), np.flatnonzero(fold.asked))[RULES.index("best linear")]
        for name, answer in said.items():
            errors.setdefault(name, []).append(((answer - true) ** 2).mean(axis=1))
            likeness.setdefault(name, []).append(np.array([pearson(a, b) for a, b in zip(answer, true, strict=True)]))
    size = float((table.effect[question.asked] ** 2).mean())
    n = len(question.folds)
    return (
        {name: np.concatenate(one) / size for name, one in errors.items() if len(one) == n},
        {name: np.concatenate(one) for name, one in likeness.items() if len(one) == n},
    )


def pearson(a: Floats, b: Floats) -> float:
    """Return the correlation over genes, -1 for an answer without spread, nothing where genes are few."""
    if len(a) < LEAST_GENES:
        return float("nan")
    return -1.0 if a.std() < 1e-12 else float(np.corrcoef(a, b)[0, 1])


def summary(errors: dict[str, Floats], likeness: dict[str, Floats]) -> dict[str, Any]:
    """Return the means, and the model against the best rule in hindsight by each."""
    peers = [name for name in errors if name not in NO_PEERS]
    best = min(peers, key=lambda name: errors[name].mean())
    found: dict[str, Any] = {
        "conditions": len(errors["model"]),
        "squared error": {name: round(float(one.mean()), 4) for name, one in errors.items()},
        "best rule": best,
        "error over that of the best rule": interval(
            errors["model"], errors[best], lambda a, b: float(a.mean() / b.mean() - 1)
        ),
    }
    if np.isfinite(likeness["model"]).all():
        closest = max(peers, key=lambda name: likeness[name].mean())
        found |= {
            "pearson delta": {name: round(float(one.mean()), 4) for name, one in likeness.items()},
            "closest rule": closest,
            "pearson delta over the closest rule": interval(
                likeness["model"], likeness[closest], lambda a, b: float((a - b).mean())
            ),
        }
    return found


def interval(model: Floats, rule: Floats, gain: Callable[[Floats, Floats], float]) -> list[float]:
    """Return a paired gain and its 95 % interval over conditions."""
    rng = np.random.default_rng(0)
    drawn_rows = (rng.integers(0, len(model), len(model)) for _ in range(DRAWS))
    gains = np.array([gain(model[rows], rule[rows]) for rows in drawn_rows])
    return [round(value, 4) for value in (gain(model, rule), *intervals.interval(gains, len(model)))]


def in_all(rows: dict[str, Any]) -> dict[str, Any]:
    """Return in how many questions the model is at or above the best rule in hindsight, and against each rule."""
    over = {name: row["error over that of the best rule"] for name, row in rows.items()}
    names = set.intersection(*(set(row["squared error"]) for row in rows.values())) - {"model"}
    ratio = {
        name: np.mean([np.log(row["squared error"]["model"] / row["squared error"][name]) for row in rows.values()])
        for name in sorted(names)
    }
    return {
        "questions": len(rows),
        "error at or below that of the best rule": sum(one[0] <= 0 for one in over.values()),
        "error above it, the interval too": sorted(name for name, one in over.items() if one[1] > 0),
        "mean log of error over that of each rule": {name: round(float(one), 3) for name, one in ratio.items()},
    }


def show(name: str, row: dict[str, Any]) -> None:
    """Print one line."""
    error = row["squared error"]
    print(f"{name:44s}{row['conditions']:4d} model {error['model']:.4f}", end=" ")
    print(f"{row['best rule']} {error[row['best rule']]:.4f} {row['error over that of the best rule']}", end=" ")
    print(row.get("pearson delta over the closest rule", ""), flush=True)


if __name__ == "__main__":
    main()
