"""Where each type of a mixture lies, and how sure that is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from aivc_graph.errors import ConfigError
from aivc_graph.plot.expression_map import expression_map

MOST_TYPES = 6


def composition_maps(
    pos_um: ArrayLike, shares: pd.DataFrame, width: pd.DataFrame | None = None, *, size_um: ArrayLike | None = None
) -> Any:
    """Draw a map of each of the six commonest types above the width of its interval; return the first Axes.

    Parameters
    ----------
    pos_um
        Centres ``(node, 2)`` [µm].
    shares, width
        Share of each type, and the width of its interval, 0 to 1 (node, type); without widths one row of maps.
    size_um
        Diameters of the nodes [µm].

    Raises
    ------
    ConfigError
        No types, or tables of other columns.
    """
    from matplotlib.figure import Figure

    if shares.shape[1] == 0 or (width is not None and list(width) != list(shares)):
        raise ConfigError("composition_maps", f"{shares.shape[1]} types, or widths of others", "the same types in both")
    kinds = list(shares.mean().sort_values(ascending=False, kind="stable").index[:MOST_TYPES])
    tables = {"share": shares} | ({} if width is None else {"width of the interval": width})
    figure = Figure(figsize=(3.2 * len(kinds), 3.0 * len(tables)), layout="constrained")
    axes = figure.subplots(len(tables), len(kinds), squeeze=False)
    for row, (unit, table) in zip(axes, tables.items(), strict=True):
        for ax, kind in zip(row, kinds, strict=True):
            value = table[kind].to_numpy(dtype=np.float64)
            expression_map(pos_um, value, unit=unit, size_um=size_um, title=str(kind), ax=ax)
    return axes[0, 0]
