"""YAML of a screen → ``evaluation.json``: responses without tissue, with all baselines."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aivc_graph.errors import ConfigError, Faults, ReadError, unknown_name
from aivc_graph.evaluation.readouts.footprints import Footprints
from aivc_graph.evaluation.records import Axis, Evaluation
from aivc_graph.evaluation.responses.activities import in_pathways
from aivc_graph.evaluation.responses.asking import conditions_in, examine
from aivc_graph.evaluation.responses.audit import audit_question
from aivc_graph.evaluation.responses.leaks import Leaks
from aivc_graph.evaluation.responses.predictions import check_controls
from aivc_graph.evaluation.responses.questions import QUESTIONS, Fold, Question
from aivc_graph.evaluation.responses.table import Responses, responses_of
from aivc_graph.evaluation.scoring import Scored
from aivc_graph.io.footprints import hashes_of_weights, read_footprints
from aivc_graph.io.h5ad_file import file_hashes, read_anndata
from aivc_graph.io.staging import check_place
from aivc_graph.operators.intervention.condition_stack import predict_responses
from aivc_graph.pipeline.scores import FILE, write_scores
from aivc_graph.pipeline.table_card import card_of_screen
from aivc_graph.pipeline.table_settings import QuestionConfig, ScreenConfig, load_table_config
from aivc_graph.splits.copies import MIN_FEATURES
from aivc_graph.tissue.doubt import doubts_heard

log = logging.getLogger(__name__)
Floats = NDArray[np.floating]
Weights = Mapping[Axis, float]
LEAKED = "share of the asked cells whose condition, in its context, or whose very values are known beforehand"
LEAST_COMPARED = 0.5
ACCEPT = "drop one of the two, keep both on one side, or set `share_content: true` if that is the question"


def evaluate_table(
    config: Path, out: Path | None = None, overrides: Sequence[str] = (), pathways: Path | None = None
) -> Evaluation:
    """Put the questions of a YAML file to the model and to every baseline, and write ``evaluation.json``.

    Parameters
    ----------
    config
        A YAML file with ``screen:``, and ``evaluation:`` if axes weigh unlike or pathways are read.
    out
        Folder for ``evaluation.json``; ``runs/<name>`` if not given.
    overrides
        ``KEY=VALUE`` over what the file says.
    pathways
        What tells of pathways, in place of ``evaluation.pathways``.

    Raises
    ------
    ConfigError, ReadError
        The file, or the data it names, is not as it says; all faults at once. What is asked stands on the other side
        of the split as well, and that is not accepted.
    """
    found = load_table_config(Path(config), overrides)
    out = Path("runs") / found.screen.name if out is None else Path(out)
    check_place(out / FILE)
    return _evaluate_screen(found.screen, out, found.evaluation.weights, pathways or found.evaluation.pathways)


def predict(table: Responses, fold: Fold) -> Floats:
    """Return what the intervention operator says of the asked rows of a fold (asked, gene)."""
    return predict_responses(conditions_in(table, fold), fold.asked)


def leakage_of(
    table: Responses, questions: Sequence[Question], where: str, *, accept: bool, mend: str = ACCEPT, seed: int = 0
) -> dict[str, Any]:
    """Return what leaks in questions to a screen, and their audit, each by question.

    Raises
    ------
    ReadError
        Cells of an asked condition, or the condition itself, stand on the other side too and that is not to `accept`.
    """
    told = list(dict.fromkeys(leak for one in questions for leak in Leaks(table, one).told))
    _say_compared(table)
    refuse(told, where, mend, accept=accept)
    found: dict[str, Any] = {"measure": LEAKED, "accepted": told}
    for question in questions:
        for what, one in audit_question(table, question, seed).items():
            found.setdefault(what, {})[question.name] = one
    return found


def _say_compared(table: Responses) -> None:
    """Say how many cells could be compared; those with few seen genes are alike by chance and were passed over."""
    n, compared = len(table.cells.row), int(table.hashes[1].sum())
    say = log.info if compared >= LEAST_COMPARED * n else log.warning
    say("%d of %d cells see the %d genes that comparing cells for copies needs", compared, n, MIN_FEATURES)


def refuse(leaks: Sequence[str], where: str, mend: str, *, accept: bool) -> None:
    """Raise a `ReadError` of all leaks at once unless they are accepted."""
    faults = Faults(ReadError)
    for leak in leaks if not accept else ():
        faults.add(where, leak, "nothing asked stands on two sides", mend)
    faults.raise_if_any()


def _evaluate_screen(screen: ScreenConfig, out: Path, weights: Weights, pathways: Path | None) -> Evaluation:
    started = time.perf_counter()
    data = read_anndata(screen.path)
    with doubts_heard() as doubts:
        table = responses_of(
            data, screen.condition, screen.control, screen.context, layer=screen.layer, where=str(screen.path)
        )
        check_controls(table, str(screen.path))
    shown = (data.n_obs, len(table.genes), len(table.parts), time.perf_counter() - started)
    log.info("read %d cells of %d genes in %d conditions in %.1f s", *shown)
    questions = [one for asked in screen.questions for one in _questions(table, asked, screen.seed)]
    if not questions:
        names = ", ".join(one.ask for one in screen.questions)
        mend = "a screen of singles has no pairs, and one context no others; ask something else"
        raise ConfigError("screen · questions", f"nothing to ask by {names}", mend=mend)
    footprints = footprints_of(pathways, table)
    leaks = leakage_of(table, questions, str(screen.path), accept=screen.share_content, seed=screen.seed)
    facts = {"screen": screen.name, "files": file_hashes(screen.path), "seed": screen.seed, "doubts": doubts}
    return write_scores(
        read_too([_asked(table, one) for one in questions], footprints),
        out,
        provenance=facts | hashes_of_weights(pathways),
        leakage=leaks,
        card=card_of_screen(table, questions),
        weights=weights,
    )


def footprints_of(pathways: Path | None, table: Responses) -> Footprints | None:
    """Return which genes of a table tell of which pathway, None without weights."""
    return None if pathways is None else Footprints(read_footprints(pathways), table.genes)


def read_too(scored: Sequence[Scored], footprints: Footprints | None) -> list[Scored]:
    """Return each task as it is and, where there are footprints, in terms of pathways."""
    return [one for task in scored for one in (task, *([] if footprints is None else [in_pathways(task, footprints)]))]


def _questions(table: Responses, asked: QuestionConfig, seed: int) -> list[Question]:
    for name in asked.within:
        if name not in table.context:
            raise unknown_name(ConfigError, f"questions · {asked.ask} · within", "context", name, set(table.context))
    among = ~table.is_control & (np.isin(table.context, asked.within) if asked.within else True)
    found = list(QUESTIONS[asked.ask](table, among, seed))
    if not found:
        log.info("%s: not asked, there is nothing of the kind", asked.ask)
    return found


def _asked(table: Responses, question: Question) -> Scored:
    started = time.perf_counter()
    exam = examine(table, question)
    found = exam.scored(exam.answer(predict))
    shown = (question.name, len(exam.rows), len(question.folds), time.perf_counter() - started)
    log.info("%s: %d conditions in %d folds, %.1f s", *shown)
    return found
