"""How much of an intervention reaches each node: by what was done to it, and by what is near."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aivc_graph.operators.product import SparseOperator

DIRECT, SPREAD = 0, 1


@dataclass(frozen=True)
class Field:
    """One intervention as a field over the nodes of a level.

    `strength` (node,) from 0 to 1, zero where it was not given; `exposure` (node,) what of it is near.
    """

    strength: Tensor
    exposure: Tensor


def exposure(strength: Tensor, near: SparseOperator, handed_on: float, hops: int, sharpness: float = 0.0) -> Tensor:
    r"""Return what of a field is near each node (node,), exactly zero beyond `hops` steps.

    .. math:: e = \frac{1-a}{1-a^H} \sum_{n=1}^{H} a^{n-1} P^n h, \qquad \frac{(1+s)\,e}{1+s\,e}

    with P the mean over neighbours and a the share `handed_on`: a kernel that falls off about exponentially, over the
    farther the larger a; with a = 0 the neighbours alone. It is 1 where all that is near has 1. With sharpness s > 0
    little of it is already nearly enough, as where a signal saturates.
    """
    near_by, total = strength[:, None], torch.zeros_like(strength)
    whole = (1 - handed_on) / (1 - handed_on**hops)
    for hop in range(hops):
        near_by = near @ near_by
        total = total + whole * handed_on**hop * near_by[:, 0]
    return sharpened(total, sharpness)


def sharpened(near: Any, sharpness: float) -> Any:
    """Return what is near, of any shape, as it acts where a little is nearly enough; 0 at 0 and 1 at 1."""
    return (1 + sharpness) * near / (1 + sharpness * near)
