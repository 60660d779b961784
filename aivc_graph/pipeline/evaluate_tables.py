"""YAML of a screen or a pairing → ``evaluation.json``: responses and modalities without tissue, with all baselines."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.errors import ConfigError, ReadError, unknown_name
from aivc_graph.evaluation.audit import audit_profiles
from aivc_graph.evaluation.baselines.baseline import Scene, run_baselines
from aivc_graph.evaluation.intervals import Units
from aivc_graph.evaluation.leakage import MEASURE, leakage
from aivc_graph.evaluation.readouts.footprints import Footprints
from aivc_graph.evaluation.records import Evaluation
from aivc_graph.evaluation.responses.activities import in_pathways
from aivc_graph.evaluation.responses.asking import examine
from aivc_graph.evaluation.responses.questions import QUESTIONS, Fold
from aivc_graph.evaluation.responses.table import Responses, column_of, responses_of
from aivc_graph.evaluation.scoring import Scored
from aivc_graph.io.footprints import facts_of_weights, read_footprints
from aivc_graph.io.h5ad_file import read_anndata
from aivc_graph.io.staging import check_place
from aivc_graph.pipeline.scores import FILE, write_scores
from aivc_graph.pipeline.table_settings import PairingConfig, QuestionConfig, ScreenConfig, load_table_config
from aivc_graph.training.fit_responses import Conditions, predict_responses

log = logging.getLogger(__name__)
Floats = NDArray[np.floating]
LEAKED = "share of the asked cells whose condition, in its context, or whose very values training has too"


def evaluate_table(config: Path, out: Path | None = None, weights: Path | None = None) -> Evaluation:
    """Put the questions of a YAML file to the model and to every baseline, and write ``evaluation.json``.

    Parameters
    ----------
    config
        A YAML file with ``screen:`` or ``pairing:``.
    out
        Folder for ``evaluation.json``; ``runs/<name>`` if not given.
    weights
        What tells of pathways, in place of ``screen.pathways``.

    Raises
    ------
    ConfigError, ReadError
        The file, or the data it names, is not as it says; all faults at once.
    """
    found = load_table_config(Path(config))
    named = found.screen or found.pairing
    assert named is not None
    out = Path("runs") / named.name if out is None else Path(out)
    check_place(out / FILE)
    if found.screen is not None:
        return _evaluate_screen(found.screen, out, weights or found.screen.pathways)
    assert found.pairing is not None
    return _evaluate_pairing(found.pairing, out)


def predict(table: Responses, fold: Fold) -> Floats:
    """Return what the first intervention operator says of the asked rows of a fold (asked, gene)."""
    context = np.unique(table.context, return_inverse=True)[1].reshape(-1)
    effect = np.where(fold.train[:, None], table.effect, np.nan)
    return predict_responses(Conditions(effect, table.design, context, fold.train), fold.asked)


def _evaluate_screen(screen: ScreenConfig, out: Path, weights: Path | None) -> Evaluation:
    started = time.perf_counter()
    data = read_anndata(screen.path)
    table = responses_of(
        data, screen.condition, screen.control, screen.context, layer=screen.layer, where=str(screen.path)
    )
    shown = (data.n_obs, len(table.genes), len(table.parts), time.perf_counter() - started)
    log.info("read %d cells of %d genes in %d conditions in %.1f s", *shown)
    footprints = None if weights is None else Footprints(read_footprints(weights), table.genes)
    scored = [one for asked in screen.questions for one in _ask(table, asked, screen.seed)]
    if not scored:
        names = ", ".join(one.ask for one in screen.questions)
        mend = "a screen of singles has no pairs, and one context no others; ask something else"
        raise ConfigError("screen · questions", f"nothing to ask by {names}", mend=mend)
    facts = {
        "screen": screen.name,
        "file": screen.path.name,
        "cells": int(data.n_obs),
        "genes": len(table.genes),
        "values": "counts" if table.cells.counts else "log-normalised",
        "conditions": int((~table.is_control).sum()),
        "contexts": sorted(set(table.context.tolist())),
        "seed": screen.seed,
    }
    return write_scores(read_too(scored, footprints), facts | facts_of_weights(weights), LEAKED, out)


def read_too(scored: Sequence[Scored], footprints: Footprints | None) -> list[Scored]:
    """Return each task as it is and, where there are footprints, in terms of pathways."""
    return [one for task in scored for one in (task, *([] if footprints is None else [in_pathways(task, footprints)]))]


def _ask(table: Responses, asked: QuestionConfig, seed: int) -> list[Scored]:
    for name in asked.within:
        if name not in table.context:
            raise unknown_name(ConfigError, f"questions · {asked.ask} · within", "context", name, set(table.context))
    among = ~table.is_control & (np.isin(table.context, asked.within) if asked.within else True)
    found = []
    for question in QUESTIONS[asked.ask](table, among, seed):
        started = time.perf_counter()
        exam = examine(table, question)
        found.append(exam.scored(exam.answer(predict)))
        shown = (question.name, len(exam.rows), len(question.folds), time.perf_counter() - started)
        log.info("%s: %d conditions in %d folds, %.1f s", *shown)
    if not found:
        log.info("%s: not asked, there is nothing of the kind", asked.ask)
    return found


def _evaluate_pairing(pairing: PairingConfig, out: Path) -> Evaluation:
    given, asked = (read_anndata(path) for path in (pairing.given, pairing.asked))
    if not given.obs_names.equals(asked.obs_names):
        found = f"cells that differ from those of {pairing.given}"
        raise ReadError(str(pairing.asked), found, "the same cells in the same order", "select and sort both alike")
    donor = column_of(given, pairing.donor, str(pairing.given))
    for name in pairing.test:
        if name not in donor:
            raise unknown_name(ConfigError, "pairing · test", "donor", name, set(donor))
    test = np.isin(donor, pairing.test)
    if test.all():
        raise ConfigError("pairing · test", "all donors held out", "at least one to train on", "hold out fewer")
    target, x = _dense(asked.X), _dense(given.X)
    scene = Scene(
        target=np.where(test[:, None], np.nan, target),
        train=~test,
        visible=np.zeros(len(test), bool),
        asked=test,
        section=np.unique(donor, return_inverse=True)[1].reshape(-1),
        pos_um=np.zeros((len(test), 2)),
        features=x,
        comparable=True,
    )
    donors, code = np.unique(donor[test], return_inverse=True)
    units = Units(code.reshape(-1), "donor", np.zeros(len(code), np.int64), tuple(map(str, donors)))
    scored = Scored(
        task="cell_to_modality",
        axis="modality",
        split="test",
        scale="cell",
        modality=pairing.label,
        readout="features",
        measured=target[test],
        model=None,
        baselines=run_baselines(scene, "modality"),
        metrics=("pearson_by_gene", "rmse", "foscttm"),
        units=units,
        leakage=leakage(donor, ~test, test, sparse.csr_matrix(x))["any"],
    )
    facts = {"pairing": pairing.name, "files": [pairing.given.name, pairing.asked.name], "test": list(pairing.test)}
    return write_scores([scored], facts | {"cells": int(given.n_obs)}, MEASURE, out, audit_profiles(x, ~test, test))


def _dense(x: Any) -> Floats:
    return np.asarray(x.toarray() if sparse.issparse(x) else x, np.float64)
