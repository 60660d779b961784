"""One question to the virtual tissue: what would an intervention do, where, and where is there no answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from aivc_graph import names
from aivc_graph.errors import QueryError
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.report.picture import tissue_drawing
from aivc_graph.tissue.intervention import Intervention


def what_if_of(tissue: VirtualTissue) -> dict[str, Any] | None:
    """Ask for the intervention that was given most often, over all tissue; None where none was given.

    Drawn and listed is the gene that moves furthest relative to itself, or most surely where none is beyond doubt, on
    the first section to which the intervention was not given.
    """
    graph = tissue.graph
    if names.INTERVENTION not in graph.node_types:
        return None
    asked, given = most_given(graph)
    try:
        answer = tissue.intervene(asked)
        by_niche = answer.readout("genes", by="niche")
    except QueryError:  # not supported by this run: no number is better than a wrong one
        return None
    gene, certain = _moved_most(by_niche, set(asked.targets))
    section = _untreated(graph, given)
    axes = answer.plot(gene, section)
    axes.set_title("")
    alt = f"Map of section {section}: expected change of {gene} under {asked.kind} of {asked.name}"
    return {
        "intervention": asked,
        "gene": gene,
        "certain": certain,
        "section": section,
        "unit": str(by_niche["unit"].iloc[0]),
        "rows": by_niche[by_niche["gene"] == gene].assign(bounded=by_niche["lower"].notna()).to_dict("records"),
        "share_supported": float(answer.supported[~answer.treated_before].mean()),
        "picture": tissue_drawing(axes.figure, alt),
        "reasons": answer.reasons,
    }


def most_given(graph: TissueGraph) -> tuple[Intervention, np.ndarray]:
    """Return the intervention given to most sections, at its largest dose and its time, and to which (section,)."""
    relation = graph[names.INTERVENTION, names.APPLIED_TO, names.SECTION]
    applied = to_scipy_csr(relation.adj_t)
    hours = applied.copy()
    hours.data = relation["hours"].numpy().astype(np.float64)
    times = np.bincount(applied.indices, minlength=applied.shape[1])
    column = int(times.argmax())
    obs = graph.obs(names.INTERVENTION).iloc[column]
    targets: dict[str, float] = {}
    acts = (names.INTERVENTION, names.TARGETS, names.GENE)
    if acts in graph.edge_types:
        strength = to_scipy_csr(graph[acts].adj_t)
        signed = strength.copy()
        signed.data = strength.data * graph[acts]["sign"].numpy()
        values = np.asarray(signed[:, [column]].todense()).ravel()
        genes = graph.obs(names.GENE).index.astype(str).to_numpy()
        targets = {str(genes[i]): float(values[i]) for i in np.flatnonzero(values)}
    one = [column]
    asked = Intervention(
        kind=obs["kind"],
        name=str(obs["name"]),
        targets=targets,
        dose=float(applied[:, one].max()),
        unit=str(obs["unit"]),
        hours=float(hours[:, one].max()),
    )
    return asked, np.asarray(applied[:, one].todense()).ravel() > 0


def _moved_most(by_niche: pd.DataFrame, targets: set[str]) -> tuple[str, bool]:
    """Return the gene that moves furthest relative to itself untreated, and whether its change is beyond doubt.

    Counts are shares: where some genes fall all others rise by a like part, the median over genes, which is taken off.
    Beyond doubt is an interval that excludes no change even when widened for all genes and niches looked at; of many
    intervals of 95 % some exclude it by chance. Where no gene is, the surest of all is told, and without intervals the
    one that is predicted to move furthest; a target is no news.
    """
    table = by_niche[~by_niche["gene"].isin(targets)] if set(by_niche["gene"]) - targets else by_niche
    freedom = (table["n_units"] - 1).clip(lower=1)
    error = (table["upper"] - table["lower"]) / 2 / stats.t.ppf(0.975, freedom)
    common = (table["estimate"] / (table["untreated"] + 1.0)).groupby(table["niche"], observed=True).transform("median")
    own, shrunken = ((table[of] - common * (table["untreated"] + 1.0)).abs() for of in ("estimate", "shrunken"))
    sure = own / error.where(error > 0)
    chance = 2 * stats.t.sf(sure, freedom) * len(table)
    clear = (chance < 0.05) & table["supported"].astype(bool)
    moved, predicted = ((of / (table["untreated"] + 1.0)).fillna(0.0) for of in (own, shrunken))  # NaN: out of support
    told = moved.where(clear, 0.0) if clear.any() else sure if sure.notna().any() else predicted
    of_gene = told.groupby(table["gene"]).mean()
    return str(of_gene.idxmax()), bool(clear.any())


def _untreated(graph: TissueGraph, given: np.ndarray) -> str:
    sections = [str(name) for name in graph.obs(names.SECTION).index]
    return next((name for name, treated in zip(sections, given, strict=True) if not treated), sections[0])
