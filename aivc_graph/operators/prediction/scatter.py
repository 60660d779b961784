"""How far rates lie from what is told of them: what counts of held-out nodes have beyond counting."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import stdtrit
from torch import Tensor

# Squared counts by which a molecule leans on all others.
FEW = 10.0
# Where few places tell the scatter, it is taken at this end of what they leave open.
UPPER_END = 0.9


def scatter_of(told: Tensor, counts: Tensor, place: NDArray[np.integer]) -> Tensor:
    r"""Return the variance of rates about what was told, over its square, by molecule (molecule,).

    .. math:: \varphi_g = \frac{\sum_v (y_{vg} - m_{vg})^2 - m_{vg}}{\sum_v m_{vg}^2}

    by moments of a negative binomial, each molecule shrunk towards all; times what so many places leave open of it,
    :math:`1 + t_{n-1} s / \sqrt{n}` with s the relative spread over places. Infinite where fewer than two tell it.

    Parameters
    ----------
    told, counts
        What was expected and what was counted of each held-out node (node, molecule).
    place
        The region, or donor, each lies in (node,).
    """
    m, y = (one.double().cpu().numpy() for one in (told, counts))
    places, code = np.unique(place, return_inverse=True)
    if len(places) < 2:
        return torch.full((m.shape[1],), torch.inf)
    beyond, square = (y - m) ** 2 - m, m**2
    of_place = [np.bincount(code, one.sum(axis=1), len(places)) for one in (beyond, square)]
    common = max(of_place[0].sum() / max(of_place[1].sum(), 1e-12), 1e-3)
    found = np.maximum(beyond.sum(axis=0) + FEW * common, 0.0) / (square.sum(axis=0) + FEW)
    spread = float(np.std(of_place[0] / np.maximum(of_place[1], 1e-12), ddof=1)) / common
    left_open = 1 + stdtrit(len(places) - 1, UPPER_END) * spread / np.sqrt(len(places))
    return torch.from_numpy(np.maximum(found, 1e-3) * left_open).float()
