"""Loss against steps, training beside validation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from aivc_graph.errors import ConfigError
from aivc_graph.plot.palette import COLOURS

STYLES = {"train": "-", "validation": "--", "test": ":", "hidden in training tissue": "--"}


def training_curve(metrics: pd.DataFrame, *, x: str = "step", best: float | None = None, ax: Any = None) -> Any:
    """Draw each term of the loss as a line, one colour a term, one dash a split; return the Axes.

    Parameters
    ----------
    metrics
        Long table: column `x`, ``split`` (train, validation, hidden in training tissue), ``term`` (loss, rna …),
        ``value``. Values that are not finite are marked at the upper edge by a cross, never dropped.
    x
        Column of the horizontal axis.
    best
        Where on it the kept model was saved; a vertical line.

    Raises
    ------
    ConfigError
        A column is missing.
    """
    missing = {x, "split", "term", "value"} - set(metrics.columns)
    if missing:
        found = f"no column {', '.join(sorted(missing))}"
        raise ConfigError("training_curve", found, mend=f"there are {list(metrics)}")
    ax = _new_axes() if ax is None else ax
    colour = {term: COLOURS[i % len(COLOURS)] for i, term in enumerate(pd.unique(metrics["term"]))}
    for (term, split), rows in metrics.groupby(["term", "split"], sort=False):
        rows = rows.sort_values(x)
        value = rows["value"].to_numpy(dtype=np.float64)
        finite = np.isfinite(value)
        line = {"color": colour[term], "linestyle": STYLES.get(str(split), "-.")}
        ax.plot(rows[x], np.where(finite, value, np.nan), label=f"{term}, {split}", linewidth=1.6, **line)
        lost = rows[x].to_numpy()[~finite]
        ax.plot(lost, np.ones(len(lost)), "x", color=colour[term], transform=ax.get_xaxis_transform(), clip_on=False)
    if best is not None:
        ax.axvline(best, color="0.6", linewidth=1, label="kept model")
    ax.set(xlabel=x, ylabel="loss")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return ax


def _new_axes() -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(6.5, 4), layout="constrained").subplots()
