"""How training went."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from aivc_graph import names
from aivc_graph.plot.training_curve import training_curve
from aivc_graph.report.picture import drawing
from aivc_graph.training.run_folder import METRICS, held_out_words, run_facts, run_metrics

OF = {
    names.VALIDATION: "tissue kept apart to decide when to stop",
    "hidden": "measurements of the training tissue hidden from it by turns",
}


def learning_of(run: Path) -> dict[str, Any] | None:
    """Return the training curve of a run, the epoch that was kept and the gates; None where no epoch was run."""
    facts = run_facts(run / "training.json", ("best_epoch", "validation_loss"))
    metrics = run_metrics(run) if (run / METRICS).exists() else None
    if metrics is None or len(metrics) < 2:
        return None
    kind = metrics["held_out"].iloc[0]
    losses = {"train_loss": names.TRAIN, "validation_loss": held_out_words(kind)}
    long = metrics.melt("epoch", list(losses), "split", "value").dropna().replace({"split": losses})
    best, last = facts["best_epoch"], int(metrics["epoch"].max())
    axes = training_curve(long.assign(term="loss"), x="epoch", best=best)
    start, end = metrics["validation_loss"].iloc[0], facts["validation_loss"]
    axes.set_ylabel("negative log-likelihood")
    of = OF.get(kind, "what was held out")
    alt = f"Loss by epoch: on {of} from {start:.2f} to {end:.2f}; the state of epoch {best} is kept"
    return {
        "picture": drawing(axes.figure, alt),
        "of": of,
        "best": best,
        "last": last,
        "start": float(start),
        "end": float(end),
        "gates": facts.get("gates", {}),
        "likelihoods": facts.get("likelihoods", {}),
        "converged": facts.get("converged", False),
        "terms": _shares(metrics),
    }


def _shares(metrics: pd.DataFrame) -> dict[str, float]:
    """Return the share of the gradient that each term of the objective had, on average over epochs, largest first."""
    told = metrics["gradient"].dropna() if "gradient" in metrics else ()
    return dict(pd.DataFrame(list(told)).mean().sort_values(ascending=False))
