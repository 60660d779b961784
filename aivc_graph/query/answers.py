"""The tables answers are made of: one row a node, niche or pair, with identifiers and units."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from scipy import sparse, special

from aivc_graph import names
from aivc_graph.errors import QueryError, unknown_name
from aivc_graph.graph.panels import measured_molecules, measured_nodes, panel_columns
from aivc_graph.graph.profiles import measured_share
from aivc_graph.graph.terms import depth_of, raw_values
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.gate import EXPRESSION
from aivc_graph.query.panel_intervals import factor_between, told_between
from aivc_graph.query.shared_molecules import SharedMolecules
from aivc_graph.query.states import run_windows

if TYPE_CHECKING:
    import networkx as nx

Function = Callable[[np.ndarray], np.ndarray]
PER = 10_000.0
INTENSITIES = "intensity, in the file's units"
log = logging.getLogger(__name__)
MIN_UNITS = 5
CONFIDENCE = 0.95


def node_table(graph: TissueGraph, level: str) -> pd.DataFrame:
    """Return the table of a level's nodes: section, barcode, x_um, y_um, size_um and all annotation."""
    obs = graph.obs(level).copy()
    pos = graph[level].pos.numpy()
    obs.insert(2, "x_um", pos[:, 0])
    obs.insert(3, "y_um", pos[:, 1])
    obs.insert(4, "size_um", graph[level].size_um.numpy())
    return obs


def counted_nodes(model: TissueModel, graph: TissueGraph, level: str) -> np.ndarray:
    """Return who of a level was measured, boolean (node,); all, where the model measures nothing but features there.

    What is said of the others rests on the slide or on their neighbours alone.
    """
    modalities = model.plan.panels.get(level, {})
    found: np.ndarray = np.full(int(graph[level].num_nodes), not modalities)
    for modality in modalities:
        found |= measured_nodes(graph, level, modality, modalities[modality])
    return found


def asked_modality(model: TissueModel, level: str, modality: str | None) -> str:
    """Return the modality that is asked: the one given, else that which expression at `level` is asked of."""
    return modality or model.plan.expressed(level) or names.RNA


def no_effects(model: TissueModel, graph: TissueGraph) -> QueryError:
    """Return the error that says why a model of tissue tells no effect of an intervention."""
    if not model.plan.counts:
        there = ", ".join(sorted({one for by in model.plan.panels.values() for one in by})) or "features"
        return QueryError("intervene", f"a run of {there}", "counts", "responses are of counts alone: train on those")
    if names.INTERVENTION in graph.node_types:
        found = "no donor with treated and untreated sections that training saw"
        mend = "say by `donor:` or `donor_by:` which sections are of one donor, and that the split trains on both"
    else:
        found = "a tissue trained without interventions"
        mend = "train on a configuration whose sections say what was done, under `interventions:`"
    return QueryError("intervene", found, "treated and untreated sections of one donor", mend)


def measured_genes(model: TissueModel, level: str, genes: Sequence[str] | None, modality: str) -> list[str]:
    """Return `genes`, or markers, each once, or all that were measured at `level`; a `QueryError` if one was not."""
    panels = model.plan.panels.get(level, {})
    if modality not in panels:
        where, said = f"expression at {level}", "RNA" if modality == names.RNA else modality
        measured = [v for v, by in model.plan.panels.items() if modality in by]
        if not measured:
            there = sorted({one for by in model.plan.panels.values() for one in by}) or ["nothing"]
            found = f"no {said} was measured at any level of this tissue"
            raise QueryError(where, found, mend=f"{', '.join(there)} can be asked")
        raise QueryError(
            where, f"no {said} was measured there", f"one of {', '.join(measured)}", f"ask at={measured[0]!r}"
        )
    panel = panels[modality]
    chosen = list(panel) if genes is None else list(dict.fromkeys(genes))
    for gene in chosen:
        if gene not in panel:
            molecule = names.MOLECULE_OF.get(modality, "marker")
            raise unknown_name(QueryError, f"expression at {level}", f"measured {molecule}", gene, panel)
    return chosen


def expression_table(
    model: TissueModel,
    graph: TissueGraph,
    level: str,
    genes: list[str],
    niche: pd.Series | None,
    modality: str,
    shared: SharedMolecules | None = None,
) -> Any:
    """Return expected expression a node (AnnData) or, where `niche` is given, a niche and gene (table).

    A node of which nothing is known, neither by itself nor by others around, above or beneath it, has no expectation:
    NaN. Of genes that its section did not measure, and of nodes not counted that were told by those beneath or above
    them, ``layers["lower"]`` and ``["upper"]`` hold the 95 % interval; see `factor_between`, `told_between`.

    Parameters
    ----------
    shared
        What sections that measured a part of the panel are told beyond their states.
    """
    panel = list(model.plan.panels[level][modality])
    columns = [panel.index(g) for g in genes]
    expected = np.zeros((graph[level].num_nodes, len(genes)), np.float32)
    factors = np.full((2, *expected.shape), np.nan, np.float32)
    for inputs, state, core, rows in run_windows(model, graph, question=EXPRESSION):
        with torch.no_grad():
            shares = model.expression(state, inputs, level, modality)
            shares = shares if shared is None else shared.told(shares, inputs.measured(level, modality))
            known = (state.known[level] > 0) | model.spoken_of(state, inputs, level, modality)
            shares = shares.where(known[:, None], torch.nan)[core[level]]
        here = rows[level][core[level]].numpy()
        expected[here] = shares[:, columns].numpy()
        factors[:, here] = told_between(model, state, inputs, level, modality)[:, core[level].numpy()][:, :, columns]
        around = factor_between(model.part("measurement", level, modality), inputs.measured(level, modality), graph)
        if around is not None:
            own = around[core[level].numpy()][:, columns]
            factors[:, here] = np.where(np.isnan(own), factors[:, here], [1 / own, own])
    per, unit = (PER, f"counts per {PER:,.0f}") if modality in names.MOLECULE_OF else (1.0, INTENSITIES)
    expected *= per
    measured = _measured(graph, level, columns, modality)
    if niche is not None:
        told = _by_niche(graph, level, genes, _averaged(graph, level, columns, modality), expected, measured, niche)
        return told.assign(unit=unit)
    answer = ad.AnnData(
        X=expected,
        obs=node_table(graph, level).assign(supported=counted_nodes(model, graph, level)),
        var=pd.DataFrame({"measured": np.isfinite(measured).any(axis=0)}, index=genes),
        layers={"measured": measured},
    )
    if np.isfinite(factors).any():
        answer.layers["lower"], answer.layers["upper"] = expected * factors
    answer.obsm["spatial"] = graph[level].pos.numpy()
    of = " of the measured panel" if modality in names.MOLECULE_OF else ""
    answer.uns["units"] = {"X": f"expected {unit}{of}", "spatial": "µm"}
    return answer


def _measured(graph: TissueGraph, level: str, columns: list[int], modality: str) -> np.ndarray:
    counts = raw_values(graph, level, modality)
    if modality not in names.MOLECULE_OF:
        values = counts[:, columns].astype(np.float32)
        values[~graph[level][names.mask_name(modality)].numpy()] = np.nan
        return np.asarray(values)
    panel, section = panel_columns(graph, level, modality).numpy(), graph[level].section_index.numpy()
    depth, covered = np.asarray(counts.sum(axis=1)), measured_share(graph, level, modality)[section]
    values = counts[:, columns].toarray() / np.maximum(depth, 1) * (PER * covered[:, None])
    there = measured_molecules(graph, level, modality).numpy()[:, panel[columns]]
    values[~graph[level][names.mask_name(modality)].numpy()] = np.nan
    values[~there[section]] = np.nan
    return values.astype(np.float32)


@dataclass(frozen=True)
class Averaged:
    """How values are averaged: what as, the way back, and the bounds of a mean that is as far off as `wide` says."""

    into: Function
    out_of: Function
    bounds: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def _averaged(graph: TissueGraph, level: str, columns: list[int], modality: str) -> Averaged:
    """Return how a modality is averaged: counts as they are, intensities as arcsinh, which few cells do not rule."""
    if modality in names.MOLECULE_OF:
        return Averaged(lambda values: values, lambda values: values, _by_a_factor)
    cofactor = np.asarray(depth_of(graph, level, modality))[columns]

    def out_of(terms: np.ndarray) -> np.ndarray:
        return np.asarray(np.sinh(terms) * cofactor)

    return Averaged(
        lambda values: np.arcsinh(values / cofactor),
        out_of,
        lambda middle, wide: (out_of(middle - wide), out_of(middle + wide)),
    )


def _by_a_factor(middle: np.ndarray, wide: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return bounds above zero of means above zero: by their logarithms, whose error is that share of the mean."""
    factor = np.exp(wide / np.maximum(middle, 1e-12))
    return middle / factor, middle * factor


def _by_niche(
    graph: TissueGraph,
    level: str,
    genes: list[str],
    averaged: Averaged,
    expected: np.ndarray,
    measured: np.ndarray,
    niche: pd.Series,
) -> pd.DataFrame:
    """Mean a niche and gene, with an interval over sections, or over regions where sections are few."""
    expected, measured = averaged.into(expected.astype(np.float64)), averaged.into(measured)
    many = graph[names.SECTION].num_nodes >= MIN_UNITS
    place = graph[level].section_index.numpy() if many else graph[level].region_index.numpy()
    rows = []
    for name in niche.cat.categories:
        inside = (niche == name).to_numpy()
        if not inside.any():
            continue
        middle, (wide, n_units) = expected[inside].mean(axis=0), _half_width(expected[inside], place[inside])
        low, high = averaged.bounds(middle, wide)
        table = pd.DataFrame(
            {
                "niche": name,
                "gene": genes,
                "expected": averaged.out_of(middle),
                "lower": low,
                "upper": high,
                "measured": averaged.out_of(_mean_known(measured[inside])),
                "n_nodes": int(inside.sum()),
                "n_units": n_units,
                "interval_over": names.SECTION if many else names.REGION,
            }
        )
        rows.append(table)
    told = pd.concat(rows, ignore_index=True)
    if bare := list(told.loc[told["n_units"] < MIN_UNITS, "niche"].unique()):
        kind = told["interval_over"].iloc[0]
        log.warning("no interval of niche %s: fewer than %d %ss hold it", ", ".join(map(str, bare)), MIN_UNITS, kind)
    return told


def _mean_known(values: np.ndarray) -> np.ndarray:
    """Return the mean of what is not NaN of each gene (gene,); NaN where nothing is."""
    known = np.isfinite(values)
    number = known.sum(axis=0)
    return np.where(number > 0, np.where(known, values, 0).sum(axis=0) / np.maximum(number, 1), np.nan)


def _half_width(values: np.ndarray, unit: np.ndarray) -> tuple[np.ndarray, int]:
    r"""Return half the width of the 95 % interval of the mean over nodes (gene,), and of how many units it is.

    Of nodes v in n units u: :math:`t_{n-1} \sqrt{\tfrac{n}{n-1} \sum_u (\sum_{v \in u} x_v - \bar x)^2} / N`. Few units
    resampled would be covered by intervals of 95 % four times out of five. NaN where there are fewer than five.

    References
    ----------
    Cochran 1977, Sampling Techniques, section 9A (a mean over clusters of unequal size).
    """
    units, place = np.unique(unit, return_inverse=True)
    n = len(units)
    if n < MIN_UNITS:
        return np.full(values.shape[1], np.nan), n
    sums = np.zeros((n, values.shape[1]))
    np.add.at(sums, place, values - values.mean(axis=0))
    error = np.sqrt(n / (n - 1) * (sums**2).sum(axis=0)) / len(values)
    return np.asarray(special.stdtrit(n - 1, 0.5 + CONFIDENCE / 2) * error), n


def composition_table(obs: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return shares (rows of `by`, columns labels) among labelled nodes, with how many nodes each row has.

    Of labels ``n_labelled`` says how many of the ``n_nodes`` bear one; a row of which none does has no shares.
    """
    column = names.LABEL if names.LABEL in obs and by != names.LABEL else "section" if by != "section" else "niche"
    n_nodes = obs.groupby(by, observed=True).size()
    labelled = obs[obs[column].notna()]
    table = pd.crosstab(labelled[by], labelled[column].astype(str)).reindex(n_nodes.index, fill_value=0)
    n_labelled = table.sum(axis=1)
    shares = table.div(n_labelled.where(n_labelled > 0), axis=0)
    if column == names.LABEL:
        shares.insert(0, "n_labelled", n_labelled)
    shares.insert(0, "n_nodes", n_nodes)
    return shares.reset_index()


def contact_table(adjacency: sparse.csr_matrix | None, niche: np.ndarray, k: int) -> pd.DataFrame:
    """Return contacts between `k` niches beside the number expected from their degrees; one row an unordered pair.

    A contact is a pair of nodes of which at least one has the other among its neighbours, counted once; a node of
    `niche` −1 belongs to none and touches nothing.
    """
    known = np.flatnonzero(niche >= 0)
    onehot = sparse.csr_matrix((np.ones(len(known)), (known, niche[known])), shape=(len(niche), k))
    touching = np.zeros((k, k))
    if adjacency is not None:
        either = (adjacency != 0).astype(np.int8)
        touching = (onehot.T @ either.maximum(either.T) @ onehot).toarray()
    degree = touching.sum(axis=1)
    a, b = np.triu_indices(k)
    twice = np.where(a == b, 2.0, 1.0)  # both ends of a contact inside a niche lie in the same row
    contacts = touching[a, b] / twice
    expected = degree[a] * degree[b] / max(degree.sum(), 1.0) / twice
    ratio = np.log2((contacts + 0.5) / (expected + 0.5))
    return pd.DataFrame(
        {
            "niche_a": (a + 1).astype(str),
            "niche_b": (b + 1).astype(str),
            "contacts": contacts.astype(int),
            "expected": expected,
            "log2_ratio": ratio,
        }
    )


def contact_graph(sizes: pd.Series, contacts: pd.DataFrame) -> nx.Graph:
    """Return the graph of niches and their `sizes` (niche,), with an edge a row of `contacts` (see `contact_table`)."""
    import networkx as nx

    graph: nx.Graph = nx.Graph()
    for niche, n in sizes.items():
        graph.add_node(niche, nodes=int(n))
    for a, b, n, ratio in contacts[["niche_a", "niche_b", "contacts", "log2_ratio"]].to_numpy():
        graph.add_edge(a, b, weight=float(n), log2_ratio=float(ratio))
    return graph
