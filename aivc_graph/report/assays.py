"""Whether what the model says of each assay looks like the assay: a table and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from aivc_graph.plot.mean_variance import mean_variance
from aivc_graph.report.picture import drawing
from aivc_graph.report.words import plural, words

NONE = "–"


def assays_of(checks: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return a row for each level, modality and platform, and a picture of mean and variance; None without checks."""
    if not checks:
        return None
    table = pd.DataFrame(checks)
    rows, curves = [], []
    for (level, modality, platform), found in table.groupby(["level", "modality", "platform"], sort=False):
        name = f"{words(str(modality))} of {plural(2, words(str(level)))}" + (f", {platform}" if platform else "")
        off = np.abs(np.log(np.maximum(found["variance"].to_numpy(np.float64), 1e-6)))
        rows.append(
            {
                "name": name,
                "member": found["member"].iloc[0],
                "sections": len(found),
                "zeros": _pair(found, "zeros"),
                "variance": f"{found['variance'].mean():.2f}",
                "background": _pair(found, "background"),
                "worst": str(found["section"].iloc[int(off.argmax())]),
            }
        )
        curves += [
            {"assay": name, "mean": mean["measured"], "drawn_mean": mean["drawn"],
             "variance": variance["measured"], "drawn_variance": variance["drawn"]}
            for mean, variance in _middle(found["curve"].tolist())
        ]  # fmt: skip
    axes = mean_variance(pd.DataFrame(curves))
    return {"rows": rows, "picture": drawing(axes.figure, "Variance against mean of every assay, measured and drawn")}


def _pair(found: pd.DataFrame, name: str) -> str:
    """Return the mean over sections of what was measured and what was drawn."""
    if name not in found or not found[name].notna().all():
        return NONE
    sides = [np.mean([one[side] for one in found[name]]) for side in ("measured", "drawn")]
    return " | ".join(f"{one:.3f}" for one in sides)


def _middle(curves: list[list[dict[str, dict[str, float]]]]) -> list[tuple[dict[str, float], dict[str, float]]]:
    """Return mean and variance of each group of features, over sections."""
    found = []
    for groups in zip(*curves, strict=False):
        both = [
            {side: float(np.mean([one[what][side] for one in groups])) for side in ("measured", "drawn")}
            for what in ("mean", "variance")
        ]
        found.append((both[0], both[1]))
    return found
