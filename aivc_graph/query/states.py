"""Latent states of every node of a graph, computed window by window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.graph.windows import windows
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.gate import STATE
from aivc_graph.operators.intervention_plan import donor_of_sections
from aivc_graph.operators.rings import split_rings
from aivc_graph.operators.state import Hidden, Inputs
from aivc_graph.query.niches import Surroundings

WINDOW_NODES = 40_000
# In simulated tissue of seeds 11 and 12, whose niches are finer, the ratio is 2.2 to 2.7; in DLPFC 0.9.
FINER = 2.0


@dataclass(frozen=True)
class NodeStates:
    """Arrays (node, latent) and (node,) of one level, in the graph's order.

    `own` is what a node's own measurements say, of those `measured`, by more than features of those `counted`;
    `context` what its neighbours say; `z` the state after all messages, of those `known`.
    """

    z: NDArray[np.float32]
    own: NDArray[np.float32]
    context: NDArray[np.float32]
    known: NDArray[np.bool_]
    measured: NDArray[np.bool_]
    counted: NDArray[np.bool_]


@torch.no_grad()
def node_states(model: TissueModel, graph: Any, hide: tuple[tuple[str, str], ...] = ()) -> dict[str, NodeStates]:
    """Return the states of all nodes by level; observations named in `hide` (level, modality) are not seen."""
    latent = model.plan.latent
    structure = graph.structure
    size = {level: structure[level].num_nodes for level in model.plan.levels}
    found = {
        level: NodeStates(*np.zeros((3, n, latent), np.float32), *np.zeros((3, n), bool)) for level, n in size.items()
    }
    for inputs, state, core, rows in run_windows(model, graph, hide):
        alone = model.encode(inputs, hide_all(inputs, hide))
        for level, mask in core.items():
            target, into = rows[level][mask].numpy(), found[level]
            into.z[target] = state.z[level][mask].numpy()
            into.own[target] = alone.z[level][mask].numpy()
            into.context[target] = state.context[level][mask].numpy()
            into.known[target] = state.known[level][mask].numpy() > 0
            into.measured[target] = alone.own[level][mask].numpy() > 0
            into.counted[target] = alone.counted[level][mask].numpy() > 0
    return found


@torch.no_grad()
def run_windows(model: TissueModel, graph: Any, hide: tuple[tuple[str, str], ...] = (), question: str = STATE) -> Any:
    """Yield (inputs, state, core masks, global rows) window by window, with corrections open as the question asks."""
    model.eval()
    with model.asked(question):
        for window in windows(graph, model.plan.steps, WINDOW_NODES):
            inputs = model.prepare(window.graph)
            yield inputs, model(inputs, hide_all(inputs, hide)), window.core, window.rows


def hide_all(inputs: Inputs, hide: tuple[tuple[str, str], ...]) -> Hidden:
    """Return what hides every node of the observations named in `hide`."""
    masks: dict[tuple[str, str], Tensor] = {}
    for key in hide:
        if ("measurement", *key) in inputs:
            masks[key] = torch.ones(inputs.n_nodes[key[0]])
    return Hidden(nodes=masks)


def niche_level(model: TissueModel) -> str:
    """Return the finest level that is measured and has neighbours, or else lies in tissue: where niches are found."""
    measured = {*model.plan.panels, *model.plan.features}
    inside = {s for (s, name, t), _ in model.plan.steps if name == names.WITHIN and t != names.SECTION}
    for there in (model.plan.laterals, inside):
        for level in names.LEVELS:
            if level in measured and level in there:
                return level
    return model.plan.levels[0]


def niche_state(states: NodeStates, diagnostics: dict[str, float], level: str) -> tuple[NDArray[np.float32], str]:
    """Return the state niches are made of (node, latent) and its name, ``neighbourhood`` or ``own``.

    A niche of cells is always their neighbourhood. A patch holds many cells already, so it may stand for itself: it
    does where its neighbours are so much worse at predicting it than its own thinned counts are (leave-one-out error
    above twice the thinning error) that the tissue must be finer than they are.
    """
    loo, own = diagnostics.get(f"{level}.loo"), diagnostics.get(f"{level}.thinning_own")
    if loo is None or (level != names.CELL and own is not None and loo > FINER * own):
        return states.z, "own"
    return np.where(states.known[:, None], states.context, 0.0).astype(np.float32), "neighbourhood"


def surroundings(
    model: TissueModel, graph: TissueGraph, states: dict[str, NodeStates], diagnostics: dict[str, float]
) -> Surroundings:
    """Return what the niches of a graph are found from, at the level where they are found."""
    level = niche_level(model)
    here, (x, made_of) = states[level], niche_state(states[level], diagnostics, level)
    near = (level, names.NEAR, level)
    if near in graph.edge_types:
        # As many of the nearest neighbours as the model's last ring reaches.
        rings = split_rings(graph[near].adj_t, graph[near].distance_um, model.plan.config.rings[-1:])
        adjacency = to_scipy_csr(rings[0])
    else:
        adjacency = sparse.csr_matrix((len(x),) * 2)
    donor = np.unique(donor_of_sections(graph), return_inverse=True)[1].reshape(-1)[graph[level].section_index.numpy()]
    return Surroundings(level, made_of, x, here.own, here.known, here.measured, here.counted, adjacency, donor)
