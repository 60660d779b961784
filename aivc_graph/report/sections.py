"""The sections of a run, in the order they were given, and what a reader should know of each."""

from __future__ import annotations

import numpy as np

from aivc_graph import names
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr

HELD_OUT = "held out"
NOTES = {names.TEST: HELD_OUT, names.VALIDATION: "used to stop training"}


def section_notes(graph: TissueGraph) -> dict[str, str]:
    """Return, section by section, what was done to it and whether it was held out; empty where neither."""
    sections = [str(name) for name in graph.obs(names.SECTION).index]
    notes: dict[str, list[str]] = {name: [] for name in sections}
    given = (names.INTERVENTION, names.APPLIED_TO, names.SECTION)
    if given in graph.edge_types:
        what = graph.obs(names.INTERVENTION)
        rows, columns = to_scipy_csr(graph[given].adj_t).nonzero()
        for row, column in zip(rows, columns, strict=True):
            notes[sections[row]].append(f"{what['kind'].iloc[column]} of {what['name'].iloc[column]}")
    for split, words in NOTES.items():
        for row in _rows_of(graph, split):
            notes[sections[row]].append(words)
    return {name: ", ".join(parts) for name, parts in notes.items()}


def _rows_of(graph: TissueGraph, split: str) -> np.ndarray:
    """Return the sections of which every node is in `split`, finest level first to decide."""
    level = graph.levels[0]
    of = graph[level].section_index.numpy()
    inside = np.asarray(graph.in_split(level, split))
    here, all_of = (np.bincount(rows, minlength=graph[names.SECTION].num_nodes) for rows in (of[inside], of))
    return np.flatnonzero((here == all_of) & (all_of > 0))
