"""Writing a run folder: one writer at a time, and an earlier result stays whole until the new one is complete."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from aivc_graph import names
from aivc_graph.errors import ConfigError, StoreError
from aivc_graph.graph.replacing import locked
from aivc_graph.graph.store import store_digest
from aivc_graph.yaml_source import read_yaml

UNFINISHED = "unfinished"
FACTS = "run.json"
METRICS = "metrics.jsonl"
HELD_OUT = {names.VALIDATION: names.VALIDATION, "hidden": "hidden in training tissue"}
# What may change between a kill and `--resume`: how long and where to train, and what the run is called.
FREE = {"task.name", "training.epochs", "training.patience", "training.device"}


@contextmanager
def writing_run(run: Path, *, resume: bool) -> Iterator[Path]:
    """Yield the folder to train in; when the block ends well, what lies there is the run `run`.

    That is `run` itself, or ``unfinished`` inside it where a finished run lies there that training anew would destroy.

    Raises
    ------
    StoreError
        If another process trains there, or the file system refuses.
    """
    run = Path(run)
    try:
        if (run / "truth").is_dir():
            raise StoreError(str(run), "a simulated study", "a run folder, or a new one", "name another one by --out")
        run.mkdir(parents=True, exist_ok=True)
        with locked(run / "run"):
            folder = run / UNFINISHED
            if not resume:
                shutil.rmtree(folder, ignore_errors=True)
            if not ((run / FACTS).exists() and (folder.is_dir() or not resume)):
                folder = run
            folder.mkdir(exist_ok=True)
            yield folder
            if folder != run:
                _take_over(folder, run)
    except OSError as error:
        if error.filename is not None and run not in (Path(error.filename), *Path(error.filename).parents):
            raise  # not ours: an input that cannot be read
        mend = "free space, or choose another place by --out"
        raise StoreError(str(error.filename or run), f"{error.strerror or error} while writing", mend=mend) from error


def _take_over(folder: Path, run: Path) -> None:
    """Move what lies in `folder` into `run`; the facts, which make it a run, last."""
    for scores in ("evaluation.json", "report.html"):  # they are of the run that is replaced
        (run / scores).unlink(missing_ok=True)
    for new in sorted(folder.iterdir(), key=lambda path: path.name == FACTS):
        old = run / new.name
        if old.is_dir():
            shutil.rmtree(old)
        new.replace(old)
    folder.rmdir()


def run_facts(file: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    """Return a run's JSON file that must hold `keys`."""
    try:
        facts = dict(json.loads(file.read_text()))
        missing = [key for key in keys if key not in facts]
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(str(file), f"unreadable ({error})", mend="train the run again") from error
    if missing:
        raise StoreError(str(file), f"no key {missing[0]!r}", mend="train the run again")
    return facts


def graph_of_run(run: Path) -> tuple[Path, int]:
    """Return the graph store that a run was trained on, and the seed it was trained with.

    Raises
    ------
    StoreError
        If the folder is not a finished run, or its graph has moved or was built anew since.
    """
    if not (run / FACTS).exists():
        raise StoreError(str(run), "no run.json", "a finished run folder", "train first: aivc train CONFIG --out RUN")
    facts = run_facts(run / FACTS, ("graph", "seed"))
    graph = (run / facts["graph"]).resolve()
    if not graph.exists():
        raise StoreError(
            str(run / FACTS),
            f"its graph {facts['graph']!r} is not there",
            mend="move it back, or build it again from the run's config.yaml",
        )
    if facts.get("graph_digest", digest := store_digest(graph)) != digest:
        raise StoreError(
            str(graph),
            "another graph than the model was trained on",
            mend="it was built anew since: train again, or put the old one back",
        )
    return graph, facts["seed"]


def run_metrics(run: Path) -> pd.DataFrame:
    """Return the losses of a run, one row an epoch: ``epoch``, ``train_loss``, ``validation_loss`` and ``held_out``.

    A run written before it said what its held-out loss is of reads ``""`` there.

    Raises
    ------
    StoreError
        If they are not there, torn, or lack a column.
    """
    file = run / METRICS
    try:
        table = pd.DataFrame([dict(json.loads(line)) for line in file.read_text().splitlines()])
        missing = [column for column in ("epoch", "train_loss", "validation_loss") if column not in table]
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(str(file), f"unreadable ({error})", mend="train the run again") from error
    if missing:
        raise StoreError(str(file), f"no {missing[0]!r}", mend="train the run again")
    return table if "held_out" in table else table.assign(held_out="")


def held_out_words(kind: str) -> str:
    """Return what the held-out loss of a run is of, in words, from what its metrics call it."""
    return HELD_OUT.get(kind, "held out")


def check_resumed(folder: Path, configuration: dict[str, Any]) -> None:
    """Raise a `ConfigError` if the run in `folder` was started with other settings than `configuration`."""
    if not ((folder / "checkpoints").is_dir() and (folder / "config.yaml").exists()):
        return
    before, now = _flat(read_yaml(folder / "config.yaml").data), _flat(configuration)
    changed = [key for key in sorted({*before, *now} - FREE) if before.get(key) != now.get(key)]
    if changed:
        shown = "; ".join(f"{key} {before.get(key)!r:.40} → {now.get(key)!r:.40}" for key in changed[:5])
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        mend = "resume with the settings it was started with, or train anew without --resume"
        raise ConfigError(str(folder), f"other settings: {shown}{more}", "those the run was started with", mend)


def built_alike(store: Path, configuration: dict[str, Any]) -> bool:
    """Say whether the graph store was built from the same task and graph settings as `configuration`."""
    try:
        built = json.loads((store / "zarr.json").read_bytes())["attributes"]["provenance"]["configuration"]
        before, now = _flat(built), _flat(configuration)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    about = {key for key in {*before, *now} - FREE if key.startswith(("task.", "graph."))}
    return all(before.get(key) == now.get(key) for key in about)


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    """Return nested plain data as one mapping of dotted keys."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if entries is None:
        return {key: value}
    return {k: v for name, part in entries for k, v in _flat(part, f"{key}.{name}" if key else str(name)).items()}
