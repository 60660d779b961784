"""Do lift and project agree? Up and down again, down and up again, and each against what was measured there."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.set_distance import energy_distance
from aivc_graph.operators.state import Hidden, Inputs, State
from aivc_graph.query.states import run_windows

MODEL, POOLING, SHUFFLED = "model", "mean_pooling", "shuffled"
# Parents of a pair of levels whose sets of children are compared, and children of each.
MOST_SETS, MOST_CHILDREN = 200, 100


@torch.no_grad()
def cycles(
    model: TissueModel, graph: TissueGraph, asked: dict[str, NDArray[np.bool_]], seed: int = 0
) -> list[dict[str, Any]]:
    r"""Return for each pair of levels that were both measured how far lift L and project P lead astray.

    With t the state that a parent's own measurements tell, z those of its children, and errors squared, by component,
    in units of the noise of a single measurement:

    - ``down_up``: :math:`\|L(P(t)) - t\|^2`
    - ``up_down``: the energy distance of :math:`P(L(\{z\}))` from the set :math:`\{z\}`
    - ``up``: :math:`\|L(\{z\}) - t\|^2`
    - ``down``: :math:`\|P(t) - \bar z\|^2`, in noise of a child

    each of the model, of plain means without fitted maps (``mean_pooling``), and of the model where children were dealt
    anew to the parents of a section (``shuffled``). The mean of a state that was told to all is that state: of
    ``down_up`` plain means say nothing. In ``up_down`` they tell all children their own mean, close to the best that
    can be told alike of all.

    Parameters
    ----------
    asked
        Who is looked at (node,), by level.

    References
    ----------
    Székely & Rizzo 2013, doi:10.1016/j.jspi.2013.03.018 (energy distance).
    """
    sums: dict[tuple[str, str], dict[tuple[str, str], list[float]]] = {}
    for inputs, _, core, rows in run_windows(model, graph):
        own = model.encode(inputs, Hidden())
        for lift in model.parts_of("lift"):
            child, parent = lift.slot
            makers = [model.state_maker(level) for level in (child, parent)]
            if None in makers:
                continue
            inside = core[parent].numpy() & asked[parent][rows[parent].numpy()]
            pair = _Pair(model, inputs, own, lift, makers, inside, seed)
            found = sums.setdefault((child, parent), defaultdict(list))
            for key, values in pair.errors().items():
                found[key] += values
    return [_record(*pair, found) for pair, found in sums.items() if found]


def _record(child: str, parent: str, found: dict[tuple[str, str], list[float]]) -> dict[str, Any]:
    ways: dict[str, Any] = {}
    for (way, of), values in found.items():
        ways.setdefault(way, {"n": len(values)})[of] = float(np.mean(values))
    return {"child": child, "parent": parent, **ways}


class _Pair:
    """A pair of levels in one window: its parents that are asked, with children all of whom were measured."""

    def __init__(
        self,
        model: TissueModel,
        inputs: Inputs,
        own: State,
        lift: Any,
        makers: list[Any],
        asked: NDArray[np.bool_],
        seed: int,
    ) -> None:
        child, parent = lift.slot
        overlaps = inputs["relation", *lift.relation]
        self.lift, self.project = lift, model.part("project", child, parent)
        self.up, self.down = overlaps.up, overlaps.down
        self.z, self.t = own.z[child], own.z[parent]
        self.of_child, self.of_parent = (part.log_precision.exp() for part in makers)
        seen_child, seen_parent = (own.seen[part.key] for part in makers)
        whole = (self.up @ seen_child[:, None]).ravel() > 0.99
        self.rows = torch.from_numpy(np.flatnonzero(asked & (whole & (seen_parent > 0)).numpy()))
        section, rng = inputs.section[child].numpy(), np.random.default_rng(seed)
        self.dealt = torch.arange(len(section))
        for one in np.unique(section):
            members = np.flatnonzero((section == one) & (self.down.reached.numpy() > 0))
            self.dealt[members] = torch.from_numpy(rng.permutation(members))

    def errors(self) -> dict[tuple[str, str], list[float]]:
        """Return the error of each parent, by way and by whose it is."""
        if not len(self.rows):
            return {}
        told, mean, plain = self.project.alone(self.t, self.down), self.up @ self.z, self.down @ self.t
        lifted, dealt = (self.lift.alone(z, self.up) for z in (self.z, self.z[self.dealt]))
        back = self.project.alone(lifted, self.down, lifted=True)
        again = self.lift.alone(told[self.dealt], self.up)
        ways = {
            "down_up": (self.t, self.of_parent, self.lift.alone(told, self.up), None, again),
            "up": (self.t, self.of_parent, lifted, mean, dealt),
            "down": (mean, self.of_child, self.up @ told, self.up @ plain, self.up @ told[self.dealt]),
        }
        found = {
            (way, of): ((one - truth)[self.rows].square() * noise).mean(dim=1).tolist()
            for way, (truth, noise, *ones) in ways.items()
            for of, one in zip((MODEL, POOLING, SHUFFLED), ones, strict=True)
            if one is not None
        }
        sets = {MODEL: back, POOLING: self.down @ mean, SHUFFLED: back[self.dealt]}
        return found | {("up_down", of): self._distances(one) for of, one in sets.items()}

    def _distances(self, told: Tensor) -> list[float]:
        """Return the energy distance of what is told of the children of some parents from what they are."""
        up, scale = to_scipy_csr(self.up.forward_csr), self.of_child.sqrt()
        found = []
        for row in self.rows[:: -(-len(self.rows) // MOST_SETS)].tolist():
            children = up.indices[up.indptr[row] : up.indptr[row + 1]][:MOST_CHILDREN]
            if len(children) > 1:
                found.append(float(energy_distance(told[children] * scale, self.z[children] * scale)))
        return found
