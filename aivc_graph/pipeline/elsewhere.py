"""The graph of tissue that a run was not trained on, built as the run's own graph was."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aivc_graph.config import Config, load_config
from aivc_graph.errors import ConfigError, ReadError
from aivc_graph.graph.build import GraphConfig
from aivc_graph.graph.store import store_facts
from aivc_graph.io.cache_folder import cache_folder
from aivc_graph.io.embeddings import EmbeddingTable
from aivc_graph.pipeline.build import EVERYTHING, build, input_files

log = logging.getLogger(__name__)
STORE = "zarr.json"
# What a graph is laid by; which genes it has is the run's to say.
LAID_BY = tuple(
    name for name in GraphConfig.model_fields if name not in ("genes", "orthologs", "n_genes", "keep_genes")
)


@contextmanager
def graph_elsewhere(run: Path, on: Path) -> Iterator[Path]:
    """Yield the graph store of other tissue: that at `on`, or one built from the configuration at `on`.

    It is built with the graph settings and the features of the run, all genes that were measured, and no split, since
    none of it is for training; what is known of genes is what the run knew. It lies in the user's cache folder, under
    what it was built from, and is found there when the next question is put; where that folder cannot be written it is
    built for this question alone.

    Raises
    ------
    ConfigError
        If a graph store was laid by other settings than the run's graph.
    ReadError
        If there is neither a graph store nor a configuration.
    """
    own = load_config(run / "config.yaml")
    if not on.exists():
        raise ReadError(str(on), "no such graph store or configuration", mend="check the path given by --on")
    if on.is_dir():
        _check_laid_alike(on, own)
        yield on
        return
    given = load_config(on)
    # An encoder goes along; embeddings computed elsewhere are of the tissue that they were computed from.
    features = given.task.features if isinstance(own.task.features, EmbeddingTable) else own.task.features
    task = given.task.model_copy(update={"split": dict(EVERYTHING), "features": features, "priors": ()})
    graph = own.graph.model_copy(update={"genes": "union", "n_genes": None, "keep_genes": ()})
    config = given.model_copy(update={"task": task, "graph": graph, "model": own.model})
    cache = cache_folder()
    if cache is None:
        with tempfile.TemporaryDirectory() as folder:
            yield build(config, Path(folder) / "graph.zarr")
        return
    store = cache / "graphs" / f"{_built_from(config)}.zarr"
    if not (store / STORE).exists():
        store.parent.mkdir(exist_ok=True)
        build(config, store)
    log.info("%s lies in %s", given.task.name, store)
    yield store


def _check_laid_alike(store: Path, own: Config) -> None:
    laid: dict[str, Any] = store_facts(store)["provenance"].get("configuration", {}).get("graph", {})
    settings = own.graph.model_dump(mode="json")
    other = [name for name in LAID_BY if name in laid and laid[name] != settings[name]]
    if other:
        shown = "; ".join(f"graph.{name} = {laid[name]!r}" for name in other)
        expected = "; ".join(f"{settings[name]!r}" for name in other)
        raise ConfigError(str(store), shown, f"{expected}, as of the run's graph", "give its YAML file to --on instead")


def _built_from(config: Config) -> str:
    """Return a name for the graph of a configuration: another where a setting, or the size or time of a file, is."""
    settings = config.model_dump(mode="json", include={"task": True, "graph": True})
    files = [(str(file), (facts := file.stat()).st_size, facts.st_mtime_ns) for _, file in input_files(config)]
    return hashlib.sha256(json.dumps([settings, files], sort_keys=True).encode()).hexdigest()[:20]
