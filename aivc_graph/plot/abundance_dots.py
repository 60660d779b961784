"""Shares of niches and cell types, a dot a donor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from aivc_graph.plot.palette import colours_of

MOST_GROUPS = 5


def abundance_dots(shares: pd.DataFrame, *, trait: str) -> Any:
    """Draw the share of each kind in each donor, by the trait; return the Axes of the first panel.

    Parameters
    ----------
    shares
        ``what`` (a panel each), ``name``, ``donor``, ``value`` of the trait and ``share``.
    trait
        Names the legend. A number of more than five values is the horizontal axis instead.
    """
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys(shares["what"]))
    rows = [shares.loc[shares["what"] == what, "name"].nunique() for what in panels]
    figure = Figure(figsize=(7, max(2.5, 0.4 * sum(rows) + 1.4 * len(rows))), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": rows})[:, 0]
    groups = sorted(map(str, shares["value"].unique()))
    colours = colours_of(groups, groups)
    numeric = len(groups) > MOST_GROUPS and pd.to_numeric(shares["value"], errors="coerce").notna().all()
    for ax, what in zip(axes, panels, strict=True):
        table = shares[shares["what"] == what]
        names = list(dict.fromkeys(table["name"]))
        for row, name in enumerate(names):
            one = table[table["name"] == name]
            if numeric:
                ax.plot(one["value"].astype(float), 100 * one["share"], "o", label=f"{what} {name}")
                continue
            for j, group in enumerate(groups):
                share = 100 * one.loc[one["value"].astype(str) == group, "share"].to_numpy()
                height = row + (j - (len(groups) - 1) / 2) * 0.7 / len(groups)
                label = f"{trait}: {group}" if row == 0 else None
                ax.plot(share, np.full(len(share), height), "o", color=colours[group], alpha=0.7, label=label)
                if len(share):
                    ax.plot([share.mean()] * 2, [height - 0.12, height + 0.12], color=colours[group], linewidth=2)
        if numeric:
            ax.set(xlabel=trait, ylabel="share of nodes [%]", title=what)
        else:
            ticks = {"yticks": range(len(names)), "yticklabels": names}
            ax.set(xlabel="share of nodes in each donor [%]", title=what, **ticks)
            ax.invert_yaxis()
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False)
    return axes[0]
