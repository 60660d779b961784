"""Corrections stay open only as far as held-out tissue supports, question by question."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

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


@torch.no_grad()
def open_terms(model: TissueModel, plain: Mapping[str, Tensor], held_out_loss: Callable[[str], float]) -> float:
    r"""Lead what the likelihood alone has taught towards what further terms made of it, and return how far.

    .. math:: \theta = \theta_0 + o\,(\theta_1 - \theta_0), \qquad o \in \{0, \tfrac12, 1\}

    with :math:`\theta_1` the parameters of `model` and :math:`\theta_0` those of `plain`: the opening of least held-out
    loss, summed over `JUDGED`, of those that lose in none of them; ties shut it. So a term can help and not harm.
    """
    learnt = {name: value.clone() for name, value in model.named_parameters()}
    losses = []
    for opening in OPENINGS:
        _lead(model, plain, learnt, opening)
        losses.append([held_out_loss(question) for question in JUDGED])
    able = [i for i, own in enumerate(losses) if all(a <= b for a, b in zip(own, losses[0], strict=True))]
    opening = OPENINGS[min(able, key=lambda i: sum(losses[i]))]
    _lead(model, plain, learnt, opening)
    return opening


def _lead(model: TissueModel, plain: Mapping[str, Tensor], learnt: Mapping[str, Tensor], opening: float) -> None:
    for name, value in model.named_parameters():
        value.copy_(torch.lerp(plain[name], learnt[name], opening))


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
