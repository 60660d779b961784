"""Variance against mean, measured beside drawn, one colour an assay."""

from __future__ import annotations

from typing import Any

import pandas as pd

from aivc_graph.errors import ConfigError
from aivc_graph.plot.palette import COLOURS

COLUMNS = ("assay", "mean", "variance", "drawn_mean", "drawn_variance")


def mean_variance(groups: pd.DataFrame, *, ax: Any = None) -> Any:
    """Draw groups of features of each assay as discs where measured and a line where drawn; return the Axes.

    Parameters
    ----------
    groups
        One row a group: ``assay``, ``mean``, ``variance``, ``drawn_mean``, ``drawn_variance``. Both axes are
        logarithms, of means their size without sign; groups of no variance are left out.

    Raises
    ------
    ConfigError
        A column is missing.
    """
    missing = [name for name in COLUMNS if name not in groups]
    if missing:
        raise ConfigError("mean_variance", f"no column {', '.join(missing)}", mend=f"there are {list(groups)}")
    if ax is None:
        from matplotlib.figure import Figure

        ax = Figure(figsize=(6.5, 4), layout="constrained").subplots()
    for i, (assay, rows) in enumerate(groups.groupby("assay", sort=False)):
        colour = COLOURS[i % len(COLOURS)]
        for mean, variance, style in (("mean", "variance", "o"), ("drawn_mean", "drawn_variance", "-")):
            shown = rows[(rows[mean].abs() > 0) & (rows[variance] > 0)]
            shown = shown.assign(size=shown[mean].abs()).sort_values("size")
            label = f"{assay}, {'measured' if style == 'o' else 'drawn'}"
            ax.plot(shown["size"], shown[variance], style, color=colour, label=label, markersize=4, linewidth=1.4)
    ax.set(xscale="log", yscale="log", xlabel="mean", ylabel="variance")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return ax
