"""How far two sets of states lie apart."""

from __future__ import annotations

import torch
from torch import Tensor


def energy_distance(x: Tensor, y: Tensor) -> Tensor:
    """Return ``2 E|X − Y| − E|X − X'| − E|Y − Y'|`` of two sets (member, component), pairs of one member included.

    Its gradient at members that coincide is zero.

    References
    ----------
    Székely & Rizzo 2013, doi:10.1016/j.jspi.2013.03.018.
    """
    return 2 * torch.cdist(x, y).mean() - torch.cdist(x, x).mean() - torch.cdist(y, y).mean()
