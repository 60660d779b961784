"""AnnData files for scanpy and squidpy: one a level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aivc_graph.atomic import staged
from aivc_graph.errors import ConfigError
from aivc_graph.io.graph_tables import level_table
from aivc_graph.io.h5ad_file import write_anndata
from aivc_graph.io.writing import WRITERS


@WRITERS.register("h5ad", endings=(".h5ad",))
def write_h5ad(graph: Any, path: Path) -> Path:
    """Write each level of a tissue graph as ``<level>.h5ad`` into the folder `path`, or one level to a file.

    Parameters
    ----------
    path
        A folder; or a file whose name ends in ``<level>.h5ad``, such as ``patch.h5ad`` or ``run7.cell.h5ad``; any other
        ``.h5ad`` file takes the graph's only level.

    Raises
    ------
    ConfigError
        If a file is asked for, the graph has several levels, and the name says none of them.
    StoreError
        If the disk refuses; what was there before is intact.

    Examples
    --------
    >>> file = write_h5ad(graph, Path("patch.h5ad"))
    """
    if path.suffix != ".h5ad":
        with staged(path, drop=()) as folder:
            folder.mkdir()
            for level in graph.levels:
                _write_level(graph, level, folder / f"{level}.h5ad")
        return path
    named = path.stem.rsplit(".", 1)[-1]
    level = named if named in graph.levels or len(graph.levels) != 1 else graph.levels[0]
    if level not in graph.levels:
        choices = " or ".join(f"{level}.h5ad" for level in graph.levels)
        raise ConfigError(str(path), "a file for a graph of several levels", choices, "or give a folder")
    with staged(path) as beside:
        _write_level(graph, level, beside)
    return path


def _write_level(graph: Any, level: str, path: Path) -> None:
    write_anndata(level_table(graph, level), path, compression="gzip")
