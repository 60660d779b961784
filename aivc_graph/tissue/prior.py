"""What is known about molecules before anything was measured: their relations, and columns that describe them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from aivc_graph import names

EDGE_COLUMNS = ("source", "target", "sign", "weight")


@dataclass(frozen=True)
class Prior:
    """One file of prior knowledge.

    Parameters
    ----------
    relation
        What a row says: one of `names.KNOWN_RELATIONS`, or `names.DESCRIBES`.
    table
        Of a relation a row an edge, columns `EDGE_COLUMNS`: sign −1, 0 (not known) or 1, weight above 0. Of what
        describes molecules a row a molecule, columns by name. Of `names.NEAR` a row a gene: its place on the genome.
    facts
        File, layout, SHA-256 and what else the card says.
    within_bp
        Of `names.NEAR`: up to how far a peak may lie from its gene.
    names_by
        A table of which one column holds the prior's names and another the tissue's; None where they are the same.
    """

    relation: str
    table: pd.DataFrame
    facts: dict[str, Any] = field(default_factory=dict)
    within_bp: int = 0
    names_by: pd.DataFrame | None = None

    @property
    def describes(self) -> bool:
        """Whether it is a table of vectors (molecule, d)."""
        return self.relation == names.DESCRIBES

    @property
    def placed(self) -> bool:
        """Whether its rows are places on the genome."""
        return self.relation == names.NEAR
