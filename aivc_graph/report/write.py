"""`write_report`: a run as one self-contained page."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from aivc_graph.atomic import staged
from aivc_graph.evaluation.records import read_evaluation
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.report.ablations import ablations_of
from aivc_graph.report.anchors import anchors_of
from aivc_graph.report.assays import assays_of
from aivc_graph.report.caveats import caveats_of, finding_of, leaks_of, seen_donors
from aivc_graph.report.cycles import cycles_of
from aivc_graph.report.holdings import holdings_of
from aivc_graph.report.learning import learning_of
from aivc_graph.report.niches import SMALL_INCHES, border_shares, contact_rows, maps_of, niches_of
from aivc_graph.report.overview import overview_of
from aivc_graph.report.page import render
from aivc_graph.report.provenance import provenance_of
from aivc_graph.report.recovery import TRUTH, recovery_of
from aivc_graph.report.scores import boards_of, summary_of
from aivc_graph.report.type_contacts import contacts_of
from aivc_graph.report.what_if import what_if_of
from aivc_graph.report.words import words
from aivc_graph.training.checkpoint import check_model
from aivc_graph.training.run_folder import run_facts

log = logging.getLogger(__name__)
EVALUATION = "evaluation.json"
PAGE = "report.html"


def write_report(run: str | Path, out: str | Path | None = None, *, tissue: VirtualTissue | None = None) -> Path:
    """Write what a run found, what it rests on and how well it holds as one HTML file; return where.

    The page asks for nothing from elsewhere and needs no script: pictures lie inside it. Equal runs give equal bytes.
    Scores are those of the ``evaluation.json`` beside the page, else of the run's; without one it says "not evaluated".

    Parameters
    ----------
    run
        A finished run folder.
    out
        The file to write; by default ``report.html`` in the run folder.
    tissue
        The run's tissue where it is loaded already: its niches are not found a second time then.

    Raises
    ------
    StoreError
        The run is unfinished, damaged or trained anew meanwhile, or the file cannot be written; an older page is kept.

    Examples
    --------
    >>> page = write_report("runs/demo")
    """
    started = time.perf_counter()
    run = Path(run)
    out = Path(out) if out is not None else run / PAGE
    scores = next((file for folder in (out.parent, run) if (file := folder / EVALUATION).exists()), None)
    tissue = tissue if tissue is not None else VirtualTissue.load(run)
    page = render(**contents(run, tissue, scores))
    with staged(out) as beside:
        beside.write_text(page, encoding="utf-8")
        check_model(tissue.model, run)  # a page of one model never comes to lie beside another
    log.info("wrote %s (%.1f MB) in %.1f s", out, len(page) / 1e6, time.perf_counter() - started)
    return out


def write_scored_table(folder: Path) -> Path:
    """Write the scores in a folder's ``evaluation.json`` as one page, where there is no tissue; return where.

    Raises
    ------
    StoreError
        The scores are damaged, or the file cannot be written.
    """
    evaluation = read_evaluation(folder / EVALUATION)
    boards = boards_of(evaluation.results, evaluation.comparisons)
    asked = list(dict.fromkeys(words(one.task) for one in evaluation.results))
    alike = evaluation.provenance.get("collapsed") or []
    finding = f"Asked: {', '.join(asked)}."
    if alike:
        finding += f" Predictions are all alike in {', '.join(map(words, alike))}."
    page = render(
        "scored_table.html",
        title=folder.name,
        finding=finding,
        evaluation=evaluation,
        boards=boards,
        summary=summary_of(boards),
        overview=overview_of(evaluation),
        ablations=ablations_of(evaluation),
        leaks=evaluation.leakage.get("accepted", []),
        doubts=evaluation.provenance.get("doubts", []),
        card=evaluation.card,
    )
    with staged(folder / PAGE) as beside:
        beside.write_text(page, encoding="utf-8")
    return folder / PAGE


def contents(run: Path, tissue: VirtualTissue, scores: Path | None) -> dict[str, Any]:
    """Return everything the page tells, section by section."""
    evaluation = read_evaluation(scores, run) if scores is not None else None
    boards = boards_of(evaluation.results, evaluation.comparisons) if evaluation is not None else {}
    niches, maps = niches_of(tissue), maps_of(tissue)
    pairs = tissue.neighbours()
    contacts = contact_rows(pairs)
    off_diagonal = np.abs(contacts.to_numpy()[~np.eye(len(contacts), dtype=bool)])
    simulated = (run / TRUTH).is_dir()
    return {
        "title": str(run_facts(run / "run.json", ("task",))["task"]),
        "finding": finding_of(tissue, niches),
        "leaks": leaks_of(run),
        "level": tissue.base_level,
        "n_sections": int(tissue.graph["section"].num_nodes),
        "niches": niches,
        "labels": sorted({(part.label, part.colour) for niche in niches for part in niche.parts}),
        "maps": maps,
        "contacts": contacts,
        "borders": border_shares(pairs),
        "contacts_top": float(off_diagonal.max(initial=0.0)),
        "holdings": holdings_of(tissue.graph),
        "learning": learning_of(run),
        "evaluation": evaluation,
        "boards": boards,
        "summary": summary_of(boards),
        "overview": overview_of(evaluation) if evaluation is not None else None,
        "ablations": ablations_of(evaluation) if evaluation is not None else None,
        "assays": assays_of(evaluation.assays) if evaluation is not None else None,
        "type_contacts": contacts_of(evaluation.type_contacts) if evaluation is not None else [],
        "cycles": cycles_of(evaluation.cycles) if evaluation is not None else [],
        "anchors": anchors_of(evaluation.anchors) if evaluation is not None else None,
        "card": evaluation.card if evaluation is not None else None,
        "recovery": recovery_of(tissue, run, maps.section, SMALL_INCHES),
        "what_if": what_if_of(tissue),
        "caveats": [
            *caveats_of(tissue, simulated=simulated, evaluated=evaluation is not None),
            *seen_donors(evaluation.leakage if evaluation is not None else {}),
        ],
        "provenance": provenance_of(run),
    }
