"""What the measurement that the state is made of says of nodes that another measured too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.errors import ModelError
from aivc_graph.operators.part import Fitting

Floats = NDArray[np.floating]
LEAST_PAIRS = 10


def told_state(
    level: str, fitting: Fitting, rows: list[NDArray[np.int64]]
) -> tuple[Floats, NDArray[np.bool_], Floats | float] | None:
    """Return what makes the state says of `rows` of a level (row, latent), of whom, and its noise; None if of nobody.

    Where a level has no such measurement, as windows over cells have none, it is what those of its children say on
    average.

    Parameters
    ----------
    rows
        Of each training window.
    """
    model = fitting.model
    lifts = [part.slot[0] for part in model.parts_of("lift") if part.slot[1] == level]
    counted = next((v for v in (level, *lifts) if model.state_maker(v) is not None), None)
    if counted is None:
        return None
    first, states, seen = model.state_maker(counted), [], []
    for fold, chosen in zip(fitting.training, rows, strict=True):
        data = fold.inputs.measured(*first.slot)
        state, mask = first.encode(data), data.mask
        if counted != level:
            overlap = fold.inputs["relation", counted, names.WITHIN, level].up
            share = overlap @ mask[:, None]
            state = overlap @ (state * mask[:, None]) / share.clamp_min(1e-6)
            mask = (share.ravel() > 0.99).float()
        states.append(state.cpu().numpy()[chosen])
        seen.append(mask.cpu().numpy()[chosen] > 0)
    noise = np.exp(-first.log_precision.double().cpu().numpy()) if counted == level else 0.0
    measured = np.concatenate(seen)
    return (np.concatenate(states), measured, noise) if measured.sum() > LEAST_PAIRS else None


def no_pairs(slot: tuple[str, ...], first: str) -> ModelError:
    """Return the error that says that nothing leads a modality into the state that `first` makes."""
    level, modality = slot
    return ModelError(
        f"{level} · {modality}",
        f"fewer than {LEAST_PAIRS} training nodes with both {first} and {modality}",
        "some: nothing else says what one means in terms of the other",
        f"add a section with both, give all alike, or leave the {modality} out",
    )
