"""YAML of a screen or a pairing → ``evaluation.json``: responses and modalities without tissue, with all baselines."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.errors import ConfigError, Faults, ReadError, unknown_name
from aivc_graph.evaluation.audit import audit_profiles
from aivc_graph.evaluation.baselines.baseline import Scene, run_baselines
from aivc_graph.evaluation.intervals import Units
from aivc_graph.evaluation.leakage import MEASURE, leakage
from aivc_graph.evaluation.readouts.footprints import Footprints
from aivc_graph.evaluation.records import Axis, Evaluation
from aivc_graph.evaluation.responses.activities import in_pathways
from aivc_graph.evaluation.responses.asking import conditions_in, examine
from aivc_graph.evaluation.responses.audit import audit_question
from aivc_graph.evaluation.responses.copies import labels_of
from aivc_graph.evaluation.responses.leaks import Leaks
from aivc_graph.evaluation.responses.predictions import check_controls
from aivc_graph.evaluation.responses.questions import QUESTIONS, Fold, Question
from aivc_graph.evaluation.responses.table import Responses, column_of, matrix_of, responses_of
from aivc_graph.evaluation.scoring import Scored
from aivc_graph.io.footprints import hashes_of_weights, read_footprints
from aivc_graph.io.h5ad_file import file_hashes, read_anndata
from aivc_graph.io.staging import check_place
from aivc_graph.operators.intervention.condition_stack import predict_responses
from aivc_graph.pipeline.scores import FILE, write_scores
from aivc_graph.pipeline.table_card import card_of_pairing, card_of_screen
from aivc_graph.pipeline.table_settings import PairingConfig, QuestionConfig, ScreenConfig, load_table_config
from aivc_graph.splits.leakage import MAX_SHARE, MIN_FEATURES, MIN_ROWS
from aivc_graph.tissue.doubt import doubts_heard
from aivc_graph.training.fit_modality import predict_modality

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
        A YAML file with ``screen:`` or ``pairing:``, and ``evaluation:`` if axes weigh unlike or pathways are read.
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
    named = found.screen or found.pairing
    assert named is not None
    out = Path("runs") / named.name if out is None else Path(out)
    check_place(out / FILE)
    if found.screen is not None:
        return _evaluate_screen(found.screen, out, found.evaluation.weights, pathways or found.evaluation.pathways)
    assert found.pairing is not None
    return _evaluate_pairing(found.pairing, out, found.evaluation.weights)


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


def _evaluate_pairing(pairing: PairingConfig, out: Path, weights: Weights) -> Evaluation:
    given, asked = (read_anndata(path) for path in (pairing.given, pairing.asked))
    if not given.obs_names.equals(asked.obs_names):
        found = f"cells that differ from those of {pairing.given}"
        raise ReadError(str(pairing.asked), found, "the same cells in the same order", "select and sort both alike")
    files = file_hashes(pairing.given, pairing.asked)
    if len(set(files.values())) == 1:
        mend = "name the file of each modality"
        found = f"the same content as in `given`, {pairing.given}"
        raise ConfigError("pairing · asked", found, "another modality of the cells", mend)
    x, target = _dense(given, str(pairing.given)), _dense(asked, str(pairing.asked))
    donor, test = _donors(pairing, given, asked)
    leaks = _shared_cells(pairing, given, asked, donor, test)
    refuse(leaks, f"{pairing.given.name} and {pairing.asked.name}", ACCEPT, accept=pairing.share_content)
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
        model=predict_modality(x, scene.target, scene.train, scene.asked, scene.section),
        baselines=run_baselines(scene, "modality"),
        metrics=("pearson_by_gene", "rmse", "foscttm"),
        units=units,
        leakage=leakage(donor, ~test, test, sparse.csr_matrix(x))["any"],
    )
    facts = {"pairing": pairing.name, "files": files, "test": list(pairing.test)}
    return write_scores(
        [scored],
        out,
        provenance=facts,
        leakage={"measure": MEASURE, "accepted": leaks, **audit_profiles(x, ~test, test)},
        card=card_of_pairing(donor, test, (x.shape[1], target.shape[1]), pairing.label),
        weights=weights,
    )


def _donors(pairing: PairingConfig, given: Any, asked: Any) -> tuple[NDArray[np.str_], NDArray[np.bool_]]:
    """Return the donor of each cell, the same in both files, and who is held out."""
    donor = column_of(given, pairing.donor, str(pairing.given))
    if pairing.donor in asked.obs:
        other = column_of(asked, pairing.donor, str(pairing.asked))
        if (other != donor).any():
            found = f"{int((other != donor).sum()):,} cells of another {pairing.donor} than in {pairing.given.name}"
            raise ReadError(str(pairing.asked), found, "one donor a cell", "correct one of the two files")
    for name in pairing.test:
        if name not in donor:
            raise unknown_name(ConfigError, "pairing · test", "donor", name, set(donor))
    test = np.isin(donor, pairing.test)
    if test.all():
        raise ConfigError("pairing · test", "all donors held out", "at least one to train on", "hold out fewer")
    return donor, test


def _shared_cells(pairing: PairingConfig, given: Any, asked: Any, donor: Any, test: NDArray[np.bool_]) -> list[str]:
    """Say which donors' cells are there twice, on two sides of the split, in either modality."""
    told = []
    for path, table in ((pairing.given, given), (pairing.asked, asked)):
        hashes, rich = labels_of(sparse.csr_matrix(table.X), table.var_names)
        twice = test & rich & np.isin(hashes, hashes[~test & rich])
        for one in np.unique(donor[twice]):
            mine = twice & (donor == one)
            if mine.sum() >= max(MIN_ROWS, MAX_SHARE * (donor == one).sum()):
                others = ", ".join(np.unique(donor[~test & np.isin(hashes, hashes[mine])]))
                told.append(f"{one} holds the same cells ({int(mine.sum()):,}) as {others}, which trains ({path.name})")
    return told


def _dense(table: Any, where: str) -> Floats:
    """Return the values of all cells (cell, feature); one that is not finite is an error that says where it is."""
    x = matrix_of(table, where)
    found = np.asarray(x.toarray() if sparse.issparse(x) else x, np.float64)
    wrong = np.argwhere(~np.isfinite(found))
    if len(wrong):
        cell, feature = table.obs_names[wrong[0, 0]], table.var_names[wrong[0, 1]]
        told = f"{len(wrong):,} that are not, such as {feature} of cell {cell}"
        raise ReadError(where, told, "finite values", "leave out such cells or features, or fill them in")
    return found
