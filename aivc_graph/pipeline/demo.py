"""The whole way on a simulated tissue."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import networkx as nx

from aivc_graph.atomic import file_digest, staged
from aivc_graph.config import Config, load_config
from aivc_graph.errors import ConfigError, TissueError
from aivc_graph.pipeline.ask import flat, save_answer
from aivc_graph.pipeline.build import build
from aivc_graph.pipeline.evaluate import evaluate
from aivc_graph.pipeline.inspect import inspect
from aivc_graph.pipeline.train import Run, train_in
from aivc_graph.plot.contact_graph import contact_graph
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.report.write import write_report
from aivc_graph.simulate.simulate import simulate
from aivc_graph.training.run_folder import FACTS, run_facts, writing_run

log = logging.getLogger(__name__)
ANOTHER_PLACE = "name another by --out"


def demo(out: Path, *, device: str = "auto", seed: int = 0, preset: str = "demo") -> Path:
    """Go the whole way on a simulated study and return the run folder.

    Simulate → inspect → build → train → evaluate → query → report, each by the function its verb calls. Beside the run
    folder's own files there are ``evaluation.json`` and ``report.html``; the tables ``niches.csv``, ``markers.csv``,
    ``expression.csv`` and ``contacts.csv``; the pictures ``niches.png`` (over the slide), ``contacts.png`` and
    ``training.png``. Equal seeds give equal bytes of all of these on one machine.

    Parameters
    ----------
    out
        Run folder; the simulated files go into its ``tissue``.
    preset
        Name of the simulated study, as in `aivc_graph.simulate.simulate.simulate`.

    Raises
    ------
    ConfigError
        If `out` holds a finished run of another study or seed, or a study that is no demo's; it stays as it is.
    """
    out = Path(out)
    check_same_study(out, {"task": preset, "seed": seed})
    tissue_folder = out / "tissue"
    with stage("simulate"):
        simulate_anew(preset, tissue_folder, seed)
    config = load_config(tissue_folder / "config.yaml", [f"training.seed={seed}"])
    with stage("inspect"):
        inspect_sources(config)
    with writing_run(out, resume=False) as folder:
        with stage("build"):
            store = build(config, folder / "graph.zarr")
        with stage("train"):
            train_in(folder, out, store, config, resume=False, device=device)
        run = Run(folder)
        tissue = run.tissue
        if not (folder / "tissue").exists():  # a finished demo lies there, and stays whole until this one is
            shutil.copytree(tissue_folder, folder / "tissue", copy_function=_link)
        with stage("evaluate"):
            evaluate(folder, tissue=tissue)
        with stage("query"):
            ask_demo(run, tissue, folder)
        with stage("report"):
            write_report(folder, tissue=tissue)
    return out


def check_same_study(run: Path, asked: dict[str, object]) -> None:
    """Raise a `ConfigError` if a finished run lies in `run` whose facts are other than `asked`."""
    if not (run / FACTS).exists():
        return
    facts = run_facts(run / FACTS, tuple(asked))
    if other := [key for key in asked if facts[key] != asked[key]]:
        found, expected = (", ".join(f"{key} {of[key]}" for key in other) for of in (facts, asked))
        raise ConfigError(str(run), f"a finished run of {found}", f"none, or one of {expected}", ANOTHER_PLACE)


def simulate_anew(preset: str, folder: Path, seed: int) -> None:
    """Simulate into a folder; one of an earlier demo is replaced, any other study that is not the same stays.

    Raises
    ------
    ConfigError
        If the folder holds something that no demo left: a study beside no run is somebody's own.
    """
    if not (folder / "truth").is_dir():
        simulate(preset, folder, seed=seed)
        return
    earlier = any((folder.parent / mark).is_dir() for mark in ("graph.zarr", "checkpoints"))
    with staged(folder) as beside:
        simulate(preset, beside, seed=seed)
        if not (earlier or _files(folder) == _files(beside)):  # the same is what a demo that was killed left
            raise ConfigError(str(folder), "it already holds something", mend=ANOTHER_PLACE)


def _files(folder: Path) -> dict[Path, str]:
    """Return a hash of every file below a folder."""
    return {file.relative_to(folder): file_digest(file) for file in folder.rglob("*") if file.is_file()}


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Say in one line that a stage is done, and how long it took."""
    started = time.perf_counter()
    yield
    log.info("%s: %.1f s", name, time.perf_counter() - started)


def inspect_sources(config: Config) -> None:
    """Look at every file of every section as a user would; a simulated tissue has no faults.

    Raises
    ------
    TissueError
        If something is wrong with one.
    """
    for section in config.task.sections:
        for source in section.sources:
            found = inspect(source.path)
            if found.get("faults"):
                raise TissueError(f"{section.name} · {source.path}", "; ".join(map(str, found["faults"])))


def ask_demo(run: Run, tissue: VirtualTissue, out: Path) -> None:
    """Write tables of niches, markers, expression and contacts, and draw niches, contacts and the training curve."""
    answers = {
        "niches": flat(tissue.niches()),
        "markers": tissue.markers(),
        "expression": tissue.expression(at="niche"),
        "contacts": tissue.neighbours(),
    }
    for name, table in answers.items():
        save_answer(table, out / f"{name}.csv")
    contacts = nx.to_pandas_adjacency(tissue.contact_graph())
    pictures = {"niches": tissue.plot(), "contacts": contact_graph(contacts), "training": run.plot()}
    for name, axes in pictures.items():
        with staged(out / f"{name}.png") as beside:
            axes.figure.savefig(beside, dpi=150, bbox_inches="tight", format="png", metadata={"Software": None})
