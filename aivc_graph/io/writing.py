"""The contract of a writer and the registry of writers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from aivc_graph.registry import Registry, import_members

# A writer takes (graph, path) and returns the path it wrote; a graph's node tables carry the predictions.
WRITERS: Registry[Callable[[Any, Path], Path]] = Registry("writer")


def write(graph: Any, path: str | Path, to: str) -> Path:
    """Write a tissue graph to `path` in the format `to` (``h5ad``, ``spatialdata``, ``geojson``, ``graphml``)."""
    import_members("aivc_graph.io.writers")
    return WRITERS.get(to, where="--to")(graph, Path(path))
