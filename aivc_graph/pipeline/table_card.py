"""The card of scores without tissue: what they rest on, what must hold for them, and what was not evaluated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from aivc_graph.evaluation.responses.questions import QUESTIONS, Question
from aivc_graph.evaluation.responses.table import Responses

HELD_OUT = {
    "unseen_gene": "all conditions of a fifth of the genes in turn, pairs with them as well",
    "unseen_pair_2_seen": "the pair itself, in every context",
    "unseen_pair_1_seen": "the pair, and all that has the part that was not seen alone",
    "unseen_pair_0_seen": "the pair, and all that has one of its parts",
    "unseen_context": "all conditions of one context in turn; its control is told to everyone",
    "predictions": "what the split says is tested, or what is predicted",
}
Card = dict[str, Any]


def card_of_screen(table: Responses, questions: Sequence[Question], *, whose: str = "") -> Card:
    """Return data, split, assumptions and gaps of a screen that was asked `questions`.

    Parameters
    ----------
    whose
        Who made the predictions, where it was not a model of this library.

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
    asked = {one.name for one in questions}
    return {
        "data": {
            "cells": len(table.cells.row),
            "cells_compared_for_copies": int(table.hashes[1].sum()),
            "genes": len(table.genes),
            "values": "counts" if table.cells.counts else "log-normalised",
            "conditions": int((~table.is_control).sum()),
            "contexts": contexts,
        },
        "split": {"questions": [_question(table, one) for one in questions]},
        "assumptions": [*_identifiability(table, contexts), *_confounding(table), *_of_screen(table, whose)],
        "not_evaluated": {"tasks": _not_asked(asked) if not whose else {}},
    }


def _question(table: Responses, question: Question) -> dict[str, Any]:
    trained = [int(fold.train.sum()) for fold in question.folds]
    asked = np.unique(table.condition[question.asked])
    return {
        "name": question.name,
        "held_out": HELD_OUT.get(question.name, "as the question says"),
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
    ]
    if whose:
        said.append(
            ("predictions", f"How {whose} were made is not known; whether they saw what is tested cannot be told.")
        )
    return [{"about": about, "says": text} for about, text in said]


def _not_asked(asked: set[str]) -> dict[str, str]:
    return {
        name: "that the configuration asks it, and a screen that has such conditions"
        for name in QUESTIONS
        if not any(one.startswith(name) for one in asked)
    }
