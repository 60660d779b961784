"""The effect of an intervention where it falls, and where no answer is supported."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aivc_graph.errors import ConfigError
from aivc_graph.plot.tissue_axes import tissue_axes

TOP = 0.99
UNSUPPORTED = "#FFFFFF"


def effect_map(
    pos_um: ArrayLike,
    effect: ArrayLike,
    supported: ArrayLike,
    *,
    unit: str,
    slide: NDArray[np.uint8] | None = None,
    mpp: float | None = None,
    size_um: ArrayLike | float | None = None,
    title: str = "",
    ax: Any = None,
) -> Any:
    """Draw each node as a disc: orange where the effect is above zero, purple below, an empty ring where unsupported.

    Parameters
    ----------
    pos_um
        Centres ``(node, 2)`` [µm].
    effect
        Difference a node (node,); the strongest colours are its 99th percentile of size, either side of zero.
    supported
        False where the model has no ground for an answer (node,): an empty ring, whatever the effect.
    unit
        Label of the colour bar.
    slide, mpp, size_um
        As in `aivc_graph.plot.niche_map.niche_map`.

    Raises
    ------
    ConfigError
        Arrays of different length, or a slide without `mpp`.
    """
    from matplotlib import colormaps
    from matplotlib.colors import Normalize

    pos, values = np.asarray(pos_um, dtype=np.float64).reshape(-1, 2), np.asarray(effect, dtype=np.float64).ravel()
    known = np.asarray(supported, dtype=bool).ravel() & np.isfinite(values)
    if not len(values) == len(pos) == len(known):
        raise ConfigError("effect_map", f"{len(values)} effects for {len(pos)} positions", "one each")
    size = None if size_um is None else np.broadcast_to(np.asarray(size_um, dtype=np.float64), len(pos))
    ax, discs = tissue_axes(pos, size, slide=slide, mpp=mpp, ax=ax)
    top = max(float(np.quantile(np.abs(values[known]), TOP)) if known.any() else 1.0, 1e-12)
    discs.set(cmap=colormaps["PuOr_r"].with_extremes(bad=UNSUPPORTED), norm=Normalize(-top, top))
    discs.set_array(np.ma.masked_where(~known, values))
    discs.set(edgecolor=np.where(known, "#00000000", "#666666"), linewidth=np.where(known, 0.0, 0.4))
    ax.figure.colorbar(discs, ax=ax, label=unit, shrink=0.7, extend="both")
    ax.set_title(title, parse_math=False)
    return ax
