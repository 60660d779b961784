"""Screens as graphs of cells without positions, laid out as the builder lays them out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from aivc_graph import names
from aivc_graph.graph.screens import LOG_EXPRESSION
from aivc_graph.graph.tissue_graph import TissueGraph, to_torch_csr
from aivc_graph.tissue.conditions import parts_of


def screen_graph(
    values: np.ndarray,
    genes: Sequence[str],
    condition: Sequence[str],
    context: Sequence[str],
    split: Sequence[str],
    *,
    modality: str = LOG_EXPRESSION,
    dose: np.ndarray | None = None,
    hours: float = 24.0,
) -> TissueGraph:
    """Return a section a context, its cells with what was done to them; `dose` (cell,) of all parts if given."""
    graph, n = TissueGraph(), len(values)
    sections, code = np.unique(np.asarray(context), return_inverse=True)
    graph[names.SECTION].obs = pd.DataFrame({"context": sections}, index=[f"section of {one}" for one in sections])
    graph[names.SECTION].num_nodes = len(sections)
    cells = graph[names.CELL]
    cells.obs = pd.DataFrame({"condition": list(condition)}, index=[f"c{i}" for i in range(n)])
    cells.num_nodes = n
    cells.pos = torch.full((n, 2), torch.nan)
    cells.section_index = torch.from_numpy(code.reshape(-1).astype(np.int64))
    cells.split = torch.tensor([names.SPLITS.index(one) for one in split], dtype=torch.int8)
    cells[names.mask_name(modality)] = torch.ones(n, dtype=torch.bool)
    if modality == names.RNA:
        graph[names.GENE].obs = pd.DataFrame(index=pd.Index(list(genes), name="symbol"))
        graph[names.GENE].num_nodes = len(genes)
        graph[names.GENE, names.OBSERVED_IN, names.CELL].adj_t = to_torch_csr(sparse.csr_matrix(values))
        cells.rna_panel = torch.ones(len(genes), dtype=torch.bool)
    else:
        cells[modality] = torch.from_numpy(np.asarray(values, np.float32))
        cells[f"{modality}_names"] = list(genes)
    if dose is not None:
        _apply(graph, condition, dose, hours)
    return graph


def _apply(graph: TissueGraph, condition: Sequence[str], dose: np.ndarray, hours: float) -> None:
    done = [parts_of(one) for one in condition]
    keys = sorted({f"drug:{part}" for parts in done for part in parts})
    graph[names.INTERVENTION].obs = pd.DataFrame(index=keys)
    graph[names.INTERVENTION].num_nodes = len(keys)
    edges = [(i, keys.index(f"drug:{part}"), dose[i]) for i, parts in enumerate(done) for part in parts]
    row, column, weight = (np.array(one) for one in zip(*edges, strict=True))
    shape = (len(done), len(keys))
    relation = graph[names.INTERVENTION, names.APPLIED_TO, names.CELL]
    relation.adj_t = to_torch_csr(sparse.csr_matrix((weight, (row, column)), shape=shape))
    relation.dose = torch.from_numpy(weight.astype(np.float32))
    relation.hours = torch.full((len(edges),), hours)
    relation.onset_hours = torch.zeros(len(edges))
