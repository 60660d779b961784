"""Axes in microns, y downwards as on the slide: nodes as discs, the slide beneath, a scale bar."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aivc_graph.errors import ConfigError
from aivc_graph.plot.scale_bar import add_scale_bar

MAX_SLIDE_PX = 1200
BAR_ROOM = 0.12


def tissue_axes(
    pos: NDArray[np.float64],
    size_um: ArrayLike | float | None,
    *,
    slide: NDArray[np.uint8] | None,
    mpp: float | None,
    ax: Any,
) -> tuple[Any, Any]:
    """Draw each node as a disc of its diameter over the faded slide; return the Axes and the discs, not yet coloured.

    Parameters
    ----------
    pos
        Centres ``(node, 2)`` [µm].
    size_um
        Diameter of the nodes [µm]; by default 0.9 of the median distance to the nearest other.
    slide, mpp
        Picture ``(y, x, 3)`` whose upper left corner is the origin, and its pixel size [µm].
    ax
        Axes to draw into; new ones if None.

    Raises
    ------
    ConfigError
        A slide without `mpp`; nodes without positions.
    """
    from matplotlib.collections import EllipseCollection

    if slide is not None and mpp is None:
        raise ConfigError("slide", "a slide without its pixel size", mend="give `mpp` in µm")
    if len(pos) and not np.isfinite(pos).any():
        raise ConfigError("map", "cells without positions", "cells in their tissue", "ask for a section of tissue")
    ax = _new_axes() if ax is None else ax
    if slide is not None and mpp is not None:
        _underlay(ax, slide, mpp)
    size = np.broadcast_to(_diameter(pos) if size_um is None else np.asarray(size_um, dtype=np.float64), len(pos))
    discs = EllipseCollection(size, size, np.zeros(len(pos)), units="xy", offsets=pos, offset_transform=ax.transData)
    discs.set_alpha(0.8 if slide is not None else 1.0)
    ax.add_collection(discs)
    _frame(ax, pos, float(size.max(initial=0.0)), slide, mpp)
    return ax, discs


def _new_axes() -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(7.5, 6), layout="constrained").subplots()


def _underlay(ax: Any, slide: NDArray[np.uint8], mpp: float) -> None:
    """Show the slide in faded grey, thinned to what a screen can show: its pink would pass for a niche."""
    step = max(1, int(np.ceil(max(slide.shape[:2]) / MAX_SLIDE_PX)))
    height, width = slide.shape[0] * mpp, slide.shape[1] * mpp
    grey = slide[::step, ::step].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    ax.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0), alpha=0.6, interpolation="antialiased")


def _diameter(pos: NDArray[np.float64]) -> float:
    from scipy.spatial import cKDTree

    return 0.9 * float(np.median(cKDTree(pos).query(pos, k=2)[0][:, 1])) if len(pos) > 1 else 50.0


def _frame(ax: Any, pos: NDArray[np.float64], size: float, slide: NDArray[np.uint8] | None, mpp: float | None) -> None:
    low, high = (pos.min(axis=0) - size, pos.max(axis=0) + size) if len(pos) else (np.zeros(2), np.full(2, 100.0))
    high[1] += BAR_ROOM * (high[1] - low[1])  # the scale bar must not hide nodes
    if slide is not None and mpp is not None:
        low, high = np.minimum(low, 0), np.maximum(high, np.array(slide.shape[1::-1]) * mpp)
    ax.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]), aspect="equal", xticks=[], yticks=[])
    for side in ax.spines.values():
        side.set_visible(False)
    add_scale_bar(ax, float(high[0] - low[0]))
