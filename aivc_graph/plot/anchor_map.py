"""What is known of two measurements of one tissue: how much lies beneath each node, and where pairs disagree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aivc_graph.plot.expression_map import expression_map
from aivc_graph.plot.tissue_axes import tissue_axes

# Arrows are drawn longer than they are, so that the longest is a tenth of the picture.
LONGEST = 0.1
NAMED = 25
FINE, COARSE = ("fine_x_um", "fine_y_um"), ("coarse_x_um", "coarse_y_um")
FITTED, LEFT_OUT, DOUBTFUL = "#333333", "#0072B2", "#D55E00"


def anchor_map(
    beneath: pd.DataFrame,
    pairs: pd.DataFrame,
    *,
    unit: str = "",
    slide: NDArray[np.uint8] | None = None,
    mpp: float | None = None,
    title: str = "",
) -> Any:
    """Draw nodes by how much lies beneath them, and an arrow from each pair to where the map put it; return Axes.

    Parameters
    ----------
    beneath
        ``x_um``, ``y_um``, ``size_um`` and ``beneath`` of nodes; none if a section has pairs alone.
    pairs
        ``name``, ``fine_x_um``, ``fine_y_um``, ``coarse_x_um``, ``coarse_y_um``, ``sigma_um``, ``fitted`` and
        ``doubtful``: pairs left out of the fit are blue, doubtful ones red and named; a ring about each is of radius
        `sigma_um`.
    unit
        Label of the colour bar.
    slide, mpp, title
        As in `aivc_graph.plot.niche_map.niche_map`.
    """
    if len(beneath):
        at, under = beneath[["x_um", "y_um"]].to_numpy(float), beneath["beneath"].to_numpy(float)
        ax = expression_map(at, under, unit=unit, size_um=beneath["size_um"], slide=slide, mpp=mpp)
    else:
        ends = np.concatenate([pairs[list(one)].to_numpy(float) for one in (FINE, COARSE)])
        ax, discs = tissue_axes(ends, 0.0, slide=slide, mpp=mpp, ax=None)
        discs.remove()
    ax.set_title(title, parse_math=False)
    if len(pairs):
        _add_pairs(ax, pairs)
    return ax


def _add_pairs(ax: Any, pairs: pd.DataFrame) -> None:
    from matplotlib.collections import EllipseCollection
    from matplotlib.lines import Line2D

    known = pairs[list(COARSE)].to_numpy(float)
    off = pairs[list(FINE)].to_numpy(float) - known
    width = float(abs(np.diff(ax.get_xlim())[0]))
    times = max(1.0, float(f"{LONGEST * width / max(float(np.linalg.norm(off, axis=1).max()), 1e-9):.1g}"))
    doubtful, fitted = (pairs[key].to_numpy(bool) for key in ("doubtful", "fitted"))
    kinds = {
        "fitted": (fitted & ~doubtful, FITTED),
        "left out of the fit": (~fitted & ~doubtful, LEFT_OUT),
        "doubtful": (doubtful, DOUBTFUL),
    }
    marks = []
    for name, (chosen, colour) in kinds.items():
        if chosen.any():
            arrows = {"angles": "xy", "scale_units": "xy", "scale": 1 / times, "width": 0.003, "zorder": 5}
            ax.quiver(*known[chosen].T, *off[chosen].T, color=colour, **arrows)
            marks.append(Line2D([], [], marker="o", linestyle="", color=colour, label=f"{name} ({chosen.sum():,})"))
    wide = 2 * pairs["sigma_um"].fillna(0.0).to_numpy(float)
    rings = EllipseCollection(wide, wide, 0 * wide, units="xy", offsets=known, offset_transform=ax.transData)
    rings.set(facecolor="none", edgecolor=FITTED, linewidth=0.8, zorder=4)
    ax.add_collection(rings, autolim=False)
    reached = np.concatenate([known, known + times * off, ax.transData.inverted().transform(ax.bbox.corners())])
    (left, top), (right, bottom) = reached.min(axis=0), reached.max(axis=0)
    ax.set(xlim=(left, right), ylim=(bottom, top))
    for i in np.flatnonzero(doubtful)[:NAMED]:
        ax.annotate(pairs["name"].iloc[i], known[i], color=DOUBTFUL, fontsize=8, zorder=6, parse_math=False)
    title = "pairs: off as the arrows show" + (f", drawn {times:g} times as long" if times > 1 else "")
    ax.legend(handles=marks, title=title, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3, frameon=False)
