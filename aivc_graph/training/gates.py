"""Corrections stay open only as far as held-out tissue supports, question by question."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.gate import EXPRESSION, OPENINGS, QUESTIONS, RESPONSE, STATE, Gate

# What the likelihood of held-out tissue can judge. No held-out tissue says what a correction would do to responses.
JUDGED = (STATE, EXPRESSION)


def gates_of(model: TissueModel) -> dict[str, Gate]:
    """Return every gate of the model by its name."""
    found = {name: one for name, one in model.named_modules() if isinstance(one, Gate)}
    return {name.removeprefix("kinds.").removesuffix(".gate"): one for name, one in found.items()}


@torch.no_grad()
def choose_gates(model: TissueModel, held_out_loss: Callable[[str], float]) -> dict[str, dict[str, float]]:
    """Set each gate to 0, ½ or 1, one after the other, keeping what gives the least held-out loss; ties shut it.

    For each of `JUDGED` by its own loss, from all open, and from all shut where that is better; for responses all shut.

    Returns the openings by gate and question.
    """
    gates = gates_of(model)
    for question in JUDGED:
        place = QUESTIONS.index(question)
        with model.asked(question):
            best = _start(gates, place, partial(held_out_loss, question))
            for gate in gates.values():
                started = float(gate.opening[place])
                for opening in OPENINGS:
                    gate.opening[place] = opening
                    loss = best if opening == started else held_out_loss(question)
                    if loss < best or (loss == best and opening < started):
                        best, started = loss, opening
                gate.opening[place] = started
    for gate in gates.values():
        gate.opening[QUESTIONS.index(RESPONSE)] = 0.0
    return {name: dict(zip(QUESTIONS, gate.opening.tolist(), strict=True)) for name, gate in gates.items()}


def _start(gates: dict[str, Gate], place: int, held_out_loss: Callable[[], float]) -> float:
    """Open all gates, or shut them all, whichever is better; return the loss of that."""
    losses = []
    for opening in (0.0, 1.0):
        for gate in gates.values():
            gate.opening[place] = opening
        losses.append(held_out_loss())
    if losses[0] <= losses[1]:
        for gate in gates.values():
            gate.opening[place] = 0.0
    return min(losses)
