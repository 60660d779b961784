"""One value a node where it lies, such as the expression of a gene."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aivc_graph.errors import ConfigError
from aivc_graph.plot.palette import UNKNOWN
from aivc_graph.plot.tissue_axes import tissue_axes

TOP = 0.99


def expression_map(
    pos_um: ArrayLike,
    value: ArrayLike,
    *,
    unit: str,
    slide: NDArray[np.uint8] | None = None,
    mpp: float | None = None,
    size_um: ArrayLike | float | None = None,
    top: float | None = None,
    title: str = "",
    ax: Any = None,
) -> Any:
    """Draw each node as a disc coloured by its value, with a colour bar that names the unit; return the Axes.

    Parameters
    ----------
    pos_um
        Centres ``(node, 2)`` [µm].
    value
        One number a node (node,); NaN, not measured, is drawn grey.
    unit
        Label of the colour bar.
    slide, mpp, size_um
        As in `aivc_graph.plot.niche_map.niche_map`.
    top
        Value of the strongest colour; the 99th percentile if not given. The weakest is zero.

    Raises
    ------
    ConfigError
        Positions and values of different length, or a slide without `mpp`.
    """
    from matplotlib import colormaps
    from matplotlib.colors import Normalize

    pos, values = np.asarray(pos_um, dtype=np.float64).reshape(-1, 2), np.asarray(value, dtype=np.float64).ravel()
    if len(values) != len(pos):
        raise ConfigError("expression_map", f"{len(values)} values for {len(pos)} positions", "one each")
    ax, discs = tissue_axes(pos, size_um, slide=slide, mpp=mpp, ax=ax)
    if top is None:
        top = float(np.nanquantile(values, TOP)) if np.isfinite(values).any() else 1.0
    discs.set(cmap=colormaps["viridis"].with_extremes(bad=UNKNOWN), norm=Normalize(0.0, max(top, 1e-12)))
    discs.set_array(np.ma.masked_invalid(values))
    above = np.isfinite(values).any() and np.nanmax(values) > top
    ax.figure.colorbar(discs, ax=ax, label=unit, shrink=0.7, extend="max" if above else "neither")
    ax.set_title(title, parse_math=False)
    return ax
