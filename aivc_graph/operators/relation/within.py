"""Which children lie in which parent, and how much of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.panels import withins
from aivc_graph.graph.tissue_graph import Relation, TissueGraph, to_scipy_csr, to_torch_csr
from aivc_graph.operators.part import KINDS, AbstractPart, Device, Shape
from aivc_graph.operators.product import SparseOperator, row_mean
from aivc_graph.settings import Settings


class WithinPlan(Settings):
    """A level and the next one above it."""

    child: str
    parent: str


@dataclass(frozen=True)
class Overlaps:
    """Overlap of children with parents: `up` (parent, child), `down` (child, parent); rows sum to one or zero."""

    up: SparseOperator
    down: SparseOperator


@KINDS["relation"].register("within")
class WithinRelation(AbstractPart):
    """Children and parents of a pair of levels, weighted by overlap."""

    kind: ClassVar[str] = "relation"
    Plan = WithinPlan
    plan: WithinPlan

    @classmethod
    def serves(cls, graph: TissueGraph, shape: Shape) -> list[WithinPlan]:
        """Return a plan for each pair of levels below the section, where this member was chosen."""
        pairs = withins(graph) if shape.picks(cls, "within", names.WITHIN) else []
        return [WithinPlan(child=child, parent=parent) for child, parent in pairs]

    @property
    def slot(self) -> Relation:
        """The relation."""
        return (self.plan.child, names.WITHIN, self.plan.parent)

    def prepare(self, graph: TissueGraph, device: Device) -> Overlaps:
        """Return the overlaps of a window, both ways."""
        overlap = graph[self.slot].adj_t
        return Overlaps(_mean(overlap, device), _mean(to_torch_csr(to_scipy_csr(overlap).T), device))


def _mean(overlap: Tensor, device: Device) -> SparseOperator:
    return SparseOperator.of(row_mean(overlap)).to(device)
