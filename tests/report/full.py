"""An evaluation with every part there is, made of small arrays as `evaluate` makes one of a run."""

from __future__ import annotations

from typing import Any

import numpy as np

from aivc_graph.evaluation.intervals import units_of
from aivc_graph.evaluation.inversions import inversions_of
from aivc_graph.evaluation.records import Evaluation
from aivc_graph.evaluation.risk import risk_of
from aivc_graph.evaluation.scoring import Scored, comparisons_of, judge, results_of, units_of_scores
from aivc_graph.evaluation.settings import EvaluationConfig

RNG = np.random.default_rng(0)
DONOR = np.repeat([f"d{i}" for i in range(8)], 10)
TRUE = RNG.normal(size=(80, 4))
NOISE = RNG.normal(size=(80, 4))


def task(name: str, axis: Any, off: float, ceiling: bool = True, **changes: Any) -> Scored:
    """Return a task whose model is `off` standard deviations off."""
    given: dict[str, Any] = {
        "task": name,
        "axis": axis,
        "split": "test",
        "scale": "patch",
        "modality": "rna",
        "readout": "genes",
        "measured": TRUE,
        "model": TRUE + off * NOISE,
        "baselines": {"global_mean": 0 * TRUE, "noisy": TRUE + 0.4 * NOISE[::-1], "shifted": TRUE + 0.9},
        "metrics": ("pearson_by_gene", "rmse_log"),
        "units": units_of(DONOR, DONOR),
        "leakage": 0.0,
        "ceilings": {"truth": TRUE} if ceiling else {},
        "no_ceiling": "nobody measured it twice",
        "similarity": {f"d{i}": 0.5 + i / 20 for i in range(8)},
    }
    return Scored(**(given | changes))


def card(**changes: Any) -> dict[str, Any]:
    """Return a card."""
    found: dict[str, Any] = {
        "data": {
            "sections": 8,
            "donors": 8,
            "nodes": {"cell": 4000, "patch": 80},
            "measured": {"patch": ["histology", "rna"]},
            "simulated": True,
        },
        "split": {
            "design": {"kind": "by_group", "key": "donor", "test": ["d6", "d7"], "validation": None},
            "scored": "test",
            "level": "patch",
            "nodes": {"train": 60, "test": 20},
            "donors_scored": ["d6", "d7"],
        },
        "assumptions": [{"about": "identifiability", "says": "Nothing was done to this tissue."}],
        "not_evaluated": {"axes": ["intervention"], "without_risk": [], "tasks": {"response": "truth & <more>"}},
    }
    return found | changes


def full_evaluation() -> Evaluation:
    """Return it: two axes with risk, one without a ceiling, one not run, and all other parts."""
    far = task("image_to_expression", "modality", 6.0, metrics=("rmse_log",), readout="far off")
    judged = judge(
        [
            task("image_to_expression", "modality", 0.2),
            far,
            task("niches_and_more", "scale", 0.5),
            task("context_to_expression", "context", 0.3, ceiling=False),
        ]
    )
    results = results_of(judged)
    calibration = {
        "task": "context_distribution",
        "unit": "donor",
        "level": 0.9,
        "stated": {"coverage": 0.97, "worst": {"unit": "d1", "coverage": 0.91}},
    }
    band = {"coverage": 0.9, "worst": {"unit": "d2", "coverage": 0.8}}
    return Evaluation(
        provenance={"split": "test", "sections": ["s1"]},
        risk=risk_of(judged, EvaluationConfig().weights),
        leakage={
            "by_split": {"test": 0.0},
            "groups": {"patch": {"donor": 0.0, "site": 1.0}},
            "similarity": {"patch": {"value": 0.21, "by_chance": 0.33}},
            "optimism": {"patch": {"place": {"gap": -0.19}, "profile": {"gap": None}}},
        },
        results=tuple(results),
        comparisons=tuple(comparisons_of(judged)),
        units=tuple(units_of_scores(judged)),
        calibration=(
            calibration | {"conformal": None, "reason": "insufficient groups: 1 of 9 donors"},
            calibration | {"conformal": band},
        ),
        inversions=tuple(inversions_of(results)),
        card=card(),
    )
