"""The whole path as functions: read → build → train → query → export, called by the command line and the face."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx as nx
import pandas as pd

from aivc_graph import names
from aivc_graph.config import Config, SectionConfig, SourceConfig, TaskConfig, dump_config
from aivc_graph.errors import AivcError, ConfigError, QueryError, ReadError, unknown_name
from aivc_graph.graph.build import build_graph
from aivc_graph.graph.observations import anchor_count
from aivc_graph.graph.replacing import refuse_other
from aivc_graph.graph.store import GraphStore, open_store, read_store, write_store
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.io.reading import read
from aivc_graph.io.staging import staged
from aivc_graph.io.thumbnails import write_thumbnails
from aivc_graph.io.writing import write
from aivc_graph.modalities.histology import add_histology
from aivc_graph.modalities.histology_features import HistologyFeatures
from aivc_graph.plot.contact_graph import contact_graph
from aivc_graph.plot.training_curve import training_curve
from aivc_graph.query.virtual_tissue import VirtualTissue, run_facts
from aivc_graph.simulate.simulate import simulate
from aivc_graph.splits.design import split_design
from aivc_graph.splits.leakage import check_donors, duplicate_content
from aivc_graph.tissue.registration.method import registration_method
from aivc_graph.tissue.registration.orientation import check_orientation
from aivc_graph.tissue.registration.register import register
from aivc_graph.tissue.schema import check_section, describe_section
from aivc_graph.tissue.section import merge_sections
from aivc_graph.training.fit import fit
from aivc_graph.training.run_folder import built_alike, check_resumed, writing_run
from aivc_graph.training.settings import TrainingConfig

log = logging.getLogger(__name__)
QUESTIONS = ("niches", "expression", "composition", "neighbours", "similar")
RUNS = Path("runs")
PICTURES = (".png", ".pdf", ".svg")
LAZY_NODES = 400_000


def read_section(config: SectionConfig, task: TaskConfig) -> Any:
    """Read, merge, register and check one section, and describe its tiles where the task asks for it."""
    groups = {
        key: value for key in ("donor", "site", "platform", "batch") if (value := getattr(config, key)) is not None
    }
    parts = []
    for source in config.sources:
        try:
            parts.append(read(source.path, section=config.name, reader=source.reader, check=False, **source.options))
        except AivcError as error:
            raise type(error)(f"section {config.name}", str(error)) from error
    section = merge_sections(config.name, parts, **groups)
    for method in config.registration:
        register(section, method.moving, method.fixed, registration_method(method.kind, **method.options))
    check_section(section)
    for warning in check_orientation(section):
        log.warning("%s", warning)
    if task.features is not None and names.SLIDE in section.images and names.PATCH in section.shapes:
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "aivc-graph"
        add_histology(section, features=task.features, cache=cache, progress=sys.stderr.isatty())
    return section


def inspect(path: Path) -> dict[str, Any]:
    """Say what a slide, section, graph store or run folder is, and what is wrong with it."""
    path = Path(path)
    if (path / "run.json").exists():
        return {"kind": "run", **run_facts(path / "run.json", ()), **run_facts(path / "training.json", ())}
    if (path / "levels").is_dir():
        return {"kind": "graph", **describe_graph(read_store(path))}
    if path.suffix in (".yaml", ".yml"):
        raise ReadError(
            str(path), "a configuration", "a slide, section, graph store or run", f"build it: aivc build {path}"
        )
    section = read(path, check=False)
    found = describe_section(section)
    try:
        check_section(section)
        found["faults"] = []
    except AivcError as error:
        found["faults"] = str(error).splitlines()
    return found


def hold_out(sections: list[Any], task: TaskConfig) -> None:
    """Label every node by the task's split; refuse donors or content on two sides of it."""
    design = split_design(**(task.split or {"kind": "everything"}))
    for level, labels in design(sections).items():
        log.info("split of %s: %s", level, ", ".join(f"{label} {n:,}" for label, n in labels.items() if n))
    if not getattr(design, "share_donors", True):
        check_donors(sections)
    duplicate_content(sections)


def describe_graph(graph: TissueGraph) -> dict[str, Any]:
    """Return node, edge and anchor counts, and the size of each split."""
    splits = {
        level: {
            split: int(graph.in_split(level, split).sum())
            for split in names.SPLITS
            if graph.in_split(level, split).any()
        }
        for level in graph.levels
    }
    return {
        "nodes": {t: int(graph[t].num_nodes) for t in graph.node_types},
        "edges": {" ".join(r): int(graph[r].adj_t.values().numel()) for r in graph.edge_types},
        "observations": {level: graph.modalities(level) for level in graph.levels if graph.modalities(level)},
        "anchors": anchor_count(graph),
        "splits": splits,
    }


def build(config: Config, out: Path | None = None) -> Path:
    """Read all sections of a configuration, split them, build the graph and write its store; return where it is."""
    if not config.task.sections:
        raise ConfigError("task.sections", "no section", "at least one", "list them under task.sections")
    out = Path(out) if out is not None else RUNS / config.task.name / "graph.zarr"
    refuse_other(out)  # before hours of reading, and again when it is written
    sections = []
    for number, section in enumerate(config.task.sections, 1):
        log.info("reading %s (%d of %d)", section.name, number, len(config.task.sections))
        sections.append(read_section(section, config.task))
    hold_out(sections, config.task)
    graph = build_graph(sections, config.graph)
    write_store(graph, out, {"configuration": config.model_dump(mode="json"), "inputs": _input_hashes(config)})
    write_thumbnails(sections, out)
    log.info("anchors: %s", ", ".join(f"{k} {v:,}" for k, v in anchor_count(graph).items()) or "none")
    return out


@dataclass(frozen=True)
class Run:
    """A run folder, as an object.

    Examples
    --------
    >>> run = Run(Path("runs/demo"))  # doctest: +SKIP
    >>> run.tissue.niches()  # doctest: +SKIP
    """

    folder: Path

    @property
    def metrics(self) -> pd.DataFrame:
        """Losses, one row an epoch."""
        return pd.read_json(self.folder / "metrics.jsonl", lines=True)

    def plot(self) -> Any:
        """Draw training and validation loss against epochs; returns a matplotlib Axes."""
        names_of = {"train_loss": names.TRAIN, "validation_loss": names.VALIDATION}
        losses = self.metrics.rename(columns=names_of).melt("epoch", list(names_of.values()), "split").dropna()
        best = json.loads((self.folder / "training.json").read_text())["best_epoch"]
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
    device
        ``auto``, ``cpu`` or ``cuda``; overrides ``training.device`` unless ``auto``.
    """
    config = config or Config()
    out = Path(out) if out is not None else RUNS / config.task.name
    with writing_run(out, resume=resume) as folder:
        if resume:
            check_resumed(folder, config.model_dump(mode="json"))
        if isinstance(graph, TissueGraph):
            store = folder / "graph.zarr"
            write_store(graph, store, {"configuration": config.model_dump(mode="json")})
        else:
            store = Path(graph)
        _train_in(folder, out, store, config, resume=resume, device=device)
    return Run(out)


def train_config(config: Config, graph: Path | None, out: Path | None, *, resume: bool, device: str) -> Run:
    """Train as a configuration says; its graph is built first where no store is given and the run has none like it."""
    out = out if out is not None else RUNS / config.task.name
    with writing_run(out, resume=resume) as folder:
        if resume:
            check_resumed(folder, config.model_dump(mode="json"))
        store = graph if graph is not None else _own_store(folder, out, config)
        _train_in(folder, out, store, config, resume=resume, device=device)
    return Run(out)


def _own_store(folder: Path, out: Path, config: Config) -> Path:
    """Return the run's own graph store, built if there is none or it was built from other settings."""
    settings = config.model_dump(mode="json")
    stores = [place / "graph.zarr" for place in dict.fromkeys((folder, out))]
    for store in stores:
        if store.exists() and built_alike(store, settings):
            return store
    if stores[-1].exists():
        log.warning("%s was built from other settings: building anew", stores[-1])
    return build(config, stores[0])


def _train_in(folder: Path, out: Path, store: Path, config: Config, *, resume: bool, device: str) -> None:
    """Train on `store` in `folder`, whose content will then lie in `out`."""
    if not store.exists():
        raise ReadError(str(store), "no such graph store", mend=f"build it: aivc build CONFIG --out {store}")
    training = config.training if device == "auto" else config.training.model_copy(update={"device": device})
    (folder / "config.yaml").write_text(dump_config(config.model_copy(update={"training": training})))
    bar = _Bar(training.epochs)
    fit(_open(store), config.model, training, folder, resume=resume, report=bar.show)
    bar.close()
    place = store.name if store.parent == folder else os.path.relpath(store, out)
    facts = {"graph": place, "seed": training.seed, "task": config.task.name}
    (folder / "run.json").write_text(json.dumps(facts, indent=1) + "\n")


def query(run: Path, question: str, out: Path | None = None, *, plot: Path | None = None, **options: Any) -> Any:
    """Put a question to a run; write the answer where `out` says (``.csv``, ``.parquet``, ``.h5ad``) and return it."""
    if plot is not None and plot.suffix not in PICTURES:
        raise QueryError(str(plot), f"the ending {plot.suffix!r}", " or ".join(PICTURES), "rename the picture")
    tissue = VirtualTissue.load(run)
    asked = {key: value for key, value in options.items() if value is not None}
    if question == "niches":
        answer = tissue.niches(**asked)
    elif question == "expression":
        answer = tissue.expression(**asked)
    elif question == "composition":
        answer = tissue.composition(**asked)
    elif question == "neighbours":
        answer = tissue.neighbours(**asked)
    elif question == "similar":
        answer = tissue.similar_to(**asked)
    else:
        raise unknown_name(QueryError, "aivc query", "question", question, QUESTIONS)
    if plot is not None:
        shown = {key: asked[key] for key in ("k", "resolution", "level") if key in asked}
        with staged(plot) as beside:
            figure = tissue.plot(**shown).figure
            figure.savefig(beside, dpi=150, bbox_inches="tight", format=plot.suffix[1:])
    if out is not None:
        save_answer(answer, Path(out))
    return answer


def save_answer(answer: Any, path: Path) -> Path:
    """Write a table or AnnData in the format the file's ending names; an older file there is kept if that fails."""
    table = answer if isinstance(answer, pd.DataFrame) else None
    if path.suffix not in (".csv", ".parquet", ".h5ad"):
        raise QueryError(str(path), f"unknown ending {path.suffix!r}", ".csv, .parquet or .h5ad", "rename the output")
    if path.suffix == ".h5ad" and table is not None:
        raise QueryError(str(path), "a table cannot be an .h5ad", mend="name a .csv or .parquet file")
    with staged(path) as beside:
        if path.suffix == ".h5ad":
            answer.write_h5ad(beside)
        else:
            frame = table if table is not None else _flat(answer)
            frame.to_csv(beside) if path.suffix == ".csv" else frame.to_parquet(beside)
    return path


def export(run: Path, to: str, out: Path) -> Path:
    """Write the graph of a run with its niches in another tool's format."""
    tissue = VirtualTissue.load(run)
    for level in tissue.graph.levels:
        tissue.graph[level].obs = tissue.graph.obs(level).assign(niche=tissue.niches(level=level).obs["niche"])
    return write(tissue.graph, Path(out), to)


def demo(out: Path, *, device: str = "auto", seed: int = 0, preset: str = "demo") -> Path:
    """Go the whole way on a simulated section: simulate → build → train → ask; return the run folder.

    Beside the run folder's own files there are the tables ``niches.csv``, ``markers.csv``, ``expression.csv`` and
    ``contacts.csv``, and the pictures ``niches.png`` (over the slide), ``contacts.png`` and ``training.png``.

    Parameters
    ----------
    out
        Run folder; the simulated files go into its ``tissue``.
    preset
        Name of the simulated section, as in `aivc_graph.simulate.simulate.simulate`.
    """
    out = Path(out)
    tissue_folder = out / "tissue"
    if (tissue_folder / "truth").is_dir():
        shutil.rmtree(tissue_folder)
    simulate(preset, tissue_folder, seed=seed)
    config = demo_config(tissue_folder, seed)
    build(config, out / "graph.zarr")
    run = train_config(config, None, out, resume=False, device=device)
    tissue = run.tissue
    answers = {
        "niches": _flat(tissue.niches()),
        "markers": tissue.markers(),
        "expression": tissue.expression(at="niche"),
        "contacts": tissue.neighbours(),
    }
    for name, table in answers.items():
        save_answer(table, out / f"{name}.csv")
    draw_demo(run, tissue, out)
    return out


def demo_config(tissue: Path, seed: int = 0) -> Config:
    """Return the configuration of the demo on a simulated section; ``configs/demo.yaml`` is the same, commented."""
    spots = SourceConfig(path=tissue / "spaceranger", reader="spaceranger", slide=tissue / "slide.ome.tif")
    cells = SourceConfig(path=tissue / "xenium", reader="xenium")
    section = SectionConfig(name="demo", donor="simulated", sources=(spots, cells))
    task = TaskConfig(name="demo", sections=(section,), features=HistologyFeatures(), split={"kind": "everything"})
    return Config(task=task, training=TrainingConfig(seed=seed))


def draw_demo(run: Run, tissue: VirtualTissue, out: Path) -> None:
    """Draw the niches over the slide, which of them touch, and the training curve."""
    contacts = nx.to_pandas_adjacency(tissue.contact_graph())
    pictures = {"niches": tissue.plot(), "contacts": contact_graph(contacts), "training": run.plot()}
    for name, axes in pictures.items():
        axes.figure.savefig(out / f"{name}.png", dpi=150, bbox_inches="tight", metadata={"Software": None})


def _flat(answer: Any) -> pd.DataFrame:
    """Return an AnnData answer as one table: annotation, then one column a feature."""
    values = pd.DataFrame(
        answer.X, index=answer.obs_names, columns=[f"{answer.var.index.name or 'gene'}_{v}" for v in answer.var_names]
    )
    return pd.concat([answer.obs, values], axis=1)


def _open(store: Path) -> TissueGraph | GraphStore:
    """Open a store lazily where it is too large to keep whole, whole otherwise."""
    lazy = open_store(store)
    nodes = sum(int(lazy.structure[level].num_nodes) for level in lazy.structure.levels)
    return lazy if nodes > LAZY_NODES else read_store(store)


def _input_hashes(config: Config) -> dict[str, str]:
    hashes = {}
    for section in config.task.sections:
        for source in section.sources:
            paths = [source.path, *(v for v in source.options.values() if isinstance(v, Path))]
            for path in paths:
                for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
                    with file.open("rb") as opened:
                        hashes[f"{section.name}/{file.name}"] = hashlib.file_digest(opened, "sha256").hexdigest()
    return hashes


class _Bar:
    """A progress bar on a terminal, one plain line an epoch elsewhere."""

    def __init__(self, epochs: int) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=epochs, desc="training", unit="epoch") if sys.stderr.isatty() else None

    def show(self, record: dict[str, Any]) -> None:
        text = f"validation loss {record['validation_loss']:.4f}"
        if self._bar is None:
            log.info("epoch %d: %s", record["epoch"], text)
        elif record["epoch"]:
            self._bar.update()
            self._bar.set_postfix_str(text)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
