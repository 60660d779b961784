"""GraphML for networkx, Gephi and Cytoscape: every node of tissue, every near and within edge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd

from aivc_graph import names
from aivc_graph.io.graph_tables import annotation, csr_of
from aivc_graph.io.staging import staged
from aivc_graph.io.writing import WRITERS


@WRITERS.register("graphml")
def write_graphml(graph: Any, path: Path) -> Path:
    """Write a tissue graph to the file `path` (``.graphml`` is added where no ending is given).

    Nodes are ``<level>:<identifier>`` with their level, position [µm] and every column of their ``obs``; edges run
    from source to target with ``relation`` (near, within), ``weight`` and, where known, ``distance_um``. Molecules and
    counts are left out: they are matrices, not networks.

    Raises
    ------
    StoreError
        If the disk refuses; what was there before is intact.

    Examples
    --------
    >>> write_graphml(graph, Path("out.graphml"))  # doctest: +SKIP
    """
    target = path if path.suffix else path.with_suffix(".graphml")
    network: nx.DiGraph = nx.DiGraph()
    for level in graph.levels:
        _add_nodes(network, level, annotation(graph, level), graph[level].pos.numpy())
    _add_nodes(network, names.SECTION, graph[names.SECTION].obs, None)
    for source, relation, destination in graph.edge_types:
        if relation in (names.NEAR, names.WITHIN):
            _add_edges(network, graph, (source, relation, destination))
    with staged(target) as beside:
        nx.write_graphml(network, beside)
    return target


def _node(level: str, identifier: Any) -> str:
    return _text(f"{level}:{identifier}")


def _add_nodes(network: Any, level: str, obs: pd.DataFrame, pos: np.ndarray | None) -> None:
    columns = [_text(str(column)) for column in obs.columns]
    for number, (identifier, values) in enumerate(zip(obs.index, obs.itertuples(index=False, name=None), strict=True)):
        facts = {column: _plain(value) for column, value in zip(columns, values, strict=True) if not _missing(value)}
        if pos is not None:
            facts |= {"x_um": float(pos[number, 0]), "y_um": float(pos[number, 1])}
        network.add_node(_node(level, identifier), **{**facts, "level": level})


def _add_edges(network: Any, graph: Any, relation: tuple[str, str, str]) -> None:
    source, name, target = relation
    store = graph[relation]
    edges = csr_of(store.adj_t).tocoo()
    sources = [_node(source, identifier) for identifier in graph[source].obs.index]
    targets = [_node(target, identifier) for identifier in graph[target].obs.index]
    distances = store.distance_um.numpy() if "distance_um" in store else None
    for number, (row, column, weight) in enumerate(zip(edges.row, edges.col, edges.data, strict=True)):
        facts = {} if distances is None else {"distance_um": float(distances[number])}
        network.add_edge(sources[column], targets[row], relation=name, weight=float(weight), **facts)


def _missing(value: Any) -> bool:
    return value is None or bool(pd.isna(value))


def _plain(value: Any) -> str | int | float | bool:
    """Return a value GraphML has a type for."""
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, (bool, int, float)) else _text(str(value))


def _text(text: str) -> str:
    """Drop the control characters that XML cannot hold."""
    return "".join(c for c in text if c >= " " or c in "\t\n\r")
