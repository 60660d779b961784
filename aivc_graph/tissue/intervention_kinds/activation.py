"""The activation of a gene."""

from __future__ import annotations

from aivc_graph.tissue.intervention_kinds.kind import INTERVENTION_KINDS, InterventionKind

INTERVENTION_KINDS.register("activation")(InterventionKind(sign=1.0, inside=True))
