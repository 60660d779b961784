"""Kill every verb that writes, at every call that changes a file, and see that what is left is the old or the new.

Each verb works on a copy of a small finished state, in a child that dies without a word at the n-th call that opens a
file for writing, renames, links, syncs or removes; others are sent SIGKILL at a random time. What is left must be the
old content or the new, byte for byte, never a mix; the verb, put again, must end with the new and sweep what was left.
Then the disk is full from the n-th such call on: what is left must be the old, and nothing beside it.

    python benchmarks/kills.py [--points 200] [--only WORD …] [--out benchmarks/results/kills.json]

Exits with 1 if anything was lost or mixed.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CALLS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "shutil.rmtree", "ctypes.dlsym")
CREATING = ("open", "os.mkdir", "os.link", "fsync")
KILLED, FAILED, REFUSED = 9, 3, 4
LEAST = 100  # kills of each verb, from which on the counts are kept
LEFT = re.compile(r"(^|/)(\.tmp-[^/]*|\.old-[^/]*|\.[^/]*\.lock|unfinished)(/|$)")
CLOCK = re.compile(rb', "seconds": [\d.e-]+, "nodes_per_second": \d+')
Content = dict[str, str]


@dataclass(frozen=True)
class Verb:
    """One verb: what makes the state it finds, what it does, and what of its output may be missing after a kill."""

    name: str
    before: Callable[[Path], Any]
    act: Callable[[Path], Any]
    again: Callable[[Path], Any] | None = None
    may_lack: tuple[str, ...] = ()
    in_place: bool = False


def content(folder: Path, *, left: bool = False) -> Content:
    """Return a hash of every file below `folder` by its path, without clock times; with what a kill left or not."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and (left or not LEFT.search(name)):
            data = path.read_bytes()
            data = CLOCK.sub(b"", data) if path.name == "metrics.jsonl" else data
            found[name] = hashlib.sha256(data).hexdigest()
    return found


def watched(place: Path, at: int, full: bool) -> Callable[[], int]:
    """Count, in this process, calls that change files below `place`; at number `at` die, or let the disk be full."""
    seen = 0

    def call(event: str, name: Any) -> None:
        nonlocal seen
        if event != "ctypes.dlsym" and str(place) not in os.fsdecode(name if isinstance(name, str | bytes) else ""):
            return
        if full and event not in CREATING:
            return
        seen += 1
        if full and seen > at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        if not full and seen == at + 1:
            os._exit(KILLED)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            if isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                call(event, os.fspath(args[0]) if isinstance(args[0], str | bytes | os.PathLike) else "")
        elif event in CALLS and (event != "ctypes.dlsym" or args[1] == "renameat2"):
            call(event, os.fspath(args[0]) if isinstance(args[0], str | bytes | os.PathLike) else "")

    sync = os.fsync

    def fsync(handle: int) -> None:
        call("fsync", os.readlink(f"/proc/self/fd/{handle}"))
        sync(handle)

    os.fsync = fsync  # type: ignore[assignment]
    sys.addaudithook(hook)
    return lambda: seen


def child(act: Callable[[Path], Any], place: Path, at: int = 2**62, *, full: bool = False) -> tuple[int, int, float]:
    """Run `act` in a child of this process; return its exit code, how many calls it made, and how long it took [s]."""
    from aivc_graph.errors import AivcError

    reader, writer = os.pipe()
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        code = FAILED
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            count = watched(place, at, full)
            act(place)
            code = 0
            os.write(writer, str(count()).encode())
        except AivcError as error:
            code = REFUSED
            os.write(writer, b"0 " + str(error).encode()[:2000])
        except OSError as error:  # the command line says of these what was full
            code = REFUSED if error.errno == errno.ENOSPC else FAILED
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as told:
        said = told.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, int(said.split(" ")[0] or 0), time.monotonic() - started


def shot(act: Callable[[Path], Any], place: Path, after_s: float) -> None:
    """Run `act` in a child and send it SIGKILL after a time."""
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            act(place)
        finally:
            os._exit(0)
    time.sleep(after_s)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def fault_of(verb: Verb, found: Content, old: Content, new: Content) -> str | None:
    """Say what is wrong with what a kill left, if anything is."""
    if verb.in_place and "run/run.json" not in found:
        return None  # no run yet, and told as such
    for allowed in (old, new):
        lacking = {name: digest for name, digest in allowed.items() if name not in verb.may_lack}
        if lacking.items() <= found.items() <= allowed.items():
            return None
    kinds = {name: ("old" if digest == old.get(name) else "new" if digest == new.get(name) else "neither")
             for name, digest in found.items() if old.get(name) != new.get(name)}  # fmt: skip
    return f"a mix: {kinds}, without {sorted({*old, *new} - set(found))}"


def trials(points: int, calls: int, chance: random.Random) -> Iterator[int | None]:
    """Yield the calls to die at, all of them or a sample, and None for each kill at a random time."""
    chosen = range(calls) if calls <= points * 4 // 5 else sorted(chance.sample(range(calls), points * 4 // 5))
    yield from chosen
    yield from [None] * (points - len(chosen))


def tried(verb: Verb, work: Path, points: int, again_every: int) -> dict[str, Any]:
    """Kill one verb at many points, then let the disk be full at as many; return the counts."""
    place, template = work / "trial", work / "template"
    for folder in (place, template):
        shutil.rmtree(folder, ignore_errors=True)
    place.mkdir(parents=True)
    verb.before(place)
    shutil.copytree(place, template)
    old = content(place)
    code, calls, seconds = child(verb.act, place)
    new = content(place)
    if code != 0 or old == new:
        raise SystemExit(f"{verb.name}: exit code {code} without any kill, or nothing changed")
    chance, faults, left_old, again, killed = random.Random(0), [], 0, 0, 0
    for number, at in enumerate(trials(points, calls, chance)):
        fresh(place, template)
        if at is None:
            shot(verb.act, place, chance.uniform(0, seconds))
        else:
            child(verb.act, place, at)
        killed += 1
        found = content(place)
        left_old += found != new
        if (fault := fault_of(verb, found, old, new)) is not None:
            faults.append(f"killed at {at}: {fault}")
        if number % again_every == 0:
            again += 1
            code, *_ = child(verb.again or verb.act, place)
            there = code == REFUSED and found == new  # it was complete, and is not written over
            if (code != 0 and not there) or content(place, left=True) != new:
                names = sorted(set(content(place, left=True)) ^ set(new))
                faults.append(f"killed at {at}, put again: exit code {code}, another result or leftovers {names[:5]}")
    full = [fault for at in trials(points // 4, calls, chance) if at is not None
            if (fault := full_at(verb, place, template, at, old, new)) is not None]  # fmt: skip
    return {
        "verb": verb.name, "calls": calls, "killed": killed, "old": left_old, "new": killed - left_old, "again": again,
        "disk_full": min(points // 4, calls), "faults": [*faults, *full],
    }  # fmt: skip


def full_at(verb: Verb, place: Path, template: Path, at: int, old: Content, new: Content) -> str | None:
    """Let the disk be full from the call `at` on, and say what is wrong with what is left, if anything is."""
    fresh(place, template)
    code, *_ = child(verb.act, place, at, full=True)
    found = content(place, left=True)
    if code == 0:  # what could not be written was a cache, or nothing more was to be written
        return None if content(place) == new else f"full at {at}: ended well with another result"
    if code != REFUSED:
        return f"full at {at}: an untyped error ({code})"
    kept = {name: digest for name, digest in found.items() if "unfinished/" not in name}
    lacking = {name: digest for name, digest in new.items() if name not in verb.may_lack}
    if verb.in_place or kept == old or (verb.may_lack and lacking == kept):
        return None
    return f"full at {at}: {sorted(set(kept) ^ set(old))[:5]} is left or lost"


def fresh(place: Path, template: Path) -> None:
    """Put `place` back to the state of `template`, and sweep what lies beside it."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(template, place)


def write_inputs(folder: Path) -> Path:
    """Write an AnnData of cells 20 µm apart and the configuration that trains on it; return the configuration."""
    import anndata as ad
    import numpy as np
    import pandas as pd

    counts = np.random.default_rng(0).poisson(3.0, (60, 20)) + 1
    place = np.column_stack([np.arange(60) % 10, np.arange(60) // 10]) * 20.0
    obs = pd.DataFrame({"label": ["a", "b"] * 30}, index=[f"c{i}" for i in range(60)])
    ad.AnnData(counts.astype(np.float32), obs=obs, obsm={"spatial": place}).write_h5ad(folder / "cells.h5ad")
    source = f"{{path: {folder / 'cells.h5ad'}, reader: h5ad, level: cell, um_per_unit: 1, diameter_um: 10}}"
    config = folder / "cells.yaml"
    config.write_text(
        f"task: {{name: kills, sections: [{{name: s1, sources: [{source}]}}]}}\n"
        "model: {latent: 4, rings: [6, 12]}\ntraining: {epochs: 3, device: cpu}\n"
    )
    return config


def verbs(inputs: Path) -> list[Verb]:
    """Return every verb that writes, each with the state that it finds."""
    import importlib

    from aivc_graph.config import load_config
    from aivc_graph.pipeline.ask import export, query
    from aivc_graph.pipeline.build import build
    from aivc_graph.pipeline.compare import compare
    from aivc_graph.pipeline.train import train_config
    from aivc_graph.report.write import write_report
    from aivc_graph.simulate.presets import UNTREATED, DonorPlan, Preset
    from aivc_graph.simulate.simulate import simulate

    evaluating = importlib.import_module("aivc_graph.pipeline.evaluate")
    config = write_inputs(inputs)
    small = Preset(150.0, (DonorPlan("D1", "site", (UNTREATED,)),), mpp=None)

    def train(place: Path, *settings: str, resume: bool = False) -> None:
        given = load_config(config, list(settings))
        train_config(given, None, place / "run", resume=resume, device="cpu", overwrite=True)

    train(inputs)
    scores = evaluating.evaluate(inputs / "run")
    other = scores.model_copy(update={"provenance": scores.provenance | {"task": "another"}})

    def with_run(place: Path) -> None:
        shutil.copytree(inputs / "run", place / "run")
        (place / "run/notes.txt").write_text("mine")

    def scored(place: Path, found: Any) -> None:
        # What is scored takes seconds and writes nothing: it is worked out once, and written each time.
        evaluating._scores = lambda *_: found
        evaluating.evaluate(place / "run")
        write_report(place / "run")

    def asked(place: Path, k: int, name: str) -> None:
        query(inputs / "run", "niches", place / name, k=k)

    def exported(to: str, name: str) -> Verb:
        def before(place: Path) -> None:
            export(inputs / "run", to, place / name)
            if (place / name).is_dir():
                (place / name / "notes.txt").write_text("mine")
                for file in (place / name).glob("cell.h5ad"):
                    file.write_text("old")
            else:
                (place / name).write_text("old")
            for file in (place / name).glob("*/zarr.json"):
                file.write_text("{}")
            for file in (place / name).glob("*.geojson"):
                file.write_text("old")

        return Verb(f"export {to}", before, lambda place: export(inputs / "run", to, place / name))

    def two_runs(place: Path) -> None:
        for name in ("a", "b"):
            shutil.copytree(inputs / "run", place / name)
        (place / "table.csv").write_text("old")

    seed, longer = "training.seed=1", "training.epochs=5"
    return [
        Verb("simulate", lambda _: None, lambda place: simulate(small, place / "tissue")),
        Verb("build", lambda place: build(load_config(config), place / "g.zarr"),
             lambda place: build(load_config(config, ["graph.patch_um=50"]), place / "g.zarr")),
        Verb("train", lambda _: None, train, lambda place: train(place, resume=True), in_place=True),
        Verb("train anew", with_run, lambda place: train(place, seed), lambda place: train(place, seed, resume=True)),
        Verb("train on", with_run, lambda place: train(place, longer, resume=True)),
        Verb("evaluate", lambda place: (with_run(place), scored(place, other)), lambda place: scored(place, scores),
             may_lack=("run/report.html",)),
        Verb("compare", two_runs, lambda place: compare([place / "a", place / "b"], place / "table.csv")),
        *(Verb(f"query {ending}", lambda place, n=f"n.{ending}": asked(place, 2, n),
               lambda place, n=f"n.{ending}": asked(place, 3, n)) for ending in ("csv", "parquet", "h5ad")),
        *(exported(to, name) for to, name in
          (("h5ad", "out"), ("geojson", "out"), ("spatialdata", "out"), ("graphml", "out.graphml"))),
    ]  # fmt: skip


def main() -> int:
    """Kill every verb and write the counts."""
    from result_file import write_result

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "kills.json")
    parser.add_argument("--points", type=int, default=200, help="kills of each verb (%(default)s)")
    parser.add_argument("--only", nargs="+", default=[""], help="verbs whose name holds one of these words")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder) / "inputs"
        inputs.mkdir()
        for verb in verbs(inputs):
            if any(word in verb.name for word in options.only):
                rows.append(tried(verb, Path(folder) / "work", options.points, 10))
                if options.points >= LEAST:
                    write_result(options.out, rows[-1], part=verb.name)
                print(json.dumps(rows[-1]), flush=True)
    faults = sum(len(row["faults"]) for row in rows)
    print(f"{sum(row['killed'] for row in rows):,} kills of {len(rows)} verbs, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
