"""Expression of genes that a section never measured, told by dissociated cells of the graph beside the model."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.graph.panels import measured_molecules, measured_name
from aivc_graph.graph.tissue_graph import to_scipy_csr, to_torch_csr
from aivc_graph.operators.gate import opening_of
from aivc_graph.operators.genes_from_cells import START, Alike, choose_way, factor_off, likeness_by_gene, tell
from aivc_graph.query.answers import PER, expression_table
from aivc_graph.query.placing import (
    LEAST_SHARED,
    Sides,
    both_counts,
    expression_alike,
    loose_cells,
    placed_nodes,
    shared_genes,
)

if TYPE_CHECKING:
    from aivc_graph.query.virtual_tissue import VirtualTissue

Floats = NDArray[np.floating[Any]]
MODEL, FROM_CELLS = "model", "from_cells"
HIDDEN = 1 / 3
# Shares of what cells say in what is answered; the model alone comes first.
SHARES = (0.0, 0.5, 1.0)


class Told(NamedTuple):
    """What is told of genes (node, gene), in log counts per `usual` of the shared ones; which share is of cells; facts.

    `middle` and `factor`: by how much rates are off, and may be.
    """

    log: Floats
    usual: float
    middle: float
    factor: float
    facts: dict[str, Any]


def with_cells(table: ad.AnnData, tissue: VirtualTissue, level: str) -> ad.AnnData:
    """Return expected expression (node, gene), that of genes its section never measured told also by dissociated cells.

    Of each section that lacks genes which cells without positions measured: genes that both measured are hidden from
    section and model, a third of them, and say whether the model alone tells them best, cells, or both. ``layers``
    then hold ``model``, what the model says alone, and 95 % bounds of the mean over nodes told alike; ``uns`` says what
    was chosen. The model has learnt the hidden genes from the section too, which favours it: it is departed from the
    more surely, its agreement is an upper bound, and bounds are no narrower than those of what cells say alone.
    """
    graph, loose = tissue.graph, loose_cells(tissue.graph)
    known, symbol = (list(graph.obs(kind).index.astype(str)) for kind in (names.SECTION, names.GENE))
    place = {gene: i for i, gene in enumerate(symbol)}
    there = {at: measured_molecules(graph, at, names.RNA).numpy() for at in {level, names.CELL} if loose}
    for section, nodes in (placed_nodes(graph, level) if loose else {}).items():
        lacking = [g for g in table.var_names if g in place and not there[level][known.index(section), place[g]]]
        columns = [place[gene] for gene in lacking]
        cells = {name: rows for name, rows in loose.items() if there[names.CELL][known.index(name), columns].all()}
        who = Sides(tissue, section, level, nodes, tissue, cells)
        if lacking and cells and len(shared_genes(who)) >= LEAST_SHARED:
            _put(table, tissue, who, lacking, told_by_both(tissue, who, lacking))
    return table


def told_by_both(tissue: VirtualTissue, who: Sides, genes: list[str]) -> Told:
    """Return what is told of `genes` of the nodes of a section, by cells and model as hidden genes choose."""
    shared = shared_genes(who)
    order = np.random.default_rng(tissue.seed).permutation(len(shared))
    hidden, rest = ([shared[i] for i in np.sort(part)] for part in np.split(order, [max(2, int(HIDDEN * len(shared)))]))
    values, measured, usual = _logs(who, rest, hidden)
    choice = choose_way(_alike(who, rest), values, measured, tissue.seed)
    model = _model_logs(without_genes(tissue, who, hidden), who, rest, hidden, usual)
    likeness = {share: likeness_by_gene(_mix(model, choice.told, share), measured) for share in SHARES}
    best = max(SHARES, key=lambda share: likeness[share].mean())
    share = best if opening_of(likeness[best] - likeness[SHARES[0]]) > 0 else SHARES[0]
    middle, factor = factor_off(_mix(model, choice.told, share), measured)
    factor = max(factor, factor_off(choice.told, measured)[1])
    values, _, usual = _logs(who, shared, genes)
    cells = next(told for _, told in tell(_alike(who, shared), values, (choice.way,), tissue.seed))
    both = _mix(_model_logs(tissue, who, shared, genes, usual), cells, share)
    by_rule = {"model": likeness[0.0], "nearest cells": choice.likeness[START], "cells": likeness[1.0]}
    agreement = {rule: float(r.mean()) for rule, r in (by_rule | {"answer": likeness[share]}).items()}
    facts = {"share_of_cells": share, "way": choice.way._asdict(), "r_of_hidden_genes": agreement, "factor": factor}
    return Told(both, usual, middle, factor, facts)


def _mix(model: Floats, cells: Floats, share: float) -> Floats:
    return (1 - share) * model + share * cells


def without_genes(tissue: VirtualTissue, who: Sides, genes: list[str]) -> VirtualTissue:
    """Return the tissue as if a section had not measured `genes` at its level."""
    graph = copy.copy(tissue.graph)
    columns = graph.obs(names.GENE).index.astype(str).get_indexer(pd.Index(genes))
    row = list(graph.obs(names.SECTION).index.astype(str)).index(who.section)
    there = measured_molecules(graph, who.level, names.RNA).clone()
    there[row, columns] = False
    graph[names.SECTION][measured_name(who.level, names.RNA)] = there
    relation = (names.GENE, names.OBSERVED_IN, who.level)
    counts = to_scipy_csr(graph.counts(who.level, names.RNA)).tocoo()
    of = graph[who.level].section_index.numpy()[counts.row]
    kept = ~((of == row) & np.isin(counts.col, columns))
    counts.data = counts.data * kept
    counts = counts.tocsr()
    counts.eliminate_zeros()
    graph[relation].adj_t = to_torch_csr(counts)
    return type(tissue)(graph, tissue.model, seed=tissue.seed)


def _alike(who: Sides, genes: list[str]) -> Alike:
    nodes, cells = both_counts(who, genes)
    return Alike(*expression_alike(nodes, cells), who.there.graph[who.level].pos.double().numpy()[who.nodes])


def _logs(who: Sides, by: list[str], genes: list[str]) -> tuple[Floats, Floats, float]:
    """Return log counts of `genes` in cells and nodes (cell, gene), per usual count of genes `by`, and that count."""
    depth = [np.asarray(one.sum(axis=1), np.float64) for one in both_counts(who, by)]
    usual = max(float(np.median(depth[0])), 1.0)
    logs = [
        np.log1p(one.toarray() * (usual / np.maximum(total, 1.0)))
        for one, total in zip(both_counts(who, genes), depth, strict=True)
    ]
    return logs[1], logs[0], usual


def _model_logs(tissue: VirtualTissue, who: Sides, by: list[str], genes: list[str], usual: float) -> Floats:
    """Return what the model says of `genes` at the nodes (node, gene), in the same terms; zero if it knows nothing."""
    table = expression_table(tissue.model, tissue.graph, who.level, [*by, *genes], None, names.RNA)
    shares = np.nan_to_num(table.X[who.nodes].astype(np.float64))
    total = np.maximum(shares[:, : len(by)].sum(axis=1, keepdims=True), 1e-9)
    return np.asarray(np.log1p(usual * shares[:, len(by) :] / total))


def _put(table: ad.AnnData, tissue: VirtualTissue, who: Sides, genes: list[str], told: Told) -> None:
    """Write what is told into the table, in counts per 10,000 of the whole panel."""
    shared = shared_genes(who)
    among = expression_table(tissue.model, tissue.graph, who.level, shared, None, names.RNA).X[who.nodes]
    covered = np.nan_to_num(among).sum(axis=1, keepdims=True) / PER
    rate = told.middle * np.expm1(np.maximum(told.log, 0.0)) / told.usual * covered * PER
    here = np.ix_(who.nodes, table.var_names.get_indexer(genes))
    table.layers.setdefault(MODEL, table.X.copy())
    for name, values in (("lower", rate / told.factor), ("upper", rate * told.factor)):
        table.layers.setdefault(name, np.full(table.shape, np.nan, np.float32))[here] = values
    table.X[here] = rate
    table.uns.setdefault(FROM_CELLS, {})[who.section] = told.facts
