"""How surely expression is told of molecules that the section of a node did not measure."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri

from aivc_graph.graph.profiles import level_spread
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.counts import CountInput

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
