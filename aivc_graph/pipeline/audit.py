"""What leaks in a run: what its data tell, and what its configuration accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aivc_graph.evaluation.audit import audit_graph
from aivc_graph.graph.store import store_facts
from aivc_graph.pipeline.tasks.context_expression import OF_CONTEXT
from aivc_graph.pipeline.tasks.task import Asked
from aivc_graph.training.run_folder import FACTS, run_facts


def audit(asked: Asked) -> dict[str, Any]:
    """Return the audit of a run's split; see `audit_graph`."""
    levels = [v for v in asked.model.plan.panels if asked.model.plan.expressed(v) in OF_CONTEXT]
    train, asked_of = (
        {level: rows(level) & asked.counted(level) for level in levels} for rows in (asked.training, asked.scored)
    )
    return audit_graph(asked.graph, train, asked_of, asked.model.plan.steps, asked.tissue.seed)


def built_facts(run: Path) -> dict[str, Any]:
    """Return what the run's graph says of how it was built: configuration, inputs, doubts, leaks, reach of messages."""
    place = (run / run_facts(run / FACTS, ("graph",))["graph"]).resolve()
    found: dict[str, Any] = store_facts(place).get("provenance", {})
    return found


def accepted_leaks(built: dict[str, Any]) -> list[str]:
    """Return what stands on two sides of a split because its configuration accepts it, a sentence each.

    Parameters
    ----------
    built
        What `built_facts` returns.
    """
    return [str(leak) for leak in built.get("leaks", ())]
