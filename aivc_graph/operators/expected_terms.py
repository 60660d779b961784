"""From what is expected in the units of a file to the terms in which it is compared."""

from __future__ import annotations

import torch
from torch import Tensor

from aivc_graph import names
from aivc_graph.graph.terms import Depth


def terms_of(amounts: Tensor, modality: str, depth: Depth) -> Tensor:
    """Return log1p of scaled shares of counts, or arcsinh of intensities over their cofactors (node, feature)."""
    if modality == names.INTENSITY:
        return torch.arcsinh(amounts / amounts.new_tensor(depth))
    return torch.log1p(depth * amounts)


def amounts_of(terms: Tensor, depth: Depth) -> Tensor:
    """Return the intensities, in the file's units, whose arcsinh over their cofactors `terms` (node, marker) are."""
    return torch.sinh(terms.clamp(-MOST, MOST)) * terms.new_tensor(depth)


# Beyond it a number of single precision has no hyperbolic sine.
MOST = 80.0
