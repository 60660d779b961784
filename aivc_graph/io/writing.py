"""The contract of a writer and the registry of writers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from aivc_graph.errors import ConfigError
from aivc_graph.io.staging import check_place
from aivc_graph.registry import Registry

# A writer takes (graph, path) and returns the path it wrote; a graph's node tables carry the predictions.
OTHER_ENDINGS = (".csv", ".parquet", ".png", ".pdf", ".svg", ".html", ".yaml")
WRITERS: Registry[Callable[[Any, Path], Path]] = Registry("writer", "aivc_graph.io.writers")


def check_export(path: Path, to: str) -> None:
    """Raise before anything is computed if `path` cannot be written, or is named like another format than `to`.

    A writer says by ``endings`` what a file of its format ends in; any other name is that of a folder.
    """
    WRITERS.get(to, where="--to")
    endings = {name: cast(tuple[str, ...], WRITERS.facts[name]["endings"]) for name in WRITERS}
    taken = {ending: name for name, own in endings.items() for ending in own} | dict.fromkeys(OTHER_ENDINGS, "")
    if taken.get(path.suffix, to) != to:
        mend = f"rename it, or set --to {taken[path.suffix]}" if taken[path.suffix] else "rename it"
        raise ConfigError(str(path), f"the ending {path.suffix!r}", f"{' or '.join(endings[to])}, or a folder", mend)
    check_place(path, folder=path.suffix not in taken or bool(WRITERS.facts[to].get("folder")))


def write(graph: Any, path: str | Path, to: str) -> Path:
    """Write a tissue graph to `path` in the format `to` (``h5ad``, ``spatialdata``, ``geojson``, ``graphml``)."""
    return WRITERS.get(to, where="--to")(graph, Path(path))
