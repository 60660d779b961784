"""A tissue with one part taken away, to be asked the same: what an answer loses is what that part gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aivc_graph.graph.hiding import hide_observations
from aivc_graph.graph.rewiring import rewired, without_messages
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.registry import Registry
from aivc_graph.training.checkpoint import CLOSED_FORM, load_model

MESSAGES_OFF, REWIRED, FEATURES_ONLY = "messages_off", "rewired_graph", "features_only"


@dataclass(frozen=True)
class Given:
    """What an ablation may need beside the tissue.

    Parameters
    ----------
    run
        The run folder.
    asked
        Who is asked at each level (node,).
    """

    run: Path
    asked: Mapping[str, NDArray[np.bool_]]


# A tissue and what is given → the tissue with one part taken away, or why there is none.
Ablation = Callable[[VirtualTissue, Given], VirtualTissue | str]
# Facts: `without`, what is taken away, in words.
ABLATIONS: Registry[Ablation] = Registry("ablation")


def ablated(tissue: VirtualTissue, given: Given) -> tuple[dict[str, VirtualTissue], dict[str, str]]:
    """Return the tissue by each ablation, and why there is none by the others."""
    found = {name: ABLATIONS[name](tissue, given) for name in ABLATIONS}
    tissues = {name: one for name, one in found.items() if isinstance(one, VirtualTissue)}
    return tissues, {name: one for name, one in found.items() if isinstance(one, str)}


@ABLATIONS.register("closed_form_only", without="all that was learned by gradient: the model as training began")
def closed_form_only(tissue: VirtualTissue, given: Given) -> VirtualTissue | str:
    """Return the tissue with the model as it stood before any step of gradient descent."""
    if not (given.run / CLOSED_FORM).is_file():
        return f"the run has no {CLOSED_FORM}: train again with this version"
    return _with(tissue, model=load_model(given.run, CLOSED_FORM))


@ABLATIONS.register(MESSAGES_OFF, without="all messages: each node is told by its own measurements alone")
def messages_off(tissue: VirtualTissue, given: Given) -> VirtualTissue:
    """Return the tissue without neighbours, parents or children.

    A node whose own measurements are hidden has no state then: all of a section are told the same, its mean profile. A
    niche is made of what its nodes are, since nothing is known of what is around them.
    """
    return _with(tissue, graph=without_messages(tissue.graph), diagnostics={})


@ABLATIONS.register(REWIRED, without="who is near whom: as many neighbours and children, drawn within the section")
def rewired_graph(tissue: VirtualTissue, given: Given) -> VirtualTissue:
    """Return the tissue with its messages sent between nodes of a section that were drawn at random."""
    return _with(tissue, graph=rewired(tissue.graph, tissue.seed))


@ABLATIONS.register(
    FEATURES_ONLY, without="all that was measured of the sections asked: tiles and other features are left"
)
def features_only(tissue: VirtualTissue, given: Given) -> VirtualTissue | str:
    """Return the tissue with no counts or intensities in any section in which a node is asked, at any level."""
    plan, graph = tissue.model.plan, tissue.graph
    if not plan.features:
        return "no features, such as tiles, were measured"
    if not plan.panels:
        return "nothing but features was measured"
    section = {level: graph[level].section_index.numpy() for level in graph.levels}
    asked = np.unique(np.concatenate([section[level][rows] for level, rows in given.asked.items()]))
    hidden = {(level, m): np.isin(section[level], asked) for level, by in plan.panels.items() for m in by}
    return _with(tissue, graph=hide_observations(graph, hidden))


def _with(
    tissue: VirtualTissue,
    graph: TissueGraph | None = None,
    model: TissueModel | None = None,
    diagnostics: dict[str, float] | None = None,
) -> VirtualTissue:
    kept = tissue.diagnostics if diagnostics is None else diagnostics
    return VirtualTissue(graph or tissue.graph, model or tissue.model, kept, tissue.seed, tissue.slides)
