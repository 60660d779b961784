"""Counts of two modalities in the same molecules, by a relation that leads molecules of one to those of the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from aivc_graph import names
from aivc_graph.graph.panels import panel_columns
from aivc_graph.graph.profiles import scale_counts
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr

# Molecules that both modalities tell of, so that nodes can be laid beside each other.
LEAST_SHARED = 20


@dataclass(frozen=True)
class Links:
    """What leads molecules of the modality `other` to those of `told_in`: `weight` (molecule, molecule of other)."""

    told_in: str
    other: str
    weight: sparse.csr_matrix

    @classmethod
    def of(cls, graph: TissueGraph, level: str, one: str, two: str) -> Links | None:
        """Return the links between two modalities of a level, in either direction; None where there is no relation."""
        for told_in, other in ((one, two), (two, one)):
            ends = names.MOLECULE_OF[other], names.MOLECULE_OF[told_in]
            leads = [edge for edge in graph.edge_types if (edge[0], edge[2]) == ends]
            if leads:
                rows, columns = (panel_columns(graph, level, m).numpy() for m in (told_in, other))
                return cls(told_in, other, to_scipy_csr(graph[leads[0]].adj_t)[rows][:, columns])
        return None

    @property
    def number(self) -> int:
        """How many molecules of `told_in` anything leads to."""
        return int((np.asarray(self.weight.sum(axis=1)).ravel() > 0).sum())

    def logs(self, counts: dict[str, Any]) -> dict[str, sparse.csr_matrix]:
        """Return log counts of each modality (node, molecule) in the molecules of `told_in` that are led to."""
        linked = np.asarray(self.weight.sum(axis=1)).ravel() > 0
        own = sparse.csr_matrix(counts[self.told_in])[:, linked]
        led = sparse.csr_matrix(counts[self.other]) @ self.weight[linked].T
        return {self.told_in: _logged(own), self.other: _logged(led)}


def _logged(counts: Any) -> sparse.csr_matrix:
    counts = sparse.csr_matrix(counts)
    return scale_counts(counts, float(np.median(np.asarray(counts.sum(axis=1)))))
