"""Responses of a screen: conditions that training never had, told by the run's operator."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import numpy as np
import pandas as pd

from aivc_graph.errors import ConfigError, unknown_name
from aivc_graph.evaluation.readouts.footprints import Footprints
from aivc_graph.evaluation.responses.activities import in_pathways
from aivc_graph.evaluation.responses.asking import Exam, conditions_in, examine
from aivc_graph.evaluation.responses.leaks import Leaks, refuse
from aivc_graph.evaluation.responses.of_graph import TASK, conditions_of_graph, held_out_conditions
from aivc_graph.evaluation.responses.predictions import check_controls
from aivc_graph.evaluation.responses.questions import Fold, Question, question_of
from aivc_graph.evaluation.responses.table import Responses
from aivc_graph.evaluation.responses.views import Predicted
from aivc_graph.evaluation.scoring import Scored
from aivc_graph.evaluation.settings import QuestionConfig
from aivc_graph.graph.known import CONTROLS, Known, known_of
from aivc_graph.graph.screens import EFFECT, Setting, screened
from aivc_graph.operators.intervention.condition_effects import ConditionEffects
from aivc_graph.operators.intervention.condition_stack import LEAST_TRAINED, predict_responses
from aivc_graph.operators.intervention.conditions import Floats
from aivc_graph.pipeline.tasks.task import HIDDEN, TASKS, Asked
from aivc_graph.splits.design import split_design
from aivc_graph.splits.drawn import AbstractDrawnSplit

log = logging.getLogger(__name__)
ACCEPT = "drop one of the two, keep both on one side, or set `split: {share_content: true}` if that is the question"


@TASKS.register(TASK, needs="cells with conditions, of which some were held out, and controls in their contexts")
def conditions(asked: Asked) -> list[Scored]:
    """Ask for every held-out condition in turn, beside baselines and replicates.

    Asked are what the run's split holds out, over all its folds, and the questions of the configuration. A fold that
    the run did not train is answered by its operator fitted to the training conditions of that fold.
    """
    found, place = asked.screen, screened(asked.graph)
    if found is None or place is None:
        return []
    table, settings, row = found
    questions = list(_questions(asked, table, conditions_of_graph(asked.graph, settings, row), row))
    where, effects = f"{place[0]} · {place[1]}", place[1] == EFFECT
    if questions and not effects:
        check_controls(table, where)
    told = dict.fromkeys(leak for question in questions for leak in Leaks(table, question).told)
    refuse(list(told), where, ACCEPT, accept=bool((asked.config.task.split or {}).get("share_content")))
    operator = next((part for part in asked.model.modules() if isinstance(part, ConditionEffects)), None)
    weights = None if asked.weights is None or effects else Footprints(asked.weights, table.genes)
    scored, known = [], known_of(asked.graph)
    for question in questions:
        started = time.perf_counter()
        exam, fewest = examine(table, question), min(int(fold.train.sum()) for fold in question.folds)
        folds = question.folds if fewest >= LEAST_TRAINED else ()
        answers = [_told(operator, table, settings, fold, known) for fold in folds]
        why = "" if answers else f"fewer than {LEAST_TRAINED} conditions to learn from ({fewest})"
        split = asked.split if question.name.startswith(TASK) else "test"
        one = exam.scored(
            exam.of_effects(answers) if answers else None,
            _controls(exam, known, asked.tissue.seed) if answers else {},
            no_model=why,
            split=split,
            modality=place[1],
            seed=asked.tissue.seed,
        )
        scored += [one, *([] if weights is None else [in_pathways(one, weights)])]
        shown = (question.name, len(exam.rows), len(question.folds), time.perf_counter() - started)
        log.info("%s: %d conditions in %d folds, %.1f s", *shown)
    return scored


def _questions(asked: Asked, table: Responses, frame: pd.DataFrame, row: np.ndarray) -> Iterator[Question]:
    """Yield what the run's split asks, over all its folds, and what its configuration asks beside it."""
    own = dict(asked.config.task.split or {})
    design = split_design(own.pop("kind"), **own) if own else None
    if isinstance(design, AbstractDrawnSplit) and (design.test or design.n_test):
        mine = question_of(design, table, frame)
    else:
        mine = None if asked.split == HIDDEN else held_out_conditions(asked.graph, table, row, asked.split)
    if mine is not None:
        yield mine
    names = {"" if mine is None else mine.name}
    for given in asked.config.evaluation.questions:
        question = _asked_by(given, table, frame)
        if question is None:
            log.info("%s: not asked, there is nothing of the kind", given.kind)
        elif question.name not in names:
            names.add(question.name)
            yield question


def _asked_by(given: QuestionConfig, table: Responses, frame: pd.DataFrame) -> Question | None:
    for one in given.within:
        if one not in set(frame["context"]):
            raise unknown_name(ConfigError, "evaluation · questions · within", "context", one, set(frame["context"]))
    design = split_design(given.kind, **given.options)
    assert isinstance(design, AbstractDrawnSplit)
    return question_of(design, table, frame, given.within)


def _controls(exam: Exam, known: Known | None, seed: int) -> dict[str, Predicted]:
    """Return what is answered with the prior rewired, shuffled and taken away: what that loses is the prior's."""
    if known is None:
        return {}
    controls = {f"prior_{kind}": known.control(kind, seed) for kind in CONTROLS}
    return {
        name: exam.answer(
            lambda table, fold, one=one: predict_responses(conditions_in(table, fold, one), fold.asked)  # type: ignore[misc]
        )
        for name, one in controls.items()
    }


def _told(
    operator: ConditionEffects | None, table: Responses, settings: list[Setting], fold: Fold, known: Known | None
) -> Floats:
    """Return the effect of each asked row (asked, gene); its control is told to everyone."""
    rows = np.flatnonzero(fold.asked)
    trained = {settings[i] for i in np.flatnonzero(fold.train)}
    if operator is None or trained != {one for one in operator.plan.rows if one.parts}:
        return predict_responses(conditions_in(table, fold, known), fold.asked)
    said = []
    for i in rows:
        one = settings[i]
        untreated = table.profile[table.control[i]] if table.unmeasured is None else None
        said.append(operator.predict(one.parts, one.context, one.doses, one.hours, untreated, known).effect)
    return np.stack(said)
