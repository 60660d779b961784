"""How surely expression is told of what was not measured: molecules of a section, nodes of a level."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import gammaincinv, ndtri
from torch import Tensor

from aivc_graph.graph.profiles import level_spread
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.counts import CountInput
from aivc_graph.operators.state import Inputs, State

Floats = NDArray[np.floating[Any]]
CONFIDENCE = 0.95


def factor_between(part: Any, data: Any, graph: TissueGraph) -> Floats | None:
    r"""Return by which factor the rate of a molecule may lie below or above what is told (node, molecule).

    Two things are not known of a molecule that a section did not measure: its level there, which differs between the
    sections that did by :math:`\sigma_g`, and what the state leaves open, whose variance is one over its precision
    :math:`p_v`,

    .. math:: \exp\left(1.96 \sqrt{\sigma_g^2 + \textstyle\sum_k w_{gk}^2 / p_{vk}}\right)

    NaN of what was measured, and where no two sections measured any molecule. None where sections measured all.
    """
    there = data.there if isinstance(data, CountInput) else None
    if there is None:
        return None
    level, modality = part.key
    with torch.no_grad():
        left_open = (1 / part.precision(data)).expand(len(data.section), -1) @ part.decoder().square().t()
    wide = ndtri(0.5 + CONFIDENCE / 2) * np.sqrt(level_spread(graph, level, modality) ** 2 + left_open.numpy())
    return np.where(there[data.section].numpy(), np.nan, np.exp(wide))


def told_between(model: TissueModel, state: State, inputs: Inputs, level: str, modality: str) -> Floats:
    r"""Return by which factors rates may lie below and above what is told of nodes not counted (2, node, molecule).

    Of those told by what lies above or beneath them, where held-out nodes say how far rates scatter about that, or
    about the rule in a section that goes back to it: the ends of 95 % of a gamma distribution of mean one and variance
    :math:`\varphi_g`, what is beyond counting in a negative binomial. Its mean being the expectation, where
    :math:`\varphi_g` is large most rates lie below. NaN elsewhere.
    """
    found = np.full((2, len(state.counted[level]), len(model.plan.panels[level][modality])), np.nan)
    parts = [part for part in model.parts_of("prediction") if part.target == (level, modality)]
    speak = {part: part.speaks(state, inputs).numpy() for part in parts}
    around = np.any([speak[part] for part in parts if part.looks_around], axis=0) if parts else False
    for part in sorted(parts, key=lambda one: one.rank):
        if part.columns:
            here = speak[part] & ~around
            told = model.expected(state, inputs, level, modality, without=part)
            at_rule = part.at_rule(told, state, inputs, torch.from_numpy(here)).numpy()
            for rows, scatter in ((here & ~at_rule, part.scatter), (here & at_rule, part.rule_scatter)):
                found[np.ix_((0, 1), rows, part.columns)] = _ends(scatter)[:, None]
    return found


def _ends(scatter: Tensor) -> Floats:
    """Return the ends of the interval of a rate over its expectation (2, molecule), NaN where scatter is infinite."""
    variance = scatter.double().numpy()
    shape = 1 / np.where(np.isfinite(variance), variance, np.nan)
    return np.stack([gammaincinv(shape, (1 + side * CONFIDENCE) / 2) / shape for side in (-1, 1)])
