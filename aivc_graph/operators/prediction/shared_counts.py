"""Two levels of one tissue that count some of the same molecules."""

from __future__ import annotations

from typing import Self

from aivc_graph import names
from aivc_graph.graph.panels import is_observed, panel, shared_columns, withins
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.settings import Settings


class SharedCountsPlan(Settings):
    """A child and a parent with molecules in common: their columns in either panel, and the depth of what is told."""

    child: str
    parent: str
    modality: str
    of_child: tuple[int, ...]
    of_parent: tuple[int, ...]
    depth: float

    @classmethod
    def of(cls, graph: TissueGraph, *, of_child: bool) -> list[Self]:
        """Return a plan for each pair of levels and modality with molecules in common, by which one of them is told."""
        return [
            cls(
                child=child, parent=parent, modality=m, of_child=tuple(own), of_parent=tuple(shared),
                depth=float(graph[child if of_child else parent][f"{m}_depth"]),
            )
            for child, parent in withins(graph)
            for m in names.MOLECULE_OF
            if is_observed(graph, child, m) and is_observed(graph, parent, m)
            for own, shared in [shared_columns(panel(graph, child, m), panel(graph, parent, m))]
            if own
        ]  # fmt: skip
