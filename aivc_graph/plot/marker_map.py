"""Genes that mark groups: how far each stands out in each group."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from aivc_graph.errors import ConfigError
from aivc_graph.plot.palette import UNKNOWN

SURE = 0.05


def marker_map(log2_ratio: pd.DataFrame, p_adjusted: pd.DataFrame, *, label: str, ax: Any = None) -> Any:
    """Draw a table of groups by genes from blue (less) by white to red (more); return the Axes.

    A dot marks an adjusted p below 0.05; what was not compared is grey.

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
    values = log2_ratio.to_numpy(np.float64)
    ax = _new_axes(*values.shape) if ax is None else ax
    top = max(float(np.nanmax(np.abs(values), initial=0.0)), 1e-9)
    colours = colormaps["RdBu_r"].with_extremes(bad=UNKNOWN)
    shown = ax.imshow(np.ma.masked_invalid(values), cmap=colours, vmin=-top, vmax=top, aspect="auto")
    rows, columns = np.nonzero(p_adjusted.to_numpy(np.float64) < SURE)
    ax.scatter(columns, rows, s=12, color="black", label=f"adjusted p < {SURE:g}")
    ax.set_xticks(np.arange(values.shape[1]), [str(gene) for gene in log2_ratio.columns], rotation=90, parse_math=False)
    ax.set_yticks(np.arange(len(values)), [str(group) for group in log2_ratio.index], parse_math=False)
    ax.set_ylabel(label, parse_math=False)
    ax.figure.colorbar(shown, ax=ax, label="log2 ratio over the other groups", shrink=0.8)
    if len(rows):
        ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), frameon=False)
    return ax


def _new_axes(rows: int, columns: int) -> Any:
    from matplotlib.figure import Figure

    size = (max(5.0, 0.28 * columns + 3), max(2.5, 0.35 * rows + 1.8))
    return Figure(figsize=size, layout="constrained").subplots()
