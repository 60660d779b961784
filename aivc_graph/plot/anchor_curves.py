"""How well two levels are told of each other as anchors get fewer, and wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from aivc_graph.errors import ConfigError
from aivc_graph.plot.palette import COLOURS

COLUMNS = ("told", "by", "share", "shift_um", "error_told", "model", "nearest_join")
# Who is drawn: the column of scores, and whether the error of places was told.
LINES = {"model": ("model", False), "model, error told": ("model", True), "nearest join": ("nearest_join", False)}


def anchor_curves(records: pd.DataFrame, *, axes: Any = None) -> Any:
    """Draw scores against the share of anchors and against shift, a row a level told; return the Axes (level, 2).

    Parameters
    ----------
    records
        Columns ``told``, ``by`` (levels), ``share``, ``shift_um``, ``error_told``, and ``model`` and ``nearest_join``,
        each a mapping with ``value``, ``lower`` and ``upper``, the ends of a 95 % interval or None.

    Raises
    ------
    ConfigError
        A column is missing.
    """
    if missing := [column for column in COLUMNS if column not in records]:
        raise ConfigError("anchor_curves", f"no column {', '.join(missing)}", mend=f"there are {list(records)}")
    levels = list(pd.unique(records["told"]))
    axes = _new_axes(len(levels)) if axes is None else axes
    for row, level in enumerate(levels):
        mine = records[records["told"] == level]
        for ax, x, rest, label in (
            (axes[row, 0], "share", "shift_um", "share of anchors known"),
            (axes[row, 1], "shift_um", "share", "cells moved by [µm]"),
        ):
            usual = mine[rest] == (0.0 if rest == "shift_um" else 1.0)
            for colour, (name, (who, told)) in zip(COLOURS, LINES.items(), strict=False):
                # Where nothing was moved there is no error to tell.
                same = (mine["error_told"] == told) | (mine["shift_um"] == 0)
                if x == "shift_um" or not told:
                    _line(ax, mine[usual & same].sort_values(x), x, who, name, colour)
            ax.set(xlabel=label, ylabel="mean r over genes", title=f"{level} told by {mine['by'].iloc[0]}")
            ax.set_ylim(min(0.0, ax.get_ylim()[0]), None)
            ax.spines[["top", "right"]].set_visible(False)
    axes[0, 1].legend(frameon=False, fontsize=8)
    return axes


def _line(ax: Any, rows: pd.DataFrame, x: str, who: str, name: str, colour: str) -> None:
    value, lower, upper = (np.array([one[end] for one in rows[who]], float) for end in ("value", "lower", "upper"))
    ax.plot(rows[x], value, "o-", color=colour, label=name, markersize=4)
    ax.fill_between(rows[x], lower, upper, color=colour, alpha=0.12, linewidth=0)


def _new_axes(rows: int) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(9, 3.2 * rows), layout="constrained").subplots(rows, 2, squeeze=False)
