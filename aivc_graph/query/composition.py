"""What patches are made of: predicted shares of cell types beside those of the cells measured beneath."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import QueryError
from aivc_graph.graph.panels import type_shares, types_of
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.query.states import run_windows

Floats = NDArray[np.float64]
IDENTITY = ("section", names.BARCODE, "x_um", "y_um", "niche")


def predicted_shares(model: TissueModel, graph: TissueGraph, child: str, parent: str) -> Floats:
    """Return the predicted share of each type (parent, type); rows of zeros where nothing is known."""
    shares = np.zeros((int(graph[parent].num_nodes), len(model.plan.compositions[child, parent])))
    for inputs, state, core, rows in run_windows(model, graph):
        with torch.no_grad():
            found = model.composition(state, inputs, child, parent)[core[parent]]
        shares[rows[parent][core[parent]].numpy()] = found.numpy()
    return shares


def measured_shares(model: TissueModel, graph: TissueGraph, child: str, parent: str) -> Floats:
    """Return the overlap-weighted share of each type among labelled cells beneath (parent, type), zero without any."""
    types = model.plan.compositions[child, parent]
    overlap = to_scipy_csr(graph[child, names.WITHIN, parent].adj_t)
    return type_shares(overlap, types_of(graph, child, types), len(types))


def predicted_composition(
    model: TissueModel, graph: TissueGraph, child: str, parent: str, obs: pd.DataFrame, by: str | None
) -> pd.DataFrame:
    """Return predicted and measured shares, a row a node of `parent`, or the means a row of `by`."""
    types = list(model.plan.compositions[child, parent])
    shares = [predicted_shares(model, graph, child, parent), measured_shares(model, graph, child, parent)]
    columns = [types, [f"measured_{name}" for name in types]]
    tables = [
        pd.DataFrame(np.where(part.sum(axis=1, keepdims=True) > 0, part, np.nan), obs.index, names_)
        for part, names_ in zip(shares, columns, strict=True)
    ]
    table = pd.concat(tables, axis=1)
    return _told(table, obs, by)


def composition_beneath(
    beneath: pd.DataFrame, weight: sparse.csr_matrix, obs: pd.DataFrame, by: str | None, level: str
) -> pd.DataFrame:
    """Return the shares of each label among the labelled nodes beneath, a row a place, or the means a row of `by`.

    Parameters
    ----------
    beneath
        Annotation of the nodes, with a label of each, missing where it has none.
    weight
        ``(place, node)``: how much of each node lies in each place; a place without a labelled node has no shares.
    obs
        Annotation of the places.
    level
        What the places are.

    Raises
    ------
    QueryError
        If the nodes bear no labels.
    """
    if names.LABEL not in beneath:
        mend = f"ask for the niches at {level}: each row has the shares of the niches there"
        raise QueryError(f"composition at {level}", "no label, nor beneath it", "labelled nodes", mend)
    kinds = pd.Categorical(beneath[names.LABEL])
    known = np.flatnonzero(kinds.codes >= 0)
    shape = (len(beneath), len(kinds.categories))
    sums = (weight @ sparse.csr_matrix((np.ones(len(known)), (known, kinds.codes[known])), shape)).toarray()
    total = sums.sum(axis=1, keepdims=True)
    shares = np.where(total > 0, sums / np.maximum(total, 1e-12), np.nan)
    return _told(pd.DataFrame(shares, obs.index, [str(kind) for kind in kinds.categories]), obs, by)


def _told(table: pd.DataFrame, obs: pd.DataFrame, by: str | None) -> pd.DataFrame:
    if by is None:
        first, last = ([c for c in columns if c in obs] for columns in (IDENTITY, ("supported",)))
        return pd.concat([obs[first], table, obs[last]], axis=1).reset_index(drop=True)
    grouped = table.groupby(obs[by], observed=True)
    means = grouped.mean()
    means.insert(0, "n_nodes", grouped.size())
    return means.reset_index()
