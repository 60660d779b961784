"""Places known in two frames, by which the sections of a graph were registered: anchors beside those of overlap."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd

from aivc_graph import names
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.tissue.registration.pairs import PLACES
from aivc_graph.tissue.section import metadata_of

_DIGITS = 3  # a nanometre


def hold_pairs(graph: TissueGraph, sections: list[Any]) -> None:
    """Keep the pairs of all sections, where there are any, as a plain attribute of the section nodes: columns."""
    rows = [
        {"section": metadata_of(section)["section"], **one}
        for section in sections
        for one in metadata_of(section).get(names.PAIRS, [])
    ]
    if rows:
        table = pd.DataFrame(rows).round(_DIGITS)
        graph[names.SECTION][names.PAIRS] = table.astype(object).where(table.notna(), None).to_dict("list")


def pairs_of(graph: TissueGraph) -> pd.DataFrame:
    """Return the pairs of a graph, a row each; none of a graph that was built without.

    Columns ``section``, those of `aivc_graph.tissue.registration.pairs.pair_table`, and the elements ``fine``, which
    was moved, and ``coarse``, on which it was placed.
    """
    kinds: dict[str, Any] = dict.fromkeys(("section", "name", "kind", "fine", "coarse"), str)
    kinds |= dict.fromkeys(("fitted", "doubtful"), bool) | dict.fromkeys((*PLACES, "residual_um", "sigma_um"), float)
    held = graph[names.SECTION].get(names.PAIRS, {name: [] for name in kinds})
    return pd.DataFrame(held)[list(kinds)].astype(kinds)


def pair_count(graph: TissueGraph) -> dict[str, int]:
    """Return how many pairs placed one element on another, and by what: ``slide+patch landmark``."""
    told = pairs_of(graph)[["fine", "coarse", "kind"]].to_numpy()
    return dict(Counter(f"{fine}+{coarse} {kind}" for fine, coarse, kind in told))
