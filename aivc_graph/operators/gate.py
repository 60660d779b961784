"""How far a learnt correction is let through, question by question."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

# What a state is asked for: what a node is (niches, composition, likeness), the expression of one that was not
# measured, and how it answers to an intervention. A correction may help one and harm another.
STATE: Final = "state"
EXPRESSION: Final = "expression"
RESPONSE: Final = "response"
QUESTIONS: Final = (STATE, EXPRESSION, RESPONSE)
OPENINGS: Final = (0.0, 0.5, 1.0)


class Gate(nn.Module):
    """Scale a correction by an opening from 0 (shut) to 1, one a question; open while training.

    The openings are chosen afterwards, on groups held out from both the fit and the choice of when to stop.
    """

    opening: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("opening", torch.ones(len(QUESTIONS)))
        self.question = 0

    def forward(self, correction: Tensor) -> Tensor:
        """Return the correction as far as it is let through for the question asked."""
        return self.opening[self.question] * correction


class Correction(nn.Module):
    """A small network behind a gate; says nothing at the start, since its last layer is zero.

    Shapes
    ------
    in, out
        (node, width), (node, latent)
    """

    def __init__(self, width: int, latent: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(width, 2 * latent), nn.SiLU(), nn.Linear(2 * latent, latent))
        for last in self.hidden[-1].parameters():
            nn.init.zeros_(last)
        self.gate = Gate()

    def forward(self, *seen: Tensor) -> Tensor:
        """Return what is added to the state, from what is seen, side by side."""
        return self.gate(self.hidden(torch.cat(seen, dim=1)))
