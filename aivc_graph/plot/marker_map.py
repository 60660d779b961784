"""Genes that mark groups: how far each stands out in each group."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from aivc_graph.errors import ConfigError
from aivc_graph.plot.palette import UNKNOWN

SURE = 0.05
MOST_ACROSS = 40
LARGEST, POINTS = 24.0, 72  # [inch]; points an inch


def marker_map(log2_ratio: pd.DataFrame, p_adjusted: pd.DataFrame, *, label: str, ax: Any = None) -> Any:
    """Draw a table of groups by genes from blue (less) by white to red (more); return the Axes.

    A dot marks an adjusted p below 0.05; what was not compared is grey. Many genes stand below each other, so that the
    picture does not grow in width.

    Parameters
    ----------
    log2_ratio, p_adjusted
        (group, gene), in the order in which they are drawn.
    label
        What groups are.

    Raises
    ------
    ConfigError
        Tables of different rows or columns.
    """
    from matplotlib import colormaps

    if not (log2_ratio.index.equals(p_adjusted.index) and log2_ratio.columns.equals(p_adjusted.columns)):
        raise ConfigError("marker_map", "ratios and p-values of other groups or genes", "the same of both")
    tall = log2_ratio.shape[1] > MOST_ACROSS
    drawn, sure = (log2_ratio.T, p_adjusted.T) if tall else (log2_ratio, p_adjusted)
    values = drawn.to_numpy(np.float64)
    ax = _new_axes(*values.shape) if ax is None else ax
    top = max(float(np.nanmax(np.abs(values), initial=0.0)), 1e-9)
    colours = colormaps["RdBu_r"].with_extremes(bad=UNKNOWN)
    shown = ax.imshow(np.ma.masked_invalid(values), cmap=colours, vmin=-top, vmax=top, aspect="auto")
    rows, columns = np.nonzero(sure.to_numpy(np.float64) < SURE)
    ax.scatter(columns, rows, s=12, color="black", label=f"adjusted p < {SURE:g}")
    ax.set_xticks(np.arange(values.shape[1]), list(map(str, drawn.columns)), rotation=90, parse_math=False)
    size = min(10.0, 0.9 * POINTS * ax.figure.get_figheight() / len(values))
    ax.set_yticks(np.arange(len(values)), list(map(str, drawn.index)), fontsize=size, parse_math=False)
    (ax.set_xlabel if tall else ax.set_ylabel)(label, parse_math=False)
    ax.figure.colorbar(shown, ax=ax, label="log2 ratio over the other groups", shrink=0.8)
    if len(rows):
        ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), frameon=False)
    return ax


def _new_axes(rows: int, columns: int) -> Any:
    from matplotlib.figure import Figure

    size = (min(max(5.0, 0.28 * columns + 3), LARGEST), min(max(2.5, 0.28 * rows + 1.8), LARGEST))
    return Figure(figsize=size, layout="constrained").subplots()
