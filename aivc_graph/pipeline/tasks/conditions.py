"""Responses of a screen: conditions that training never had, told by the run's operator."""

from __future__ import annotations

import logging

import numpy as np

from aivc_graph.evaluation.readouts.footprints import Footprints
from aivc_graph.evaluation.responses.activities import in_pathways
from aivc_graph.evaluation.responses.asking import examine
from aivc_graph.evaluation.responses.leaks import Leaks
from aivc_graph.evaluation.responses.of_graph import TASK, held_out_conditions, responses_of_graph
from aivc_graph.evaluation.responses.table import Responses
from aivc_graph.evaluation.scoring import Scored
from aivc_graph.graph.screens import EFFECT, Setting, screened
from aivc_graph.operators.intervention.condition_effects import ConditionEffects
from aivc_graph.pipeline.tasks.task import HIDDEN, TASKS, Asked

log = logging.getLogger(__name__)


@TASKS.register(TASK, needs="cells with conditions, of which some were held out, and controls in their contexts")
def conditions(asked: Asked) -> list[Scored]:
    """Return the operator's answer to every held-out condition, beside baselines and replicates."""
    operator = next((part for part in asked.model.modules() if isinstance(part, ConditionEffects)), None)
    place = screened(asked.graph)
    if operator is None or place is None or place[1] == EFFECT or asked.split == HIDDEN:
        return []
    found = responses_of_graph(asked.graph)
    assert found is not None
    table, settings, row = found
    question = held_out_conditions(asked.graph, table, row, asked.split)
    if question is None:
        return []
    for leak in Leaks(table, question).told:
        log.warning("%s: %s", TASK, leak)
    exam = examine(table, question)
    said = np.stack([_answer(operator, table, settings[i], i) for i in exam.rows])
    scored = exam.scored(exam.of_effects([said]), split=asked.split)
    weights = None if asked.weights is None else Footprints(asked.weights, table.genes)
    return [scored, *([] if weights is None else [in_pathways(scored, weights)])]


def _answer(operator: ConditionEffects, table: Responses, one: Setting, row: int) -> np.ndarray:
    """Return the effect of a row (gene,); its control is told to everyone."""
    untreated = table.profile[table.control[row]]
    return operator.predict(one.parts, one.context, one.doses, one.hours, untreated)[0]
