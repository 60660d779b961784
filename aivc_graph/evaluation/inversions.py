"""Where the order of predictors by a readout is not that by reconstruction error."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from aivc_graph.evaluation.records import PREDICTORS, Result

ERRORS = ("rmse", "mse", "wmse", "unbiased_mse")


def inversions_of(results: Iterable[Result]) -> list[dict[str, Any]]:
    """Return a row for each error and readout of a task: how many pairs of predictors they order oppositely, and which.

    The errors are those of the readout that stands first, the finest; errors in terms of another readout are readouts.
    Ceilings and ablations are no predictors; pairs that either scores alike are left out.
    """
    tasks: dict[tuple[str, str], dict[tuple[str, str, bool], dict[str, float]]] = {}
    for r in results:
        if r.kind in PREDICTORS and r.value is not None:
            of_task = tasks.setdefault((r.task, r.split), {})
            of_task.setdefault((r.readout, r.metric, r.higher_is_better), {})[r.predictor] = r.value
    found = []
    for (task, split), scores in tasks.items():
        errors = [key for key in scores if key[1].startswith(ERRORS)]
        first = [key for key in errors if key[0] == errors[0][0]]
        for error, other in itertools.product(first, [key for key in scores if key not in first]):
            row = _row(scores[error], scores[other], error[2], other[2])
            if row["pairs"]:
                named = {"error": list(error[:2]), "readout": list(other[:2])}
                found.append({"task": task, "split": split, **named, **row})
    return found


def _row(error: dict[str, float], other: dict[str, float], error_up: bool, other_up: bool) -> dict[str, Any]:
    both, inverted = 0, []
    for a, b in itertools.combinations([who for who in error if who in other], 2):
        by_error = (error[a] - error[b]) * (1 if error_up else -1)
        by_other = (other[a] - other[b]) * (1 if other_up else -1)
        if by_error and by_other:
            both += 1
            if by_error * by_other < 0:
                better, worse = (a, b) if by_error > 0 else (b, a)
                inverted.append({"better_by_error": better, "better_by_readout": worse})
    return {"pairs": both, "inverted": inverted}
