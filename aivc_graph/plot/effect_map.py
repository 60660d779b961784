"""The effect of an intervention over the tissue: less, the same, more."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from aivc_graph.errors import ConfigError
from aivc_graph.plot.palette import UNKNOWN
from aivc_graph.plot.tissue_axes import tissue_axes

TOP = 0.99
OUTLINE = "#222222"


def effect_map(
    pos_um: ArrayLike,
    effect: ArrayLike,
    *,
    label: str,
    supported: ArrayLike | None = None,
    treated: ArrayLike | None = None,
    size_um: ArrayLike | float | None = None,
    title: str = "",
    ax: Any = None,
) -> Any:
    """Draw each node as a disc from blue (less) by white (no change) to red (more); return the Axes.

    Parameters
    ----------
    pos_um
        Centres ``(node, 2)`` [µm].
    effect
        Difference between treated and untreated (node,).
    label
        What the colours mean, with its unit.
    supported
        Boolean (node,); nodes out of support are grey.
    treated
        Boolean (node,); treated nodes are outlined, where not all are.
    size_um
        As in `aivc_graph.plot.niche_map.niche_map`.

    Raises
    ------
    ConfigError
        Positions and effects of different length.
    """
    from matplotlib import colormaps
    from matplotlib.colors import TwoSlopeNorm
    from matplotlib.lines import Line2D

    pos, values = np.asarray(pos_um, dtype=np.float64).reshape(-1, 2), np.asarray(effect, dtype=np.float64).ravel()
    if len(values) != len(pos):
        raise ConfigError("effect_map", f"{len(values)} effects for {len(pos)} positions", "one each")
    known = np.isfinite(values) & (np.ones(len(pos), bool) if supported is None else np.asarray(supported, bool))
    inside = np.zeros(len(pos), bool) if treated is None else np.asarray(treated, bool)
    top = max(float(np.quantile(np.abs(values[known]), TOP)) if known.any() else 0.0, 1e-9)
    ax, discs = tissue_axes(pos, size_um, slide=None, mpp=None, ax=ax)
    discs.set(cmap=colormaps["RdBu_r"].with_extremes(bad=UNKNOWN), norm=TwoSlopeNorm(0.0, -top, top))
    discs.set_array(np.ma.masked_array(values, ~known))
    marks = []
    if inside.any() and not inside.all():
        discs.set_edgecolor([OUTLINE if here else "#DDDDDD" for here in inside])
        marks.append(Line2D([], [], marker="o", ls="", mfc="white", mec=OUTLINE, label=f"treated ({inside.sum():,})"))
    else:
        discs.set_edgecolor("#DDDDDD")
    discs.set_linewidth(0.3)
    if not known.all():
        marks.append(Line2D([], [], marker="o", ls="", color=UNKNOWN, label=f"out of support ({(~known).sum():,})"))
    ax.figure.colorbar(discs, ax=ax, label=label, shrink=0.7, extend="both")
    if marks:
        ax.legend(handles=marks, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=2, frameon=False)
    ax.set_title(title, parse_math=False)
    return ax
