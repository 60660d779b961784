"""GraphML for networkx, Gephi and Cytoscape: every node of tissue, every near and within edge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import pandas as pd

from aivc_graph import names
from aivc_graph.atomic import staged
from aivc_graph.io.graph_tables import annotation, csr_of
from aivc_graph.io.writing import WRITERS

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<graphml xmlns="http://graphml.graphdrawing.org/xmlns">\n'
_EDGE_KEYS = {"relation": "string", "weight": "double", "distance_um": "double"}
# What XML 1.0 cannot hold, whatever its escape.
_UNWRITABLE = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF])


@WRITERS.register("graphml", endings=(".graphml",))
def write_graphml(graph: Any, path: Path) -> Path:
    """Write a tissue graph to the file `path` (``.graphml`` is added where no ending is given).

    Nodes are ``<level>:<identifier>`` with their level, position [µm] and every column of their ``obs``; edges run
    from source to target with ``relation`` (near, within, targets, applied_to), ``weight`` and, where known,
    ``distance_um``. Molecules and interventions are nodes too; counts are left out: they are matrices, not networks.
    Written as a stream, so that a graph of a million edges needs
    no second copy in memory; `networkx.read_graphml` reads it.

    Raises
    ------
    StoreError
        If the disk refuses; what was there before is intact.

    Examples
    --------
    >>> file = write_graphml(graph, Path("out.graphml"))
    """
    target = path if path.suffix else path.with_suffix(".graphml")
    others = [kind for kind in (*names.MOLECULES, names.INTERVENTION) if kind in graph.node_types]
    tables = {level: _table(graph, level) for level in (*graph.levels, names.SECTION, *others)}
    kinds = _column_kinds(tables)
    columns = {column: f"d{i}" for i, column in enumerate(kinds)}
    with staged(target) as beside, beside.open("w", encoding="utf-8") as out:
        out.write(_HEAD)
        for column, kind in kinds.items():
            out.write(_key(columns[column], "node", column, kind))
        for name, kind in _EDGE_KEYS.items():
            out.write(_key(name, "edge", name, kind))
        out.write('<graph edgedefault="directed">\n')
        for level, table in tables.items():
            out.writelines(_nodes(level, table, columns))
        for relation in graph.edge_types:
            if relation[1] != names.OBSERVED_IN:
                _write_edges(out, graph, relation)
        out.write("</graph>\n</graphml>\n")
    return target


def _table(graph: Any, level: str) -> pd.DataFrame:
    """Return what each node of a level says about itself."""
    if level not in graph.levels:
        return graph[level].obs.assign(level=level)
    x, y = graph[level].pos.numpy().astype(np.float64).T
    return annotation(graph, level).assign(level=level, x_um=x, y_um=y)


def _column_kinds(tables: dict[str, pd.DataFrame]) -> dict[str, str]:
    """Return GraphML's type of each column; one that differs between levels is a number if it can be, else text."""
    kinds: dict[str, str] = {}
    for table in tables.values():
        for column, dtype in table.dtypes.items():
            kind = {"b": "boolean", "i": "long", "u": "long", "f": "double"}.get(getattr(dtype, "kind", "O"), "string")
            earlier = kinds.setdefault(str(column), kind)
            if earlier != kind:
                kinds[str(column)] = "double" if {earlier, kind} == {"long", "double"} else "string"
    return kinds


def _key(identifier: str, holder: str, name: str, kind: str) -> str:
    return f'<key id="{identifier}" for="{holder}" attr.name={_attribute(name)} attr.type="{kind}"/>\n'


def _nodes(level: str, table: pd.DataFrame, columns: dict[str, str]) -> Iterator[str]:
    keys = [columns[str(column)] for column in table.columns]
    known = table.notna().to_numpy()
    rows = table.itertuples(index=False, name=None)
    for identifier, values, there in zip(table.index, rows, known, strict=True):
        told = zip(keys, values, there, strict=True)
        data = "".join(f'<data key="{key}">{_text(value)}</data>' for key, value, present in told if present)
        yield f"<node id={_node(level, identifier)}>{data}</node>\n"


def _write_edges(out: IO[str], graph: Any, relation: tuple[str, str, str]) -> None:
    source, name, target = relation
    edges = csr_of(graph[relation].adj_t).tocoo()
    sources = np.array([_node(source, identifier) for identifier in graph[source].obs.index], dtype=object)
    targets = np.array([_node(target, identifier) for identifier in graph[target].obs.index], dtype=object)
    lengths = graph[relation].get("distance_um")
    measured = (
        [""] * edges.nnz if lengths is None else [f'<data key="distance_um">{d:.7g}</data>' for d in lengths.tolist()]
    )
    ends = zip(sources[edges.col], targets[edges.row], edges.data.tolist(), measured, strict=True)
    for start, end, weight, length in ends:
        facts = f'<data key="relation">{name}</data><data key="weight">{weight:.7g}</data>{length}'
        out.write(f"<edge source={start} target={end}>{facts}</edge>\n")


def _node(level: str, identifier: Any) -> str:
    return _attribute(f"{level}:{identifier}")


def _attribute(text: str) -> str:
    return quoteattr(text.translate(_UNWRITABLE))


def _text(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    return escape(str(value.item() if isinstance(value, np.generic) else value).translate(_UNWRITABLE))
