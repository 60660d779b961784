"""What fewer and wrong anchors cost, as a picture and a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from aivc_graph.plot.anchor_curves import anchor_curves
from aivc_graph.report.picture import Picture, drawing
from aivc_graph.report.words import plural, words


def anchors_of(found: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the picture of the curves and a row for each condition; None where none were asked for."""
    if not found:
        return None
    return {"picture": _picture(found), "rows": [_row(one) for one in found]}


def _picture(found: Sequence[dict[str, Any]]) -> Picture:
    records, told = pd.DataFrame(list(found)), []
    for level in pd.unique(records["told"]):
        whole = records[(records["told"] == level) & (records["share"] == 1) & ~records["error_told"]]
        ends = whole.sort_values("shift_um").iloc[[0, -1]]
        fall = [" to ".join(_score(one)[:5] for one in ends[who]) for who in ("model", "nearest_join")]
        moved = f"moved by {ends['shift_um'].iloc[1]:g} µm"
        told.append(f"{words(str(level))}, {moved}: the model falls from {fall[0]}, the nearest join from {fall[1]}")
    return drawing(anchor_curves(records)[0, 0].figure, "; ".join(told))


def _row(one: dict[str, Any]) -> dict[str, str]:
    done = f"{one['share']:.0%} of anchors" if one["share"] < 1 else "all anchors"
    if one["shift_um"]:
        done = f"cells moved by {one['shift_um']:g} µm" + (", and so told" if one["error_told"] else "")
    scores = {who: _score(one[who]) for who in ("model", "nearest_join")}
    spread = "" if one["relative_sd"] is None else f"{one['relative_sd']:.2f}"
    told = f"{plural(2, words(one['told']))} by {plural(2, words(one['by']))}"
    return {"told": told, "done": done, "n": one["n"], "relative_sd": spread, **scores}


def _score(score: dict[str, float | None]) -> str:
    value, lower, upper = (score[end] for end in ("value", "lower", "upper"))
    if value is None:
        return "–"
    return f"{value:.3f}" if lower is None else f"{value:.3f} [{lower:.3f}, {upper:.3f}]"
