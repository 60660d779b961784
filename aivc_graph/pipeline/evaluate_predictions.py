"""Anybody's predictions beside what was measured → ``evaluation.json``, with every baseline learned from the rest."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.evaluation.records import Axis, Evaluation
from aivc_graph.evaluation.responses.asking import Exam, examine
from aivc_graph.evaluation.responses.predictions import (
    check_controls,
    keys_of,
    matched,
    shared_genes,
    sides_of,
    view_of,
)
from aivc_graph.evaluation.responses.questions import Fold, Question
from aivc_graph.evaluation.responses.scale import check_depth, check_finite
from aivc_graph.evaluation.responses.table import Responses, responses_of
from aivc_graph.evaluation.responses.views import Predicted
from aivc_graph.evaluation.settings import EvaluationConfig
from aivc_graph.io.footprints import hashes_of_weights
from aivc_graph.io.h5ad_file import file_hashes, read_anndata
from aivc_graph.io.staging import check_place
from aivc_graph.pipeline.evaluate_tables import footprints_of, leakage_of, read_too, refuse
from aivc_graph.pipeline.scores import FILE, write_scores
from aivc_graph.pipeline.table_card import card_of_screen
from aivc_graph.splits.copies import copy_labels
from aivc_graph.splits.leakage import MAX_SHARE, MIN_ROWS
from aivc_graph.tissue.doubt import doubts_heard

log = logging.getLogger(__name__)
EXACT = "predict without the cells that are tested, or give --share-content if that is the question"
TASK = "predictions"
SPLIT = "split"
ACCEPT = "drop one of the two, keep both on one side, or give --share-content if that is the question"


def evaluate_predictions(
    predictions: Path,
    measured: Path,
    out: Path,
    *,
    condition: str = "condition",
    control: str = "control",
    context: str | None = None,
    split: str | None = None,
    share_content: bool = False,
    pathways: Path | None = None,
) -> Evaluation:
    """Score predictions of responses against measured cells, and write ``evaluation.json`` into the folder `out`.

    Parameters
    ----------
    predictions
        An ``.h5ad`` file with one row a condition, or several cells of each; genes are matched by name.
    measured
        An ``.h5ad`` file with one row a cell, controls among them.
    condition, control, context
        Columns of ``obs`` in both, and the condition to which nothing was done.
    split
        Column of the measured ``obs`` that says ``train`` or ``test`` of each condition; ``split`` where there is one,
        else all that is predicted is tested and all else trains.
    share_content
        Accept that what is tested trains under another name; the page then says so.
    pathways
        What tells of pathways, which are then scored beside genes.

    Raises
    ------
    ReadError
        What cannot be matched or told apart: genes, conditions, contexts, sides, kinds of values. Cells that stand on
        two sides, where that is not accepted.
    """
    started = time.perf_counter()
    check_place(Path(out) / FILE)
    said, true = read_anndata(Path(predictions)), read_anndata(Path(measured))
    where = f"{predictions} against {measured}"
    genes = shared_genes(said, true, where)
    n_measured, whole = true.n_vars, said.X
    said, true = said[:, genes].copy(), true[:, genes].copy()
    with doubts_heard() as doubts:
        table = responses_of(true, condition, control, context, where=str(measured))
        check_controls(table, str(measured))
    footprints = footprints_of(pathways, table)
    keys = matched(keys_of(said, condition, context, str(predictions)), table, control)
    check_finite(said.X, keys[:, 1], genes, str(predictions))
    split = SPLIT if split is None and SPLIT in true.obs else split
    names = {(str(one), str(name)) for one, name in keys}
    train, asked = sides_of(true, table, split, names, where)
    axis = _axis(table, train, asked)
    question = Question(TASK, axis, (Fold(train, asked),))
    copied = _copied(said, keys, table, question.asked)
    refuse(copied, str(predictions), ACCEPT, accept=share_content)
    leaks = leakage_of(table, [question], str(measured), accept=share_content, mend=ACCEPT)
    leaks["accepted"] += copied
    exam = examine(table, question)
    view = view_of(said, keys, exam, str(predictions))
    check_depth(whole, view.profile, table, str(predictions))
    exact = _exact(view, exam) if not copied else []
    refuse(exact, str(predictions), EXACT, accept=share_content)
    leaks["accepted"] += exact
    unknown = names - set(zip(table.context.tolist(), table.condition.tolist(), strict=True))
    shown = (len(genes), n_measured, int(asked.sum()), int(train.sum()), len(unknown), time.perf_counter() - started)
    log.info("matched %d of %d genes; %d conditions asked, %d train, %d predicted ones not measured; %.1f s", *shown)
    facts = {
        "predictions": Path(predictions).name,
        "measured": Path(measured).name,
        "files": file_hashes(Path(predictions), Path(measured)),
        "doubts": doubts,
        "genes": {"matched": len(genes), "measured": n_measured, "predicted": int(said.n_vars)},
        "conditions": dict(zip(("asked", "train", "predicted but not measured"), shown[2:5], strict=True)),
        "split": f"obs[{split!r}]" if split is not None else "what is predicted is tested, all else trains",
    }
    return write_scores(
        read_too([exam.scored(view)], footprints),
        Path(out),
        provenance=facts | hashes_of_weights(pathways),
        leakage=leaks,
        card=card_of_screen(table, [question], whose=f"the predictions in {Path(predictions).name}"),
        weights=EvaluationConfig().weights,
    )


def _exact(view: Predicted, exam: Exam) -> list[str]:
    """Say which predicted profiles are the measured ones themselves.

    Even the true mean misses what was measured by the error of sampling cells. Nearer than a tenth of that error, or
    than a thousandth of the effect where one cell was measured, comes only what was taken from the cells themselves.
    """
    true = exam.measured
    gap = ((view.profile - true.profile) ** 2).sum(axis=1)
    by_effect = 1e-6 * (true.effect**2).sum(axis=1)
    by_error = 0.01 * true.variance.sum(axis=1)
    near = gap <= np.where(np.isfinite(by_error), np.maximum(by_error, by_effect), by_effect)
    return [
        f"the prediction of {name} is the measured profile itself" for name in exam.table.condition[exam.rows[near]]
    ]


def _copied(said: Any, keys: NDArray[np.str_], table: Responses, asked: NDArray[np.bool_]) -> list[str]:
    """Say which predicted cells are copies of the measured ones; single profiles are compared by `_exact`."""
    own = np.flatnonzero(asked[table.cells.row])
    both = sparse.csr_matrix(sparse.vstack([sparse.csr_matrix(said.X), table.cells.x[own]]))
    labels, rich = copy_labels(both, table.genes)
    n_said, row_of = len(keys), table.cells.row[own]
    told = []
    for row in np.flatnonzero(asked).tolist():
        mine = rich[:n_said] & (keys == (table.context[row], table.condition[row])).all(axis=1)
        measured = labels[n_said:][rich[n_said:] & (row_of == row)]
        n = int(np.isin(labels[:n_said][mine], measured).sum())
        if n >= max(MIN_ROWS, MAX_SHARE * mine.sum()):
            told.append(f"the prediction of {table.condition[row]} holds measured cells of it ({n:,})")
    return told


def _axis(table: Responses, train: np.ndarray, asked: np.ndarray) -> Axis:
    """Say what the test asks: of contexts that training lacks, or of interventions that it lacks."""
    return "intervention" if set(table.context[asked]) & set(table.context[train]) else "context"
