"""Who learns by gradient, who stops training, and who chooses how far corrections are let through."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.state import Inputs

LEARNING, STOPPING, CHOOSING = "learning", "stopping", "choosing"
# Of tissue of fewer regions all do everything.
LEAST_PLACES = 40


@dataclass(frozen=True)
class Places:
    """How the regions of a tissue share the work.

    Validation places stop training and choose gates by turns. Where there are none, every tenth place of training
    tissue does either, and is not learnt from: what stops training must not also judge what it came to.

    Parameters
    ----------
    n_training, n_validation
        Regions in which nodes of the training and of the validation split lie.
    """

    n_training: int
    n_validation: int

    @classmethod
    def of(cls, graph: TissueGraph, levels: Iterable[str]) -> Places:
        """Return the places of the measured `levels` of a graph."""
        levels, numbers = list(levels), []
        for split in (names.TRAIN, names.VALIDATION):
            regions = [graph[v].region_index[graph.in_split(v, split)] for v in levels]
            numbers.append(len(torch.cat(regions).unique()) if regions else 0)
        return cls(*numbers)

    @property
    def validated(self) -> bool:
        """Whether any node is for validation."""
        return self.n_validation > 0

    def counted(self, inputs: Inputs, core: dict[str, Tensor], group: str) -> dict[str, Tensor]:
        """Return who of a window's core (node,) belongs to a group, by level."""
        if group == LEARNING or not self.validated:
            found = in_split(inputs, core, names.TRAIN)
        else:
            found = in_split(inputs, core, names.VALIDATION)
        if self.validated and group != LEARNING and self.n_validation > 1:
            turn = int(group == CHOOSING)
            return {level: mask * (inputs.place[level] % 2 == turn) for level, mask in found.items()}
        if not self.validated and self.n_training >= LEAST_PLACES:
            turns = {LEARNING: range(2, 10), STOPPING: [0], CHOOSING: [1]}[group]
            mine = torch.zeros(10, device=inputs.device)
            mine[list(turns)] = 1.0
            return {level: mask * mine[inputs.place[level] % 10] for level, mask in found.items()}
        return found


def in_split(inputs: Inputs, core: dict[str, Tensor], split: str) -> dict[str, Tensor]:
    """Return who of a window's core (node,) is in `split`, by level."""
    return {level: mask * (inputs.split[level] == names.SPLITS.index(split)) for level, mask in core.items()}


def new_donors(graph: TissueGraph, levels: Iterable[str]) -> NDArray[np.int64]:
    """Return the code of the donor of each section, -1 where a node of that donor is trained on (section,)."""
    obs = graph.obs(names.SECTION)
    donor = obs["donor"].astype(str).to_numpy() if "donor" in obs else obs.index.astype(str).to_numpy()
    trained = [graph[v].section_index[graph.in_split(v, names.TRAIN)].unique().numpy() for v in levels]
    code = np.unique(donor, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return np.where(np.isin(donor, donor[np.concatenate([np.zeros(0, np.int64), *trained])]), -1, code)
