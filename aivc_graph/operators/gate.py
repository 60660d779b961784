"""How far a learnt correction is let through, question by question."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

# What a state is asked for: what a node is (niches, composition, likeness), the expression of one that was not
# measured, and how it answers to an intervention. A correction may help one and harm another.
STATE: Final = "state"
EXPRESSION: Final = "expression"
RESPONSE: Final = "response"
QUESTIONS: Final = (STATE, EXPRESSION, RESPONSE)
OPENINGS: Final = (0.0, 0.5, 1.0)
# Fewer of what was left out of a fit choose nothing.
LEAST_LEFT_OUT: Final = 4


def opening_of(gains: NDArray[np.floating], related: NDArray[np.bool_] | None = None) -> float:
    r"""Return how far to depart from the nested rule, from what each left-out one gains by it (left out,).

    .. math:: \max(0, 1 - s^2 / \bar g^2)

    with s the standard error of the mean gain: the positive part of Stein's factor, shut where the gain is no larger
    than its error, or is none. Where some are `related` (left out, left out), such as pairs that share a gene, s counts
    what they have in common, and is no smaller than if they had nothing.

    References
    ----------
    Efron & Morris 1973, doi:10.1080/01621459.1973.10481350; Aronow, Samii & Assenova 2015, doi:10.1093/pan/mpv018.
    """
    if len(gains) < LEAST_LEFT_OUT or (mean := float(gains.mean())) <= 0:
        return 0.0
    apart = gains - mean
    total = float(apart @ apart)
    if related is not None:
        total = max(total, float(apart @ related @ apart))
    return max(0.0, 1.0 - total / (len(gains) - 1) / len(gains) / mean**2)


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


@contextmanager
def shut(model: nn.Module) -> Iterator[None]:
    """Let no correction of the model through for a while."""
    gates = [one for one in model.modules() if isinstance(one, Gate)]
    before = [gate.opening.clone() for gate in gates]
    for gate in gates:
        gate.opening.zero_()
    try:
        yield
    finally:
        for gate, old in zip(gates, before, strict=True):
            gate.opening.copy_(old)


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
