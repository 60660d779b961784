"""Which niches touch: a graph of niches, one line a pair that does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aivc_graph.errors import ConfigError
from aivc_graph.plot.palette import UNKNOWN, nth_colour

LARGEST_DISC, SMALLEST, WIDEST_LINE = 1800.0, 0.03, 12.0
LABEL_AT = 0.68


def contact_graph(
    contacts: pd.DataFrame, *, sizes: pd.Series | None = None, min_share: float = 0.01, ax: Any = None
) -> Any:
    """Draw niches as discs on a circle and their contacts as lines, as wide as their share; return the Axes.

    The share is of all contacts between unlike niches; those within a niche only count for the default size.

    Parameters
    ----------
    contacts
        Symmetric table niche × niche: edges of the spatial graph that join them.
    sizes
        Nodes a niche; sets the area of its disc. By default its contacts.
    min_share
        Least share that is drawn.

    Raises
    ------
    ConfigError
        The table is not symmetric.
    """
    import networkx as nx

    table = contacts.to_numpy(dtype=np.float64)
    if not contacts.index.equals(contacts.columns) or not np.allclose(table, table.T):
        raise ConfigError("contact_graph", "rows that differ from columns", "a symmetric table niche × niche")
    pairs = list(zip(*np.triu_indices(len(table), 1), strict=True))
    total = sum(table[pair] for pair in pairs)
    names = list(contacts.index)
    graph: Any = nx.Graph()
    graph.add_nodes_from(names)
    for i, j in pairs:
        if total > 0 and table[i, j] / total >= min_share:
            graph.add_edge(names[i], names[j], share=table[i, j] / total)
    ax = _new_axes() if ax is None else ax
    weight = table.sum(axis=1) if sizes is None else sizes.reindex(names).to_numpy(dtype=np.float64)
    _draw(ax, graph, weight / max(weight.max(initial=0.0), 1e-12))
    return ax


def _draw(ax: Any, graph: Any, area: NDArray[np.float64]) -> None:
    import networkx as nx

    where = nx.circular_layout(graph)
    shares = nx.get_edge_attributes(graph, "share")
    widest = max(shares.values(), default=1.0)
    widths = [WIDEST_LINE * value / widest for value in shares.values()]
    colours = [nth_colour(i) for i in range(len(graph))]
    nx.draw_networkx_edges(graph, where, ax=ax, width=widths, edge_color=UNKNOWN)
    sizes = LARGEST_DISC * np.maximum(area, SMALLEST)
    nx.draw_networkx_nodes(graph, where, ax=ax, node_size=sizes, node_color=colours)
    texts = {edge: f"{value:.0%}" for edge, value in shares.items()}
    # Not half way: all lines across the circle meet there, and one label would hide the others.
    nx.draw_networkx_edge_labels(graph, where, texts, ax=ax, font_size=8, rotate=False, label_pos=LABEL_AT)
    for name, (x, y) in where.items():
        side = "center" if abs(x) < 0.1 else "left" if x > 0 else "right"
        ax.text(1.22 * x, 1.22 * y, str(name), ha=side, va="center", fontsize=9)
    ax.set(xlim=(-2.1, 2.1), ylim=(-1.4, 1.4), aspect="equal")
    ax.axis("off")


def _new_axes() -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(6.5, 5.5), layout="constrained").subplots()
