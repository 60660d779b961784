"""What each niche, spot or section is made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from aivc_graph.errors import ConfigError
from aivc_graph.plot.palette import COLOURS, colours_of


def composition_bars(shares: pd.DataFrame, *, counts: pd.Series | None = None, ax: Any = None) -> Any:
    """Draw one horizontal stacked bar a row; return the Axes.

    Parameters
    ----------
    shares
        Rows are niches (or spots, sections), columns are types; each row is brought to sum one. A row without any
        is left empty.
    counts
        Nodes behind each row, shown at the bar's end.

    Raises
    ------
    ConfigError
        Shares that are negative or not finite.
    """
    values = shares.to_numpy(dtype=np.float64)
    if (values < 0).any() or not np.isfinite(values).all():
        raise ConfigError("composition_bars", "shares that are negative or not finite", "shares ≥ 0")
    total = values.sum(axis=1, keepdims=True)
    values = np.divide(values, total, out=np.zeros_like(values), where=total > 0)
    ax = _new_axes(len(shares)) if ax is None else ax
    colours = colours_of(list(shares.columns), list(shares.columns))
    left = np.zeros(len(shares))
    for j, kind in enumerate(shares.columns):
        # A second round through the palette is hatched, so that two types never look the same.
        hatch = "//" if j >= len(COLOURS) else None
        look = {"color": colours[kind], "edgecolor": "white", "linewidth": 0.5, "hatch": hatch}
        ax.barh(np.arange(len(shares)), values[:, j], left=left, label=str(kind), **look)
        left += values[:, j]
    if counts is not None:
        for row, n in enumerate(counts.reindex(shares.index)):
            ax.text(1.01, row, f"{n:,.0f}", va="center", fontsize=8, color="0.3")
    ax.set(xlim=(0, 1), xlabel="share", yticks=np.arange(len(shares)), yticklabels=[str(row) for row in shares.index])
    ax.invert_yaxis()
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.legend(loc="upper left", bbox_to_anchor=(1.08, 1.0), frameon=False)
    return ax


def _new_axes(rows: int) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(8, max(2.5, 0.45 * rows + 1)), layout="constrained").subplots()
