"""A run folder changes as one: one writer at a time, and whoever reads it finds the old run or the new one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from aivc_graph import names
from aivc_graph.atomic import about, leftover, locked, recover, swap
from aivc_graph.errors import AivcError, ConfigError, StoreError
from aivc_graph.graph.store import store_digest
from aivc_graph.yaml_source import read_yaml

UNFINISHED = "unfinished"
FACTS = "run.json"
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
CONFIG = "config.yaml"
# What tells of the run that is replaced, and has no place beside a new one.
OF_THE_OLD = ("evaluation.json", "report.html", UNFINISHED)
TRIES = 5
T = TypeVar("T")
HELD_OUT = {names.VALIDATION: names.VALIDATION, "hidden": "hidden in training tissue"}
# What may change between a kill and `--resume`: how long and where to train, and what the run is called.
FREE = {"task.name", "training.epochs", "training.patience", "training.device"}
# What a run may be trained again with and be the same.
OF_THE_MACHINE = {"task.name", "training.device"}


@contextmanager
def writing_run(run: Path, *, resume: bool) -> Iterator[Path]:
    """Yield the folder to train in; when the block ends well, what lies there is the run `run`.

    That is `run` itself, or ``unfinished`` inside it where a finished run lies there: the whole folder is then swapped
    for the new one in one step, and takes over what else lies in it, such as its graph and a user's own files.

    Raises
    ------
    StoreError
        If another process trains there, or the file system refuses.
    """
    run = Path(run)
    try:
        if (run / "truth").is_dir():
            raise StoreError(str(run), "a simulated study", "a run folder, or a new one", "name another one by --out")
        place = Path(os.path.realpath(run))
        place.parent.mkdir(parents=True, exist_ok=True)
        with locked(place):
            _put_back(place)
            place.mkdir(exist_ok=True)
            folder = _folder_for(place, resume=resume)
            yield run if folder == place else folder
            if folder != place:
                try:
                    swap(folder, place, OF_THE_OLD)
                except OSError:
                    _put_back(place)
                    raise
    except OSError as error:
        if not about(error, Path(os.path.realpath(run))):
            raise
        mend = "free space, or choose another place by --out"
        raise StoreError(str(error.filename or run), f"{error.strerror or error} while writing", mend=mend) from error


def _put_back(run: Path) -> None:
    """Undo what a writer that was killed during the swap left: a new run that did not get its name is unfinished."""
    left = leftover(run)
    if left is None:
        return
    new, old = left / FACTS, run / FACTS
    if new.exists() and old.exists() and new.stat().st_mtime_ns > old.stat().st_mtime_ns:
        for taken in [one for one in left.iterdir() if _is_taken_over(one, run / one.name)]:
            shutil.rmtree(taken) if taken.is_dir() else taken.unlink()  # perhaps in part; it is taken over anew
        left.rename(run / UNFINISHED)
    else:
        shutil.rmtree(left)


def _is_taken_over(new: Path, old: Path) -> bool:
    """Say whether `new` is made of links to what lies in `old`, as a swap takes over what is not of the training."""
    if new.is_file():
        return old.is_file() and new.samefile(old)
    files = [file for file in new.rglob("*") if file.is_file()]
    pairs = [(file, old / file.relative_to(new)) for file in files]
    return old.is_dir() and (not files or any(was.is_file() and file.samefile(was) for file, was in pairs))


def _folder_for(run: Path, *, resume: bool) -> Path:
    """Return the folder to train in, without what an earlier training left there unless it is resumed."""
    folder, finished = run / UNFINISHED, (run / FACTS).exists()
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    if not finished:
        if not resume:
            shutil.rmtree(run / CHECKPOINTS, ignore_errors=True)
        return run
    if resume and not folder.is_dir():  # go on from where the finished one ended
        copy = run / f".tmp-{UNFINISHED}"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for name in (CONFIG, METRICS):
            if (run / name).exists():
                shutil.copy2(run / name, copy / name)
        if (run / CHECKPOINTS).is_dir():
            shutil.copytree(run / CHECKPOINTS, copy / CHECKPOINTS)
        copy.rename(folder)
    folder.mkdir(exist_ok=True)
    return folder


def read_whole(run: Path, read: Callable[[Path], T]) -> T:
    """Return what `read` finds in the folder `run`, all of it of one run also where another one takes its place.

    Raises
    ------
    StoreError
        If it is replaced again and again, and whatever `read` raises of a run that stays.
    """
    recover(run)
    for _ in range(TRIES):
        before = _identity(run)
        try:
            found = read(run)
        except (AivcError, OSError):
            if _identity(run) == before:
                raise
            continue
        if _identity(run) == before:
            return found
    raise StoreError(str(run), "replaced while it was read", "a run that stays", "read it when training is done")


def _identity(run: Path) -> tuple[int, int] | None:
    """Return what tells one run in the folder from the next: its facts, which are written last and never changed."""
    try:
        facts = (run / FACTS).stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns


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
    if not ((folder / CHECKPOINTS).is_dir() and (folder / CONFIG).exists()):
        return
    if changed := _changed(folder, configuration, FREE):
        mend = "resume with the settings it was started with, or train anew without --resume"
        raise ConfigError(str(folder), f"other settings: {changed}", "those the run was started with", mend)


def check_replaced(run: Path, configuration: dict[str, Any]) -> None:
    """Raise a `ConfigError` if a finished run lies in `run` that was trained with other settings than these."""
    if not ((run / FACTS).exists() and (run / CONFIG).exists()):
        return
    if changed := _changed(run, configuration, OF_THE_MACHINE):
        mend = "name another folder by --out, or replace it by --overwrite (overwrite=True)"
        raise ConfigError(str(run), f"a finished run of other settings: {changed}", "none, or one of the same", mend)


def _changed(folder: Path, configuration: dict[str, Any], free: set[str]) -> str:
    """Say in which settings but those that are `free` a configuration differs from that of the run in `folder`."""
    before, now = _flat(read_yaml(folder / CONFIG).data), _flat(configuration)
    changed = [key for key in sorted({*before, *now} - free) if before.get(key) != now.get(key)]
    shown = "; ".join(f"{key} {before.get(key)!r:.40} → {now.get(key)!r:.40}" for key in changed[:5])
    return shown + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")


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
