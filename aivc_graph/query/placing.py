"""What dissociated cells and the nodes of a section are compared by: shared genes, and states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.errors import QueryError, unknown_name
from aivc_graph.graph.panels import is_observed, measured_molecules, panel
from aivc_graph.graph.profiles import scale_counts
from aivc_graph.graph.terms import raw_values
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.placing import Nodes
from aivc_graph.operators.placing_fit import LEAST_NODES
from aivc_graph.operators.subspace import along, leading_axes

if TYPE_CHECKING:
    from aivc_graph.query.virtual_tissue import VirtualTissue

Rows = NDArray[np.integer[Any]]
Floats = NDArray[np.floating[Any]]
LEAST_SHARED = 20
AXES = 100
EXPRESSION, STATE = "expression", "state"
WHERE = "place"


class Sides(NamedTuple):
    """Who is asked and where: a section of the tissue `there`, a level and rows of its nodes; of the tissue `here`, by
    section, rows of asked cells. Both tissues are seen by one model, so that their genes are the same.
    """

    there: VirtualTissue
    section: str
    level: str
    nodes: Rows
    here: VirtualTissue
    asked: dict[str, Rows]


class Compared(NamedTuple):
    """Nodes and asked cells told alike: views (cell, axis), and counts in the shared genes (cell, gene)."""

    nodes: Nodes
    node_counts: Any
    asked: dict[str, Floats]
    asked_counts: Any
    genes: list[str]


def sides(tissue: VirtualTissue, section: str | None, of: str | None, level: str | None) -> Sides:
    """Return where cells are placed, by default in the first section with positions, and who: all cells without.

    Either side may be missing from other tissue that is asked: it is then of the run's own.

    Raises
    ------
    QueryError
        A graph without dissociated cells, without counted nodes that have positions, or of no such section.
    """
    either = (tissue, tissue.home)
    known = [name for one in either for name in one.graph.obs(names.SECTION).index.astype(str)]
    for given in (section, of):
        if given is not None and given not in known:
            raise unknown_name(QueryError, WHERE, "section", given, list(dict.fromkeys(known)))
    for here in either:
        loose = loose_cells(here.graph)
        if asked := {name: rows for name, rows in loose.items() if of in (None, name)}:
            break
    else:
        found = f"no counted cells without positions{f' in {of}' if of else ''}"
        mend = "give dissociated cells as a section of their own (`dissociated: true`), beside the tissue or by --on"
        raise QueryError(WHERE, found, "cells to be placed", mend)
    for there in either:
        for at in (level,) if level else (names.CELL, names.PATCH):
            for name, rows in placed_nodes(there.graph, at).items():
                if section in (None, name):
                    return Sides(there, name, at, rows, here, asked)
    found = f"no section{f' {section!r}' if section else ''} of {LEAST_NODES} counted nodes with positions"
    raise QueryError(WHERE, found, f"places at {level or 'cell or patch'}", "name another by --section or --level")


def missing_from(who: Sides, given: bool | None) -> bool:
    """Return whether asked cells may be missing from gaps of the section: as given, or if all are of its donor."""
    if given is not None:
        return given
    own = _donors(who.there.graph).get(who.section)
    of = _donors(who.here.graph)
    return own is not None and all(of.get(name) == own for name in who.asked)


def _donors(graph: TissueGraph) -> dict[str, Any]:
    sections = graph.obs(names.SECTION)
    return dict(zip(sections.index.astype(str), sections["donor"], strict=True)) if "donor" in sections else {}


def loose_cells(graph: TissueGraph) -> dict[str, Rows]:
    """Return the counted cells without positions, by section."""
    rows = _counted(graph, names.CELL)
    return _by_section(graph, names.CELL, rows[~_placed(graph, names.CELL, rows)])


def placed_nodes(graph: TissueGraph, level: str) -> dict[str, Rows]:
    """Return the counted nodes of a level that have positions, of sections with at least sixty of them."""
    rows = _counted(graph, level)
    found = _by_section(graph, level, rows[_placed(graph, level, rows)])
    return {name: rows for name, rows in found.items() if len(rows) >= LEAST_NODES}


def _by_section(graph: TissueGraph, level: str, rows: Rows) -> dict[str, Rows]:
    known = graph.obs(names.SECTION).index.astype(str)
    of = graph[level].section_index.numpy()[rows] if len(rows) else rows
    return {name: rows[of == i] for i, name in enumerate(known) if (of == i).any()}


def compared(who: Sides, mass: str | None = None) -> Compared:
    """Return nodes and asked cells by the genes that all of them measured, and by their states where levels are alike.

    Expression is log counts per median count of the nodes, along their leading hundred axes.

    Parameters
    ----------
    mass
        Column of the nodes that says how many cells each holds; one each if not given.

    Raises
    ------
    QueryError
        With fewer than twenty such genes, or a column that holds no numbers of cells.
    """
    asked = np.concatenate(list(who.asked.values()))
    genes = shared_genes(who)
    if len(genes) < LEAST_SHARED:
        found = f"{len(genes)} genes that {who.section} and {', '.join(who.asked)} all measured"
        mend = "place sections of further genes one by one with --of; `graph.n_genes` may have left genes out"
        raise QueryError(WHERE, found, f"at least {LEAST_SHARED}", mend)
    counts = both_counts(who, genes)
    x, y = expression_alike(*counts)
    views, told = {EXPRESSION: x}, {EXPRESSION: y}
    if who.level == names.CELL:
        views[STATE], told[STATE] = (
            tissue.states[names.CELL].own[rows].astype(np.float64)
            for tissue, rows in ((who.there, who.nodes), (who.here, asked))
        )
    held = _mass(who.there.graph, who, mass)
    nodes = Nodes(views, who.there.graph[who.level].pos.double().numpy()[who.nodes], held)
    return Compared(nodes, counts[0], told, counts[1], genes)


def expression_alike(counts: Any, asked: Any) -> tuple[Floats, Floats]:
    """Return log counts of nodes and of asked cells (cell, axis), of counts (cell, gene) of the same genes, sparse."""
    usual = max(float(np.median(np.asarray(counts.sum(axis=1)))), 1.0)
    x, y = (scale_counts(one, usual) for one in (counts, asked))
    centre = np.asarray(x.mean(axis=0)).ravel()
    axes = leading_axes(x, centre, min(AXES, x.shape[1] - 1))
    return along(x, centre, axes), along(y, centre, axes)


def _mass(graph: TissueGraph, who: Sides, mass: str | None) -> Floats:
    if mass is None:
        return np.ones(len(who.nodes))
    obs = graph.obs(who.level)
    if mass not in obs:
        raise unknown_name(QueryError, f"{WHERE} · {who.level}", "column", mass, obs.columns)
    try:
        held = obs[mass].to_numpy()[who.nodes].astype(np.float64)
    except (TypeError, ValueError):
        held = np.array([np.nan])
    if not (np.isfinite(held).all() and (held >= 0).all() and held.any()):
        found = f"{mass!r} that is no number of cells"
        raise QueryError(f"{WHERE} · {who.level}", found, "numbers from 0", "name another column")
    return np.asarray(held)


def shared_genes(who: Sides) -> list[str]:
    """Return the genes that the section measured at its level, and so did all that are asked."""
    index = who.there.graph.obs(names.GENE).index.astype(str)
    there = _measured(who.there.graph, who.level, who.section).copy()
    for name in who.asked:
        there &= _measured(who.here.graph, names.CELL, name)
    return list(index[there])


def _measured(graph: TissueGraph, level: str, section: str) -> NDArray[np.bool_]:
    known = list(graph.obs(names.SECTION).index.astype(str))
    return np.asarray(measured_molecules(graph, level, names.RNA)[known.index(section)].numpy())


def both_counts(who: Sides, genes: list[str]) -> tuple[Any, Any]:
    """Return counts of nodes and of asked cells (cell, gene), sparse."""
    asked = np.concatenate(list(who.asked.values()))
    there = counts_of(who.there.graph, who.level, genes)[who.nodes]
    return there, counts_of(who.here.graph, names.CELL, genes)[asked]


def counts_of(graph: TissueGraph, level: str, genes: list[str]) -> Any:
    place = {gene: i for i, gene in enumerate(panel(graph, level, names.RNA))}
    return raw_values(graph, level, names.RNA).tocsr()[:, [place[gene] for gene in genes]]


def _counted(graph: TissueGraph, level: str) -> Rows:
    if not is_observed(graph, level, names.RNA):
        return np.zeros(0, np.int64)
    return np.flatnonzero(graph[level][names.mask_name(names.RNA)].numpy())


def _placed(graph: TissueGraph, level: str, rows: Rows) -> NDArray[np.bool_]:
    return np.isfinite(graph[level].pos.numpy()[rows]).all(axis=1) if len(rows) else np.zeros(0, bool)
