"""How training went."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from aivc_graph import names
from aivc_graph.plot.training_curve import training_curve
from aivc_graph.query.virtual_tissue import run_facts
from aivc_graph.report.picture import drawing

LOSSES = {"train_loss": names.TRAIN, "validation_loss": names.VALIDATION}


def learning_of(run: Path) -> dict[str, Any] | None:
    """Return the training curve of a run, the epoch that was kept and the gates; None where no epoch was run."""
    facts = run_facts(run / "training.json", ("best_epoch", "validation_loss"))
    log = run / "metrics.jsonl"
    metrics = pd.read_json(log, lines=True) if log.exists() else pd.DataFrame()
    if len(metrics) < 2:
        return None
    long = metrics.melt("epoch", list(LOSSES), "split", "value").dropna().replace({"split": LOSSES})
    best, last = facts["best_epoch"], int(metrics["epoch"].max())
    axes = training_curve(long.assign(term="loss"), x="epoch", best=best)
    start, end = metrics["validation_loss"].iloc[0], facts["validation_loss"]
    axes.set_ylabel("negative log-likelihood")
    alt = f"Loss by epoch: on hidden measurements from {start:.2f} to {end:.2f}; the state of epoch {best} is kept"
    return {
        "picture": drawing(axes.figure, alt),
        "best": best,
        "last": last,
        "start": float(start),
        "end": float(end),
        "gates": {key.removesuffix(".gate"): float(value) for key, value in facts.get("gates", {}).items()},
    }
