"""A drug, whose name is no gene: what it acts on is said with it, where it is known."""

from __future__ import annotations

from aivc_graph.tissue.intervention_kinds.kind import INTERVENTION_KINDS, InterventionKind

INTERVENTION_KINDS.register("drug")(InterventionKind(sign=None, has_structure=True))
