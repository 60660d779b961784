"""Small runs for the tests of the report, and scores as `evaluate` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aivc_graph as ag
from aivc_graph.graph.build import build_graph
from aivc_graph.pipeline.train import train

NASTY = "<script>alert(1)</script>/../a&b\"'"


def small_run(folder: Path, sections: list[Any], *, epochs: int = 2, name: str = "small") -> Path:
    """Train briefly on sections in memory and return the run folder."""
    given = {"task": {"name": name}, "model": {"latent": 4, "rings": [6, 12]}}
    config = ag.Config(**given, training={"epochs": epochs, "device": "cpu"})
    return train(build_graph(sections), config, folder).folder


def result(predictor: str, kind: str, value: float | None, half: float | None = 0.05, **other: Any) -> dict[str, Any]:
    """Return one record of ``evaluation.json``."""
    bounds = (None, None) if half is None or value is None else (value - half, value + half)
    record = {
        "task": "image → expression",
        "axis": "modality",
        "split": "test",
        "scale": "patch",
        "modality": "histology → rna",
        "readout": "genes",
        "metric": "pearson",
        "higher_is_better": True,
        "interval": 0.95,
        "unit": "donor",
        "n_units": 6,
        "leakage": 0.0,
    }
    return {
        **record,
        "predictor": predictor,
        "kind": kind,
        "value": value,
        "lower": bounds[0],
        "upper": bounds[1],
        **other,
    }


def evaluation(results: list[dict[str, Any]], comparisons: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Return what ``evaluation.json`` holds."""
    return {
        "schema_version": 1,
        "provenance": {},
        "risk": dict.fromkeys(("modality", "scale", "context", "intervention"), "not evaluated"),
        "leakage": {"by_split": {"test": 0.0}},
        "results": results,
        "comparisons": comparisons or [],
    }


def compared(a: str, b: str, difference: float, half: float | None = 0.01, **other: Any) -> dict[str, Any]:
    """Return one paired comparison."""
    bounds = (None, None) if half is None else (difference - half, difference + half)
    key: dict[str, Any] = {"task": "image → expression", "readout": "genes", "metric": "pearson", "split": "test"}
    key |= {"higher_is_better": True, "unit": "donor", "n_units": 6}
    return {
        **key,
        "a": a,
        "b": b,
        "difference": difference,
        "lower": bounds[0],
        "upper": bounds[1],
        "p_adjusted": 0.01,
        **other,
    }


SCORES = evaluation(
    [
        result("model", "model", 0.42),
        result("own state", "ablation", 0.38),
        result("ridge", "baseline", 0.40),
        result("mean", "baseline", 0.0, None),
        result("split half", "ceiling", 0.71, None),
        result("model", "model", 0.12, task="composition", axis="scale", metric="jsd", higher_is_better=False),
        result("NNLS", "baseline", 0.15, task="composition", axis="scale", metric="jsd", higher_is_better=False),
    ],
    [
        compared("model", "ridge", 0.02),
        compared("model", "NNLS", -0.03, task="composition", metric="jsd", higher_is_better=False),
    ],
)


def write_scores(run: Path, scores: dict[str, Any]) -> None:
    """Put an evaluation into a run folder."""
    (run / "evaluation.json").write_text(json.dumps(scores))
