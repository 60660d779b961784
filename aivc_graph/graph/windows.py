"""Windows: a contiguous core of tissue with the exact halo its messages need.

Losses count only the core, so training window by window equals training on the whole graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aivc_graph import names
from aivc_graph.errors import GraphError
from aivc_graph.graph.fields import csr_tensor, edge_fields, row_fields
from aivc_graph.graph.tissue_graph import Relation, TissueGraph, to_scipy_csr

Step = tuple[Relation, bool]
Rows = NDArray[np.int64]


class RowSource(Protocol):
    """A graph whose structure is resident and whose observations are read by rows, such as a `GraphStore`."""

    structure: TissueGraph

    def observe(self, level: str, rows: Rows) -> tuple[dict[str, Tensor], dict[Relation, Tensor]]:
        """Return dense observations and count relations of the nodes at `rows` (sorted)."""


@dataclass(frozen=True)
class Window:
    """A piece of a graph that stands alone.

    Parameters
    ----------
    graph
        Local graph: core and halo of each level in storage order; molecules, sections and interventions whole.
    core
        Level → who belongs to the core, boolean (node,).
    rows
        Level → row of each local node in the whole graph, ascending (node,).
    """

    graph: TissueGraph
    core: dict[str, Tensor]
    rows: dict[str, Tensor]

    @property
    def halo_share(self) -> float:
        """Halo nodes over core nodes, all levels together."""
        core = sum(int(c.count_nonzero()) for c in self.core.values())
        return sum(len(r) for r in self.rows.values()) / max(core, 1) - 1.0


def receptive_field(graph: TissueGraph, core: Mapping[str, Rows], steps: Sequence[Step]) -> dict[str, Rows]:
    """Return the rows of each level that the core's states depend on; exact, no node too many for the given steps.

    Parameters
    ----------
    graph
        Graph, or its structure alone.
    core
        Level → rows asked for.
    steps
        Message passing of the model in its order, each ``(relation, reverse)``: messages go source → target, or
        target → source where `reverse` (a projection over a ``within`` relation). A lift to the section followed by
        a projection from it reaches the whole section. Observations are no steps: a node's own rows hold them.
    """
    rows = _closure(_reach(graph, steps), _sizes(graph), core, steps)
    return {level: rows[level] for level in graph.levels}


def window_cores(graph: TissueGraph, nodes_per_window: int) -> list[dict[str, slice]]:
    """Return the cores: runs of whole consecutive regions of at most `nodes_per_window` nodes, or one region.

    Raises
    ------
    GraphError
        If a level has no ``region_index``, or is not sorted by it.
    """
    index = {level: _region_index(graph, level) for level in graph.levels}
    n_regions = 1 + max((int(region[-1]) for region in index.values() if len(region)), default=-1)
    starts = {level: np.searchsorted(region, np.arange(n_regions + 1)) for level, region in index.items()}
    total = np.sum([*starts.values(), np.zeros(n_regions + 1, np.int64)], axis=0)
    cores, first = [], 0
    while first < n_regions:
        last = int(np.searchsorted(total, total[first] + nodes_per_window, side="right")) - 1
        last = min(max(last, first + 1), n_regions)
        cores.append({level: slice(int(s[first]), int(s[last])) for level, s in starts.items()})
        first = last
    return cores


def windows(
    source: TissueGraph | RowSource,
    steps: Sequence[Step],
    nodes_per_window: int,
    *,
    order: Iterable[int] | None = None,
) -> Iterator[Window]:
    """Cut a graph into windows; each node of a level is core exactly once.

    Parameters
    ----------
    source
        A graph in memory, or a store that reads rows on demand.
    steps
        Message passing of the model, as for `receptive_field`.
    nodes_per_window
        Most core nodes a window, all levels together; a region is never cut.
    order
        Which of `window_cores` to visit, in which order, such as a seeded permutation; None: all, in storage order.
    """
    graph = source.structure
    cores, reach = window_cores(graph, nodes_per_window), _reach(graph, steps)
    sizes = _sizes(graph)
    for number in range(len(cores)) if order is None else order:
        core = {level: np.arange(run.start, run.stop) for level, run in cores[number].items()}
        closure = _closure(reach, sizes, core, steps)
        rows = {level: closure[level] for level in graph.levels}
        local = cut(graph, rows)
        if not isinstance(source, TissueGraph):
            _observe(source, local, rows)
        inside = {
            level: (r >= cores[number][level].start) & (r < cores[number][level].stop) for level, r in rows.items()
        }
        core_masks = {level: torch.from_numpy(mask) for level, mask in inside.items()}
        yield Window(local, core_masks, {level: torch.from_numpy(r) for level, r in rows.items()})


def cut(graph: TissueGraph, rows: Mapping[str, Rows]) -> TissueGraph:
    """Return the subgraph of the levels' `rows` (sorted); node types that `rows` leaves out are kept whole."""
    local = TissueGraph()
    for node_type in graph.node_types:
        keep = rows.get(node_type)
        for key, value in graph[node_type].items():
            local[node_type][key] = value
        if keep is None:
            continue
        for key, value in row_fields(graph, node_type).items():
            local[node_type][key] = _take(value, keep)
        local[node_type].num_nodes = len(keep)
        if "obs" in graph[node_type]:
            local[node_type].obs = graph[node_type].obs.iloc[_as_slice(keep)]
    for relation in graph.edge_types:
        _cut_relation(graph, local, relation, rows.get(relation[0]), rows.get(relation[2]))
    return local


def _cut_relation(
    graph: TissueGraph, local: TissueGraph, relation: Relation, sources: Rows | None, targets: Rows | None
) -> None:
    adj_t = graph[relation].adj_t
    n_targets, n_sources = adj_t.shape
    pointer, columns = adj_t.crow_indices().numpy(), adj_t.col_indices().numpy()
    edges: Rows | slice = slice(None)
    if targets is not None:
        pointer, edges = _row_elements(pointer, targets)
        columns, n_targets = columns[edges], len(targets)
    if sources is not None:
        place = np.full(n_sources, -1, columns.dtype)
        place[sources] = np.arange(len(sources), dtype=columns.dtype)
        columns, n_sources = place[columns], len(sources)
        kept = columns >= 0
        if not kept.all():
            pointer = np.concatenate([[0], np.cumsum(kept)])[pointer]
            columns = columns[kept]
            edges = (np.arange(edges.start or 0, edges.stop or len(kept)) if isinstance(edges, slice) else edges)[kept]
    values = _take(adj_t.values(), edges).numpy()
    local[relation].adj_t = csr_tensor(pointer, columns, values, (n_targets, n_sources))
    for key, value in edge_fields(graph, relation).items():
        local[relation][key] = _take(value, edges)


def _observe(source: RowSource, local: TissueGraph, rows: Mapping[str, Rows]) -> None:
    for level, keep in rows.items():
        dense, counts = source.observe(level, keep)
        for key, value in dense.items():
            local[level][key] = value
        for relation, adj_t in counts.items():
            local[relation].adj_t = adj_t


def _closure(
    reach: dict[Step, Any], sizes: dict[str, int], core: Mapping[str, Rows], steps: Sequence[Step]
) -> dict[str, Rows]:
    """Walk the steps backwards; a relation is expanded once from each row, since what is needed only grows."""
    needed = {level: np.zeros(n, bool) for level, n in sizes.items()}
    for level, rows in core.items():
        needed[level][rows] = True
    rows_of = {level: np.flatnonzero(mask) for level, mask in needed.items()}
    expanded: dict[Step, NDArray[np.bool_]] = {}
    for step in reversed(steps):
        if step not in reach:
            continue
        heard, hearer = _ends(step)
        fresh = rows_of[hearer]
        if step in expanded:
            fresh = fresh[~expanded[step][fresh]]
        if not len(fresh):
            continue
        pointer, columns = reach[step]
        needed[heard][columns[_row_elements(pointer, fresh)[1]]] = True
        expanded.setdefault(step, np.zeros(sizes[hearer], bool))[fresh] = True
        rows_of[heard] = np.flatnonzero(needed[heard])
    return rows_of


def _reach(graph: TissueGraph, steps: Sequence[Step]) -> dict[Step, tuple[NDArray[Any], NDArray[Any]]]:
    """Return for each step the CSR pattern (hearer, heard)."""
    reach = {}
    for relation, reverse in dict.fromkeys(steps):
        if relation[1] == names.OBSERVED_IN:
            continue
        pattern = to_scipy_csr(graph.adjacency(*relation))
        if reverse:
            pattern = pattern.tocsc()
        reach[relation, reverse] = (pattern.indptr, pattern.indices)
    return reach


def _sizes(graph: TissueGraph) -> dict[str, int]:
    return {node_type: int(graph[node_type].num_nodes) for node_type in graph.node_types}


def _ends(step: Step) -> tuple[str, str]:
    """Return who is heard and who hears."""
    (source, _, target), reverse = step
    return (target, source) if reverse else (source, target)


def _row_elements(pointer: NDArray[Any], rows: Rows) -> tuple[NDArray[Any], Rows | slice]:
    """Return the row pointer of a CSR matrix cut to `rows`, and where its elements lie in the whole."""
    starts = pointer[rows].astype(np.int64)
    lengths = pointer[rows + 1] - starts
    local = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(lengths, out=local[1:])
    if isinstance(_as_slice(rows), slice):
        first = int(starts[0]) if len(rows) else 0
        return local, slice(first, first + int(local[-1]))
    return local, np.arange(local[-1]) + np.repeat(starts - local[:-1], lengths)


def _as_slice(rows: Rows) -> Rows | slice:
    """Return `rows` as a slice where they are one run: a view then takes the place of a copy."""
    if not len(rows):
        return slice(0, 0)
    first, last = int(rows[0]), int(rows[-1])
    return slice(first, last + 1) if last - first + 1 == len(rows) else rows


def _take(value: Tensor, rows: Rows | slice) -> Tensor:
    if not isinstance(rows, slice):
        rows = _as_slice(rows)
    # NumPy gathers several times faster than torch on one thread.
    return value[rows] if isinstance(rows, slice) else torch.from_numpy(np.take(value.numpy(), rows, axis=0))


def _region_index(graph: TissueGraph, level: str) -> Rows:
    if level == names.REGION and "region_index" not in graph[level]:
        return np.arange(graph[level].num_nodes)
    if "region_index" not in graph[level]:
        raise GraphError(f"{level}.region_index", "nothing", "the row of each node's region", "build the graph again")
    region = graph[level].region_index.numpy()
    if (np.diff(region) < 0).any():
        raise GraphError(
            f"{level}.region_index", "rows in another order", "rows sorted by region", "build the graph again"
        )
    return region
