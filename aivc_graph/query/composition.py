"""What patches are made of: predicted shares of cell types beside those of the cells measured beneath."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.model.plan import type_shares, types_of
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.query.states import run_windows

Floats = NDArray[np.float64]
IDENTITY = ("section", names.BARCODE, "x_um", "y_um", "niche")


def predicted_shares(model: TissueModel, graph: TissueGraph, child: str, parent: str) -> Floats:
    """Return the predicted share of each type (parent, type); rows of zeros where nothing is known."""
    shares = np.zeros((int(graph[parent].num_nodes), len(model.plan.labels[child])))
    for inputs, state, core, rows in run_windows(model, graph):
        with torch.no_grad():
            found = model.composition(state, inputs, child, parent)[core[parent]]
        shares[rows[parent][core[parent]].numpy()] = found.numpy()
    return shares


def measured_shares(model: TissueModel, graph: TissueGraph, child: str, parent: str) -> Floats:
    """Return the overlap-weighted share of each type among labelled cells beneath (parent, type), zero without any."""
    types = model.plan.labels[child]
    overlap = to_scipy_csr(graph[child, names.WITHIN, parent].adj_t)
    return type_shares(overlap, types_of(graph, child, types), len(types))


def predicted_composition(
    model: TissueModel, graph: TissueGraph, child: str, parent: str, obs: pd.DataFrame, by: str | None
) -> pd.DataFrame:
    """Return predicted and measured shares, a row a node of `parent`, or the means a row of `by`."""
    types = list(model.plan.labels[child])
    shares = [predicted_shares(model, graph, child, parent), measured_shares(model, graph, child, parent)]
    columns = [types, [f"measured_{name}" for name in types]]
    tables = [
        pd.DataFrame(np.where(part.sum(axis=1, keepdims=True) > 0, part, np.nan), obs.index, names_)
        for part, names_ in zip(shares, columns, strict=True)
    ]
    table = pd.concat(tables, axis=1)
    if by is None:
        return pd.concat([obs[[c for c in IDENTITY if c in obs]], table], axis=1).reset_index(drop=True)
    grouped = table.groupby(obs[by if by in obs else "section"], observed=True)
    means = grouped.mean()
    means.insert(0, "n_nodes", grouped.size())
    return means.reset_index()
