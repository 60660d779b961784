"""How like training the asked conditions of a screen are, and how random folds would have flattered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aivc_graph.evaluation.responses.questions import Fold, Question
from aivc_graph.evaluation.responses.table import Responses
from aivc_graph.evaluation.responses.views import correlations
from aivc_graph.evaluation.scoring import rounded
from aivc_graph.evaluation.similarity import similarity_across

Floats = NDArray[np.floating]
Probe = Callable[[Responses, Fold], Floats]

SIMILARITY = "cosine of effects less the training mean, clipped at 0; mean over folds"
DISTANCE = "1 − Pearson correlation of effects; median over conditions"
DRAWS = 3
PROBES = {
    "parts": "the mean effect of the training conditions that share most parts, of all where none does",
    "context": "the mean effect of the training conditions of the same context, of all where there is none",
}


def audit_question(table: Responses, question: Question, seed: int = 0) -> dict[str, Any]:
    """Return ``similarity``, ``nearest`` and ``optimism`` of a question; a unit is a condition in its context.

    Effects are against the control of their own context. Conditions of one context share its control, so that its error
    makes them a little more alike than they are.

    - ``similarity``: L(π), the share of all likeness of conditions that lies across the folds; see `similarity_across`.
    - ``nearest``: how far asked conditions are from the nearest training one, and training ones from one another.
    - ``optimism``: how much better two fixed probes score where the same conditions are asked in random folds of the
      same sizes, each learned from all others.

    Parameters
    ----------
    seed
        Of the random folds.
    """
    return {
        "similarity": _similarity(table, question),
        "nearest": _nearest(table, question),
        "optimism": _optimism(table, question, seed),
    }


def likeness(table: Responses, question: Question) -> dict[str, float]:
    """Return how like training each asked effect is: its best correlation with one of training.

    By what was held out, a condition or a context: the mean where several of its effects are asked. It rests on what
    was measured of them: it says how new the answer is, not how new the question looks beforehand.
    """
    alike, unit = _alike(table), question.group
    found: dict[str, list[float]] = {}
    for fold in question.folds:
        for row in np.flatnonzero(fold.asked):
            found.setdefault(unit[row], []).append(float(alike[row, fold.train].max(initial=-1.0)))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _alike(table: Responses) -> Floats:
    """Return the correlation of every two effects (row, row); −1 where one is flat, as of a control."""
    centred = table.effect - table.effect.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = centred / np.maximum(length, 1e-12)
    flat = length[:, 0] < 1e-9
    return np.where(flat[:, None] | flat, -1.0, np.clip(unit @ unit.T, -1, 1))


def _similarity(table: Responses, question: Question) -> dict[str, Any]:
    folds = [fold for fold in question.folds if fold.train.any()]
    by_fold = [similarity_across(table.effect[fold.train], table.effect[fold.asked]) for fold in folds]
    known = [one for one in by_fold if one["value"] is not None]
    found: dict[str, Any] = {"similarity": SIMILARITY, "folds": len(by_fold)}
    return found | {
        key: rounded(float(np.mean([one[key] for one in known]))) if known else None for key in ("value", "by_chance")
    }


def _nearest(table: Responses, question: Question) -> dict[str, Any]:
    alike = _alike(table)
    to_train: list[float] = []
    within: list[float] = []
    for fold in question.folds:
        to_train += (1 - alike[np.ix_(fold.asked, fold.train)].max(axis=1, initial=-1.0)).tolist()
        own = alike[np.ix_(fold.train, fold.train)] - 2 * np.eye(int(fold.train.sum()))
        within += (1 - own.max(axis=1)).tolist() if len(own) > 1 else []
    medians = [float(np.median(values)) if values else float("nan") for values in (to_train, within)]
    ratio = medians[0] / medians[1] if medians[1] > 0 else float("nan")
    numbers = {"to_train": rounded(medians[0]), "within_train": rounded(medians[1]), "ratio": rounded(ratio)}
    return {"distance": DISTANCE, **numbers, "n": len(to_train)}


def _optimism(table: Responses, question: Question, seed: int) -> dict[str, Any]:
    rng, found = np.random.default_rng(seed), {}
    random = [_random_folds(question, rng) for _ in range(DRAWS)]
    for name, probe in (("parts", _by_parts), ("context", _by_context)):
        own = _score(table, question.folds, probe)
        flattered = float(np.mean([_score(table, folds, probe) for folds in random]))
        gap = round(flattered - own, 9)  # equal folds differ by the last bits alone
        numbers = {"this_split": rounded(own), "random_split": rounded(flattered), "gap": rounded(gap)}
        found[name] = {"probe": PROBES[name], **numbers}
    return found


def _random_folds(question: Question, rng: np.random.Generator) -> tuple[Fold, ...]:
    """Return folds of the same sizes of the same asked rows; all other rows that anybody may know train in each."""
    rows = rng.permutation(np.flatnonzero(question.asked))
    known = question.asked | np.any([fold.train for fold in question.folds], axis=0)
    folds, start = [], 0
    for fold in question.folds:
        asked = np.zeros(len(known), bool)
        asked[rows[start : start + int(fold.asked.sum())]] = True
        start += int(fold.asked.sum())
        folds.append(Fold(known & ~asked, asked))
    return tuple(folds)


def _score(table: Responses, folds: tuple[Fold, ...], probe: Probe) -> float:
    """Return the mean correlation of a probe's effects with the measured ones, a flat answer taken as 0."""
    everywhere = np.ones((1, len(table.genes)), bool)
    scores = [
        correlations(probe(table, fold), table.effect[fold.asked], everywhere, 0.0)
        for fold in folds
        if fold.train.any()
    ]
    known = np.concatenate(scores) if scores else np.zeros(0)
    return float(known[np.isfinite(known)].mean()) if np.isfinite(known).any() else float("nan")


def _by_parts(table: Responses, fold: Fold) -> Floats:
    design = table.design.astype(float)
    return _means(table, fold, design[fold.asked] @ design[fold.train].T)


def _by_context(table: Responses, fold: Fold) -> Floats:
    return _means(table, fold, (table.context[fold.asked][:, None] == table.context[fold.train]).astype(float))


def _means(table: Responses, fold: Fold, near: Floats) -> Floats:
    """Return the mean effect of the training rows nearest each asked one (asked, gene), of all where none is near."""
    most = near.max(axis=1, keepdims=True)
    weight = ((near == most) | (most == 0)).astype(float)
    return weight @ table.effect[fold.train] / weight.sum(axis=1, keepdims=True)
