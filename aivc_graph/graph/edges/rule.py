"""The contract of an edge rule and the registry of rules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.errors import ConfigError
from aivc_graph.registry import Registry
from aivc_graph.settings import Settings


class AbstractEdges(Settings, ABC):
    """Who is near whom within one section. Its fields are the keys a YAML edge may give beside ``kind``."""

    @abstractmethod
    def __call__(self, pos_um: NDArray[np.floating[Any]]) -> sparse.csr_matrix:
        """Return distances [µm] as CSR (target, source), float32: no self loops, columns sorted, duplicates kept."""


EDGES: Registry[type[AbstractEdges]] = Registry("edge rule", "aivc_graph.graph.edges")


def edge_rule(kind: str, **options: Any) -> AbstractEdges:
    """Return the rule called `kind`, such as ``edge_rule("knn", k=6)``."""
    member = EDGES.get(kind, where="edges")
    unknown = sorted(set(options) - set(member.model_fields))
    if unknown:
        takes = ", ".join(sorted(member.model_fields))
        raise ConfigError(f"edges · {kind}", f"unknown key {unknown[0]!r}", mend=f"this rule takes: {takes}")
    return member(**options)
