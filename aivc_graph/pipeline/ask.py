"""Questions to a run, and its export to other tools."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from aivc_graph.atomic import staged
from aivc_graph.errors import QueryError
from aivc_graph.io.h5ad_file import write_anndata
from aivc_graph.io.staging import check_place
from aivc_graph.io.tables import csv_text
from aivc_graph.io.writing import check_export, write
from aivc_graph.query.places import NICHE
from aivc_graph.query.questions.question import NODES, TABLE
from aivc_graph.query.questions.question import question as question_of
from aivc_graph.query.virtual_tissue import VirtualTissue

log = logging.getLogger(__name__)
FEW_NODES = 100
PICTURES = (".png", ".pdf", ".svg")


def query(
    run: Path,
    question: str,
    out: Path | None = None,
    *,
    plot: Path | None = None,
    on: Path | None = None,
    **options: Any,
) -> Any:
    """Put a question to a run; write the answer where `out` says (``.csv``, ``.parquet``, ``.h5ad``) and return it.

    Parameters
    ----------
    question, options
        Name and options of any of `aivc_graph.query.questions.question.QUESTIONS`.
    plot
        Where a picture of the answer goes.
    on
        Other tissue that is asked in place of the run's own: a graph store, or a configuration (`graph_elsewhere`).
    """
    asked = question_of(question, options)
    if plot is not None and not asked.is_drawn():
        raise QueryError(str(plot), f"the question {question!r}, whose answer is no picture", mend="leave out the plot")
    if plot is not None and plot.suffix not in PICTURES:
        raise QueryError(str(plot), f"the ending {plot.suffix!r}", " or ".join(PICTURES), "rename the picture")
    for place in (plot, out):
        if place is not None:
            check_place(Path(place))
    if out is not None:
        _check_ending(Path(out), asked.written_as())
    tissue = VirtualTissue.load(run)
    if on is not None:
        from aivc_graph.pipeline.elsewhere import graph_elsewhere

        with graph_elsewhere(run, on) as store:
            tissue = tissue.on(store)
    answer = tissue.ask(asked)
    if plot is not None:  # of the whole answer: a table may have lost what a picture is drawn from
        figure = asked.draw(tissue, answer).figure
        with staged(plot) as beside:
            figure.savefig(beside, dpi=150, bbox_inches="tight", format=plot.suffix[1:])
    if out is None or Path(out).suffix != ".h5ad":
        answer = asked.as_table(answer)
    for doubt in (_uncounted(answer), _unplaced(tissue, answer), _few(tissue, answer)):
        if doubt is not None:
            log.warning("%s", doubt)
    if out is not None:
        save_answer(asked.as_anndata(answer) if Path(out).suffix == ".h5ad" else answer, Path(out))
    return answer


def _uncounted(answer: Any) -> str | None:
    """Say of which sections the run could read nothing at the nodes of an answer."""
    obs = getattr(answer, "obs", answer)
    if not {"section", "supported"} <= set(obs) or {"estimate", "placed_in"} & set(obs):
        return None  # there it is not said of what was measured
    by_section = obs.groupby("section", observed=True)["supported"].any()
    bare = ", ".join(by_section.index[~by_section].astype(str))
    told = "what is said of it, if anything, rests on its surroundings or slide alone (supported = False)"
    return f"nothing that this run learnt to read was measured in {bare}: {told}" if bare else None


def _unplaced(tissue: VirtualTissue, answer: Any) -> str | None:
    """Say what niches, and which of them touch, are worth where no cell has a position."""
    columns = getattr(answer, "obs", answer)
    if not tissue.placed and f"{NICHE}_a" in columns:
        return "cells without positions are near nobody: no contact, which says nothing of their tissue"
    if NICHE in columns and tissue.placed and "x_um" in columns and "section" in columns:
        sections = columns.groupby("section", observed=True)["x_um"].count()
        loose = ", ".join(sections.index[sections == 0].astype(str))
        told = "are near nobody: a niche of theirs is that of their own kind; place says where they may lie"
        return f"cells without positions ({loose}) {told}" if loose else None
    if tissue.placed or NICHE not in columns:
        return None
    if tissue.home.placed:
        told = "a niche is that of their own kind, as it stands out in their sample: of one kind alone, none"
        return (
            f"cells without positions are near nobody: {told}; ask types, or place, where they lie in this run's tissue"
        )
    mend = "ask markers or composition by label, or the response to what was done"
    return f"cells without positions are near nobody: all are one niche, which says nothing; {mend}"


def _few(tissue: VirtualTissue, answer: Any) -> str | None:
    """Say of which sections from elsewhere nodes are so few that what all of them share is lost with their mean."""
    columns = getattr(answer, "obs", answer)
    if tissue.home is tissue or not {NICHE, "section"} <= set(columns):
        return None
    number = columns.groupby("section", observed=True).size()
    few = ", ".join(f"{name} ({n})" for name, n in number.items() if n < FEW_NODES)
    told = f"niches of fewer than {FEW_NODES} nodes ({few}) are those of nodes as they stand out in their own section"
    return f"{told}: of nodes of one kind, none" if few else None


def save_answer(answer: Any, path: Path) -> Path:
    """Write a table or AnnData in the format the file's ending names; an older file there is kept if that fails."""
    table = answer if isinstance(answer, pd.DataFrame) else None
    _check_ending(path, NODES if table is None else TABLE)
    with staged(path) as beside:
        if path.suffix == ".h5ad":
            write_anndata(answer, beside)
        else:
            frame = table if table is not None else flat(answer)
            beside.write_text(csv_text(frame)) if path.suffix == ".csv" else frame.to_parquet(beside)
    return path


def _check_ending(path: Path, endings: tuple[str, ...]) -> None:
    if path.suffix in endings:
        return
    if path.suffix in NODES:
        raise QueryError(str(path), "a table cannot be an .h5ad", mend="name a .csv or .parquet file")
    raise QueryError(str(path), f"unknown ending {path.suffix!r}", ", ".join(endings), "rename the output")


def export(run: Path, to: str, out: Path) -> Path:
    """Write the graph of a run with its niches in another tool's format."""
    check_export(out, to)
    tissue = VirtualTissue.load(run)
    for level in tissue.graph.levels:
        tissue.graph[level].obs = tissue.graph.obs(level).assign(niche=tissue.niches(level=level).obs["niche"])
    return write(tissue.graph, Path(out), to)


def flat(answer: Any) -> pd.DataFrame:
    """Return an AnnData answer as one table: annotation, then one column a feature."""
    values = pd.DataFrame(
        answer.X, index=answer.obs_names, columns=[f"{answer.var.index.name or 'gene'}_{v}" for v in answer.var_names]
    )
    return pd.concat([answer.obs, values], axis=1)
