"""Niches where they lie, over the slide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aivc_graph.errors import ConfigError
from aivc_graph.plot.palette import UNKNOWN, colours_of
from aivc_graph.plot.tissue_axes import tissue_axes

LEGEND_ROWS = 24


def niche_map(
    pos_um: ArrayLike,
    niche: ArrayLike,
    *,
    slide: NDArray[np.uint8] | None = None,
    mpp: float | None = None,
    size_um: ArrayLike | float | None = None,
    order: Sequence[Any] | None = None,
    title: str = "",
    ax: Any = None,
) -> Any:
    """Draw each node as a disc of its size in its niche's colour, y downwards as on the slide; return the Axes.

    Parameters
    ----------
    pos_um
        Centres ``(node, 2)`` [µm].
    niche
        Label a node; None or NaN is drawn grey.
    slide, mpp
        Picture ``(y, x, 3)`` whose upper left corner is the origin, and its pixel size [µm]; drawn faded underneath.
    size_um
        Diameter of the nodes [µm]; by default 0.9 of the median distance to the nearest other.
    order
        Labels in the order of the legend; fixes colours across pictures.

    Raises
    ------
    ConfigError
        Positions and labels of different length, or a slide without `mpp`.
    """
    pos = np.asarray(pos_um, dtype=np.float64).reshape(-1, 2)
    labels = np.asarray(niche, dtype=object)
    if len(labels) != len(pos):
        raise ConfigError("niche_map", f"{len(labels)} labels for {len(pos)} positions", "one each")
    ax, discs = tissue_axes(pos, size_um, slide=slide, mpp=mpp, ax=ax)
    colours = colours_of(labels, order)
    discs.set_facecolor([colours.get(label, UNKNOWN) for label in labels])
    _legend(ax, labels, colours)
    ax.set_title(title, parse_math=False)
    return ax


def _legend(ax: Any, labels: NDArray[Any], colours: dict[Any, str]) -> None:
    from matplotlib.lines import Line2D

    entries = {label: int((labels == label).sum()) for label in colours}
    unknown = len(labels) - sum(entries.values())
    rows = [(f"{label} ({n:,})", colours[label]) for label, n in entries.items()]
    rows += [(f"none ({unknown:,})", UNKNOWN)] if unknown else []
    marks = [Line2D([], [], marker="o", linestyle="", markersize=8, color=colour, label=text) for text, colour in rows]
    if marks:
        columns = -(-len(marks) // LEGEND_ROWS)
        legend = ax.legend(handles=marks, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, ncols=columns)
        for text in legend.get_texts():
            text.set_parse_math(False)
