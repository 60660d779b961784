"""Whether lift and project agree, as one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aivc_graph.report.words import plural, words

OF = ("model", "mean_pooling", "shuffled")
WAYS = {
    "up": "{children} → {parent}, against its own measurement",
    "down": "{parent} → {children}, against their mean",
    "down_up": "{parent} → {children} → {parent}",
    "up_down": "{children} → {parent} → {children}, as sets",
}


def cycles_of(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each pair of levels and way between them."""
    return [
        {"way": told.format(children=plural(2, words(one["child"])), parent=words(one["parent"])), "n": one[way]["n"]}
        | {of: f"{one[way][of]:.2f}" if of in one[way] else "" for of in OF}
        for one in found
        for way, told in WAYS.items()
        if way in one
    ]
