"""Neighbours at one level, as rings by distance."""

from __future__ import annotations

from typing import ClassVar

from aivc_graph.graph.panels import same_level
from aivc_graph.graph.tissue_graph import Relation, TissueGraph
from aivc_graph.operators.part import KINDS, AbstractPart, Device, Shape
from aivc_graph.operators.product import SparseOperator
from aivc_graph.operators.rings import split_rings
from aivc_graph.settings import Settings


class RelationPlan(Settings):
    """A relation of the graph, and the last rank of each ring of neighbours along it."""

    relation: Relation
    rings: tuple[int, ...] = ()


@KINDS["relation"].register("near")
class NearRelation(AbstractPart):
    """Neighbours of one level along any relation between its nodes, sorted into rings by rank of distance.

    Shapes
    ------
    prepared
        one `SparseOperator` (node, node) a ring, values one
    """

    kind: ClassVar[str] = "relation"
    Plan = RelationPlan
    plan: RelationPlan

    @classmethod
    def serves(cls, graph: TissueGraph, shape: Shape) -> list[RelationPlan]:
        """Return a plan for each relation between nodes of one level of which this member was chosen."""
        chosen = [relation for relation in same_level(graph) if shape.picks(cls, "near", relation[1])]
        return [RelationPlan(relation=relation, rings=shape.rings) for relation in chosen]

    @property
    def slot(self) -> tuple[str, ...]:
        """The relation itself."""
        return self.plan.relation

    def prepare(self, graph: TissueGraph, device: Device) -> list[SparseOperator]:
        """Return the rings of neighbours of a window."""
        relation = graph[self.plan.relation]
        rings = split_rings(relation.adj_t, relation.distance_um, self.plan.rings)
        return [SparseOperator.of(ring).to(device) for ring in rings]
