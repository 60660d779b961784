"""What the scores of a screen rest on and what must hold for them; and the card of scored predictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from aivc_graph.evaluation.responses.table import Responses
from aivc_graph.evaluation.scoring import Scored

Said = list[dict[str, str]]


def card_of_predictions(table: Responses, scored: Scored, whose: str) -> dict[str, Any]:
    """Return data, split, assumptions and gaps of predictions that were scored on a screen.

    Parameters
    ----------
    whose
        What messages call the predictions.

    References
    ----------
    Mitchell et al. 2019, doi:10.1145/3287560.3287596 (model cards).
    """
    said = f"How {whose} were made is not known; whether they saw what is tested cannot be told."
    return {
        "data": data_of_screen(table),
        "split": {
            "questions": [{"name": scored.task, "held_out": "as predicted, or as the split says", **scored.folds}]
        },
        "assumptions": [*assumptions_of_screen(table), {"about": "predictions", "says": said}],
        "not_evaluated": {"tasks": {}},
    }


def data_of_screen(table: Responses) -> dict[str, Any]:
    """Return cells, conditions and controls of a screen, in all and by context."""
    cells = Counter(table.context[table.cells.row].tolist())
    conditions = Counter(table.context[~table.is_control].tolist())
    contexts = {
        str(one): {"cells": n, "conditions": conditions[one], "control_cells": _controls(table)[str(one)]}
        for one, n in sorted(cells.items())
    }
    values = "effects" if table.unmeasured is not None else "counts" if table.cells.counts else "log-normalised"
    return {
        "cells": len(table.cells.row),
        "cells_compared_for_copies": int(table.hashes[1].sum()),
        "genes": len(table.genes),
        "values": values,
        "conditions": int((~table.is_control).sum()),
        "contexts": contexts,
    }


def assumptions_of_screen(table: Responses, controls: Mapping[str, Mapping[str, int]] | None = None) -> Said:
    """Return what must hold for effects of a screen to mean what they seem to.

    Parameters
    ----------
    controls
        By section, which spellings were taken for nothing done, with their rows; nothing is said of them if not given.
    """
    found = [*_identifiability(table), *_confounding(table)]
    if table.unmeasured is not None:
        gone = int(table.unmeasured.sum())
        kind = "Effects are taken as given, against controls that are not known here"
        kind += f"; {gone:,} values that are missing are neither learned from nor scored." if gone else "."
    else:
        how = "counts, brought to a depth of 50,000" if table.cells.counts else "log-normalised values, as given"
        kind = f"Profiles are of {how}; a gene that is not on the panel is unknown, not unchanged."
    found.append({"about": "measurement", "says": kind})
    spelled: Counter[str] = Counter()
    for rows in (controls or {}).values():
        spelled.update(rows)
    if spelled:
        listed = ", ".join(f"{name} ({n:,} cells)" for name, n in sorted(spelled.items()))
        found.append({"about": "controls", "says": f"Taken for nothing done: {listed}."})
    said = "Intervals resample what was held out, as if it had been drawn at random; fewer than five have no interval."
    return [*found, {"about": "intervals", "says": said}]


def _controls(table: Responses) -> dict[str, int]:
    """Return the number of control cells of each context."""
    return {str(one): int(table.n_cells[table.control[i]]) for i, one in enumerate(table.context)}


def _identifiability(table: Responses) -> Said:
    few = [int(n) for n in table.n_cells[~table.is_control]]
    if table.unmeasured is not None:
        said = "An effect is causal only if nothing else differed between what was treated and its control."
        small = f"Conditions have {min(few):,} to {max(few):,} rows."
        return [{"about": "identifiability", "says": text} for text in (said, small)]
    controls = _controls(table)
    least = min(controls, key=controls.__getitem__)
    said = (
        "An effect is the mean of treated cells less that of the control cells of the same context; it is causal only "
        "if cells were given their condition at random and nothing else differed between the two."
    )
    one = (
        f"One control stands behind all effects of a context ({controls[least]:,} cells at least, in {least}): its "
        "error is in every one of them and makes them alike."
    )
    small = f"Conditions have {min(few):,} to {max(few):,} cells; a score of few cells is mostly noise of measurement."
    return [{"about": "identifiability", "says": text} for text in (said, one, small)]


def _confounding(table: Responses) -> Said:
    of: dict[tuple[str, ...], set[str]] = {}
    for row in np.flatnonzero(~table.is_control):
        of.setdefault(table.parts[row], set()).add(str(table.context[row]))
    contexts = len(set(table.context.tolist()))
    alone = sum(len(where) == 1 for where in of.values())
    said = (
        "Batches are not named: what a batch brings to a condition that was measured in it alone stands in its effect."
    )
    found = [{"about": "confounding", "says": said}]
    if contexts > 1:
        said = (
            f"{alone} of {len(of)} conditions were measured in one of the {contexts} contexts alone; contexts may "
            "differ by more than their name says, such as the laboratory or how a gene was perturbed."
        )
        found.append({"about": "confounding", "says": said})
    return found
