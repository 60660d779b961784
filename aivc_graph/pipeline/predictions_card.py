"""The card of scored predictions: what they rest on, what must hold for them, and what was not evaluated."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from aivc_graph.evaluation.responses.questions import Question
from aivc_graph.evaluation.responses.table import Responses

Card = dict[str, Any]


def card_of_predictions(table: Responses, question: Question, whose: str) -> Card:
    """Return data, split, assumptions and gaps of predictions that were scored on a screen.

    Parameters
    ----------
    whose
        What messages call the predictions.

    References
    ----------
    Mitchell et al. 2019, doi:10.1145/3287560.3287596 (model cards).
    """
    cells = Counter(table.context[table.cells.row].tolist())
    controls = {str(one): int(table.n_cells[np.unique(table.control[table.context == one])[0]]) for one in cells}
    conditions = Counter(table.context[~table.is_control].tolist())
    contexts = {
        str(one): {"cells": n, "conditions": conditions[one], "control_cells": controls[str(one)]}
        for one, n in sorted(cells.items())
    }
    return {
        "data": {
            "cells": len(table.cells.row),
            "cells_compared_for_copies": int(table.hashes[1].sum()),
            "genes": len(table.genes),
            "values": "counts" if table.cells.counts else "log-normalised",
            "conditions": int((~table.is_control).sum()),
            "contexts": contexts,
        },
        "split": {"questions": [_question(table, question)]},
        "assumptions": [*_identifiability(table, contexts), *_confounding(table), *_of_screen(table, whose)],
        "not_evaluated": {"tasks": {}},
    }


def _question(table: Responses, question: Question) -> dict[str, Any]:
    trained = [int(fold.train.sum()) for fold in question.folds]
    asked = np.unique(table.condition[question.asked])
    return {
        "name": question.name,
        "held_out": "what the split says is tested, or what is predicted",
        "asked": int(question.asked.sum()),
        "folds": len(question.folds),
        "trained": [min(trained), max(trained)],
        "conditions": asked.tolist(),
    }


def _identifiability(table: Responses, contexts: dict[str, Any]) -> list[dict[str, str]]:
    least = min(contexts, key=lambda one: contexts[one]["control_cells"])
    said = (
        "An effect is the mean of treated cells less that of the control cells of the same context; it is causal only "
        "if cells were given their condition at random and nothing else differed between the two."
    )
    one = (
        f"One control stands behind all effects of a context ({contexts[least]['control_cells']:,} cells at least, in "
        f"{least}): its error is in every one of them and makes them alike."
    )
    few = [int(n) for n in table.n_cells[~table.is_control]]
    small = f"Conditions have {min(few):,} to {max(few):,} cells; a score of few cells is mostly noise of measurement."
    return [{"about": "identifiability", "says": text} for text in (said, one, small)]


def _confounding(table: Responses) -> list[dict[str, str]]:
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


def _of_screen(table: Responses, whose: str) -> list[dict[str, str]]:
    kind = "counts, brought to a depth of 50,000" if table.cells.counts else "log-normalised values, as given"
    said = [
        ("measurement", f"Profiles are of {kind}; a gene that is not on the panel is unknown, not unchanged."),
        (
            "intervals",
            "Intervals resample what was held out, perturbations or contexts, taken as a fair draw of those to come; "
            "not donors or batches. Fewer than five have no interval.",
        ),
        ("predictions", f"How {whose} were made is not known; whether they saw what is tested cannot be told."),
    ]
    return [{"about": about, "says": text} for about, text in said]
