"""Draw how well two levels are told of each other against the share of anchors, and against how wrong they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aivc_graph.plot.palette import nth_colour

QUESTIONS = {
    "spots from cells, r": "spots from cells: median r",
    "cells from spots, r": "cells from spots: median r",
    "composition, JSD": "composition of spots: JSD [bit]",
}
# Who is drawn: the name of the line, the condition's ending, and whose score of it.
LINES = {
    "model, σ unstated": ("", "model"),
    "model, σ true": (", σ true", "model"),
    "model, σ 0": (", σ 0", "model"),
    "nearest join": ("", "nearest join"),
}
SHARES = {0.05: "5% of anchors", 0.2: "20% of anchors", 0.5: "50% of anchors", 1.0: "untouched"}
SHIFTS = (0, 25, 50, 100)


def draw(found: dict[str, Any], path: Path) -> None:
    """Write a picture: a row a study and a kind of fault, a column a question, bands the 95 % intervals over blocks.

    Parameters
    ----------
    found
        By study and condition what `benchmarks/anchors.py` found.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(QUESTIONS), 2.9 * 2 * len(found)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2 * len(found), len(QUESTIONS), squeeze=False)
    for row, (study, done) in enumerate(found.items()):
        for column, (question, title) in enumerate(QUESTIONS.items()):
            for at, by_share in ((2 * row, True), (2 * row + 1, False)):
                ax = axes[at, column]
                for i, (name, (ending, who)) in enumerate(LINES.items()):
                    if not by_share or not ending:
                        _line(ax, _points(done, question, ending, who, by_share=by_share), name, nth_colour(i))
                ax.set_title(f"{study}\n{title}", fontsize=9)
                ax.set_xlabel("share of anchors" if by_share else "cells moved by [µm]", fontsize=8)
    axes[1, 0].legend(fontsize=7)
    figure.savefig(path, dpi=110)


def _points(
    done: dict[str, Any], question: str, ending: str, who: str, *, by_share: bool
) -> dict[float, dict[str, float]]:
    """Return the score and its interval by share of anchors, or by shift."""
    where = dict(SHARES) if by_share else {float(shift): f"moved {shift} µm{ending}" for shift in SHIFTS}
    return {x: done[condition][question][who] for x, condition in where.items() if condition in done}


def _line(ax: Any, points: dict[float, dict[str, float]], name: str, colour: str) -> None:
    x = sorted(points)
    ax.plot(x, [points[one]["value"] for one in x], "o-", color=colour, label=name, markersize=3)
    low, high = ([points[one][end] for one in x] for end in ("lower", "upper"))
    ax.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
