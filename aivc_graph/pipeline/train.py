"""Graph → run folder."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from aivc_graph import names
from aivc_graph.atomic import write_whole
from aivc_graph.config import Config, dump_config
from aivc_graph.errors import ConfigError, ReadError, StoreError
from aivc_graph.graph.store import GraphStore, open_store, read_store, store_digest, store_facts, write_store
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.pipeline.build import RUNS, build, changed_inputs
from aivc_graph.plot.training_curve import training_curve
from aivc_graph.query.niche_file import niches_of_training, save_niches
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.training.fit import fit
from aivc_graph.training.run_folder import (
    CONFIG,
    FACTS,
    built_alike,
    check_replaced,
    check_resumed,
    held_out_words,
    run_facts,
    run_metrics,
    writing_run,
)

log = logging.getLogger(__name__)
LAZY_NODES = 400_000


@dataclass(frozen=True)
class Run:
    """A run folder, as an object.

    Examples
    --------
    >>> run = Run(Path("runs/demo"))
    >>> niches = run.tissue.niches()
    """

    folder: Path

    @property
    def metrics(self) -> pd.DataFrame:
        """Losses, one row an epoch."""
        return run_metrics(self.folder)

    def plot(self) -> Any:
        """Draw the loss in training and on what was held out against epochs; returns a matplotlib Axes."""
        metrics = self.metrics
        names_of = {"train_loss": names.TRAIN, "validation_loss": held_out_words(metrics["held_out"].iloc[0])}
        losses = metrics.rename(columns=names_of).melt("epoch", list(names_of.values()), "split").dropna()
        best = run_facts(self.folder / "training.json", ("best_epoch",))["best_epoch"]
        return training_curve(losses.assign(term="negative log-likelihood"), x="epoch", best=best)

    @property
    def tissue(self) -> VirtualTissue:
        """The trained tissue, ready for questions."""
        return VirtualTissue.load(self.folder)


def train(
    graph: TissueGraph | str | Path,
    config: Config | None = None,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
) -> Run:
    """Train on a graph and write the run folder.

    Parameters
    ----------
    graph
        A graph in memory, which is stored in the run folder, or the path of a graph store.
    out
        Run folder; ``runs/<task name>`` by default.
    resume
        Go on where a killed run stopped.
    overwrite
        Replace a finished run of other settings; one of the same is trained again in any case.
    device
        ``auto``, ``cpu`` or ``cuda``; overrides ``training.device`` unless ``auto``.
    """
    config = config or Config()

    def store_in(folder: Path, out: Path) -> Path:
        if not isinstance(graph, TissueGraph):
            return Path(graph)
        write_store(graph, folder / "graph.zarr", {"configuration": config.model_dump(mode="json")})
        return folder / "graph.zarr"

    return _train(store_in, config, out, resume=resume, overwrite=overwrite, device=device)


def train_config(
    config: Config, graph: Path | None, out: Path | None, *, resume: bool, device: str, overwrite: bool = False
) -> Run:
    """Train as a configuration says; its graph is built first where no store is given and the run has none like it."""

    def store_in(folder: Path, out: Path) -> Path:
        if graph is None:
            return _own_store(folder, out, config, resume=resume)
        _refuse_other_settings(graph, config)
        return graph

    return _train(store_in, config, out, resume=resume, overwrite=overwrite, device=device)


def _train(
    store_in: Callable[[Path, Path], Path],
    config: Config,
    out: str | Path | None,
    *,
    resume: bool,
    overwrite: bool,
    device: str,
) -> Run:
    """Train on the store that `store_in` gives for the folder to train in and the run folder it becomes."""
    out = Path(out) if out is not None else RUNS / config.task.name
    if not (resume or overwrite):
        check_replaced(out, config.model_dump(mode="json"))
    with writing_run(out, resume=resume) as folder:
        if resume:
            check_resumed(folder, config.model_dump(mode="json"))
        train_in(folder, out, store_in(folder, out), config, resume=resume, device=device)
    return Run(out)


def _refuse_other_settings(store: Path, config: Config) -> None:
    """Raise a `ConfigError` if the settings of the graph are not those that `store` was built from."""
    facts = store_facts(store).get("provenance", {}) if store.exists() else {}
    built = facts.get("configuration", {}).get("graph")
    asked = config.model_dump(mode="json")["graph"]
    other = [key for key in asked if built is not None and built.get(key, asked[key]) != asked[key]]
    if other:
        found = ", ".join(f"graph.{key} {asked[key]}" for key in other)
        expected = ", ".join(f"{built[key]}" for key in other)
        mend = "leave out --graph, and it is built so; or set it as the graph has it"
        raise ConfigError(str(store), found, f"{expected}, as it was built", mend)


def _own_store(folder: Path, out: Path, config: Config, *, resume: bool) -> Path:
    """Return the run's own graph store, built if there is none or it was built from other settings or files.

    Raises
    ------
    StoreError
        If a run is to be resumed whose files have changed since.
    """
    settings = config.model_dump(mode="json")
    stores = [place / "graph.zarr" for place in dict.fromkeys((folder, out))]
    for store in stores:
        if store.exists() and built_alike(store, settings):
            if not (changed := ", ".join(changed_inputs(config, store)[:3])):
                return store
            if resume:
                mend = "put them back, or train anew without --resume"
                raise StoreError(str(store), f"files that have changed since: {changed}", "those it is of", mend)
            log.warning("%s has changed since %s was built: building anew", changed, store)
    if stores[-1].exists() and not built_alike(stores[-1], settings):
        log.warning("%s was built from other settings: building anew", stores[-1])
    return build(config, stores[0])


def train_in(folder: Path, out: Path, store: Path, config: Config, *, resume: bool, device: str) -> None:
    """Train on `store` in `folder`, whose content will then lie in `out`."""
    if not store.exists():
        raise ReadError(str(store), "no such graph store", mend=f"build it: aivc build CONFIG --out {store}")
    training = config.training if device == "auto" else config.training.model_copy(update={"device": device})
    write_whole(folder / CONFIG, dump_config(config.model_copy(update={"training": training})))
    bar = _Bar(training.epochs)
    graph = _open(store)
    try:
        model = fit(graph, config.model, training, folder, resume=resume, report=bar.show)
    finally:
        bar.close()  # an error is then said on a line of its own
    diagnostics = run_facts(folder / "training.json", ("diagnostics",))["diagnostics"]
    save_niches(niches_of_training(model.cpu(), graph, diagnostics, training.seed), folder)
    place = store.name if store.parent == folder else os.path.relpath(store, out)
    facts = {"graph": place, "graph_digest": store_digest(store), "seed": training.seed, "task": config.task.name}
    write_whole(folder / FACTS, json.dumps(facts, indent=1) + "\n")


def _open(store: Path) -> TissueGraph | GraphStore:
    """Open a store lazily where it is too large to keep whole, whole otherwise."""
    lazy = open_store(store)
    nodes = sum(int(lazy.structure[level].num_nodes) for level in lazy.structure.levels)
    return lazy if nodes > LAZY_NODES else read_store(store)


class _Bar:
    """A progress bar on a terminal, one plain line an epoch elsewhere."""

    def __init__(self, epochs: int) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=epochs, desc="training", unit="epoch") if sys.stderr.isatty() else None

    def show(self, record: dict[str, Any]) -> None:
        text = f"loss {record['validation_loss']:.4f} ({held_out_words(record['held_out'])})"
        if self._bar is None:
            log.info("epoch %d: %s", record["epoch"], text)
        elif record["epoch"]:
            self._bar.update()
            self._bar.set_postfix_str(text)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
