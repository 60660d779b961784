"""Whether drawn types lie beside each other as measured ones do, as one table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from aivc_graph.report.words import plural, words

FARTHEST = 5


def contacts_of(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each level and distance: how many pairs of types agree, and those that are farthest off."""
    rows = []
    for (level, within), pairs in pd.DataFrame(found).groupby(["level", "within_um"]) if found else ():
        inside = (pairs["lower"] <= pairs["measured"]) & (pairs["measured"] <= pairs["upper"])
        off = ((pairs["measured"] + 0.05) / (pairs["drawn"] + 0.05)).map(lambda ratio: abs(math.log(ratio)))
        farthest = pairs.loc[off.sort_values(ascending=False, kind="stable").index[:FARTHEST]]
        rows.append(
            {
                "where": f"{plural(2, words(str(level)))} within {within:g} µm",
                "pairs": len(pairs),
                "inside": int(inside.sum()),
                "farthest": [
                    {
                        "name": f"{one.of} around {one.around}",
                        "measured": f"{one.measured:.2f}",
                        "drawn": f"{one.drawn:.2f}",
                    }
                    for one in farthest.itertuples()
                ],
            }
        )
    return rows
