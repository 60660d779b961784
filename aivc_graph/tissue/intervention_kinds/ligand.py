"""A signal added from outside; its name is that of its gene."""

from __future__ import annotations

from aivc_graph.tissue.intervention_kinds.kind import INTERVENTION_KINDS, InterventionKind

INTERVENTION_KINDS.register("ligand")(InterventionKind(sign=1.0))
