"""The suites of kills and of damaged files, short; and that each of them finds what is planted."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aivc_graph.atomic import staged
from aivc_graph.errors import ReadError

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def run(script: str, *given: str, cache: Path) -> list[dict[str, Any]]:
    """Run a suite, which must find no fault, and return its rows."""
    command = [sys.executable, "-W", "ignore", str(BENCHMARKS / script), *given]
    place = {**os.environ, "PYTHONPATH": str(BENCHMARKS.parent), "XDG_CACHE_HOME": str(cache)}
    done = subprocess.run(command, capture_output=True, text=True, env=place, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def loaded(name: str) -> Any:
    if str(BENCHMARKS) not in sys.path:
        sys.path.append(str(BENCHMARKS))  # scripts there import each other
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_what_kills_and_a_full_disk_leave_is_the_old_or_the_new(tmp_path: Path) -> None:
    rows = run("kills.py", "--points", "16", "--only", "train anew", "query csv", cache=tmp_path)
    assert [row["verb"] for row in rows] == ["train anew", "query csv"]
    assert all(row["killed"] > 10 and row["new"] and row["calls"] >= 9 and row["disk_full"] for row in rows)


def test_places_that_cannot_be_written_and_two_at_once_lose_nothing(tmp_path: Path) -> None:
    rows = run("places.py", "--times", "1", "--only", "init", "query parquet", cache=tmp_path)
    assert len(rows) == 2 and all(row["twice"] and row["in circles"] for row in rows)


@pytest.fixture
def kills() -> Any:
    return loaded("kills")


def write(place: Path, text: str, *, whole: bool = False) -> int:
    """Write two files, one after the other or as one folder under a lock."""
    if not whole:
        for name in ("a", "b"):
            (place / name).write_text(text)
        return 0
    with staged(place / "both", drop=()) as folder:
        folder.mkdir()
        write(folder, text)
    return 0


def trial(kills: Any, folder: Path, *, whole: bool) -> Any:
    def act(text: str) -> Any:
        return lambda place: write(place, text, whole=whole)

    verb = kills.Verb("v", act("old"), act("new"), out="both" if whole else "a")
    return verb, kills.OwnDisk(Path(os.path.realpath(folder)) / "place", mount=False), folder / "work"


def test_a_mix_is_told(kills: Any) -> None:
    verb = kills.Verb("v", print, print, may_lack=("page",))
    old, new = {"a": "1", "b": "1", "page": "1"}, {"a": "2", "b": "2", "page": "2"}
    for found in (old, new, {"a": "1", "b": "1"}, {"a": "2", "b": "2"}):
        assert kills.fault_of(verb, found, old, new) is None
    for found in ({**old, "a": "2"}, {**new, "page": "1"}, {"a": "2"}, {}, {**new, "c": "1"}):
        assert "a mix" in kills.fault_of(verb, found, old, new)
    growing = kills.Verb("v", print, print, run="run")
    assert kills.fault_of(growing, {"run/config.yaml": "1"}, {}, {"run/run.json": "1"}) is None
    assert "a mix" in kills.fault_of(growing, {"run/run.json": "1"}, {}, {"run/run.json": "1", "run/b": "1"})


def test_a_writer_that_leaves_a_mix_is_told_and_one_that_is_careful_is_not(kills: Any, tmp_path: Path) -> None:
    row = kills.tried(*trial(kills, tmp_path, whole=False), 4, 2)
    assert row["calls"] == 2 and any("a mix" in fault for fault in row["faults"])
    row = kills.tried(*trial(kills, tmp_path, whole=True), 40, 4)
    assert row["faults"] == [] and row["new"] and row["shot"] == 2 and row["killed"] > 15


def test_what_is_judged_at_a_call_is_what_a_kill_at_that_call_leaves(kills: Any, tmp_path: Path) -> None:
    careful = kills.Trial.of(*trial(kills, tmp_path, whole=True))

    def content() -> dict[str, str]:
        found = kills.content(careful.disk.place, left=True)
        return {name: "who" if name.endswith(".lock") else digest for name, digest in found.items()}

    def seen(at: int, *, dies: bool) -> tuple[int, Any]:
        found: list[Any] = []

        def look(_: str, name: str, number: int) -> None:
            if number == at and dies:
                os.kill(os.getpid(), signal.SIGKILL)
            if number == at:
                found.append(content())

        done = kills.run(careful.verb.act, careful.fresh(), look, found)
        return done.code, content() if dies else done.found[0]

    states = []
    for at in range(careful.once.calls):
        (killed, left), (ended, judged) = seen(at, dies=True), seen(at, dies=False)
        assert (killed, ended) == (-signal.SIGKILL, 0) and left == judged
        states.append(frozenset(judged.items()))
    assert len(set(states)) >= 5  # a lock, half of the new beside the old, both, the new


def test_what_a_full_disk_breaks_is_told(kills: Any, tmp_path: Path) -> None:
    careful, careless = (kills.Trial.of(*trial(kills, tmp_path / str(whole), whole=whole)) for whole in (True, False))
    assert "an untyped error" in careless.full(1, random.Random(0))[1]
    was, fault = careful.full(1, random.Random(0))
    assert was and "an untyped error" in fault and "No space left on device while writing" in fault


def test_damaged_files_are_refused_or_read(tmp_path: Path) -> None:
    only = ("csv", "parquet", "h5ad sparse", "MTX", "weights", "YAML")
    rows = run("hostile.py", "--mutants", "180", "--jobs", "1", "--only", *only, cache=tmp_path)
    assert len(rows) == 8 and all(row["refused"] for row in rows)  # csv stands for three kinds, two of them gzipped


@pytest.mark.parametrize("found", ["refused", "read", "untyped", "hang", "crash by SIGSEGV", "untyped memory"])
def test_what_comes_of_a_file_is_told_apart(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = loaded("hostile")
    monkeypatch.setattr(hostile, "MOST_S", 1)

    def read(_: Path) -> None:
        if found == "refused":
            raise ReadError("a", "b")
        if found == "untyped":
            raise KeyError
        if found == "untyped memory":
            bytearray(3 * 2**30)
        while found == "hang":
            pass
        if found == "crash by SIGSEGV":
            os.kill(os.getpid(), 11)

    came, said = hostile.outcome(read, Path("x"))
    assert came == found.split(" memory")[0] and ("MemoryError" in said) == (found == "untyped memory")


def test_every_change_can_be_made_again_and_changes_something() -> None:
    hostile = loaded("hostile")
    text, data = b"barcode,G1,G2\nc1,3,4\nc2,5,6\n" * 20, bytes(range(256)) * 40
    for how in {*hostile.TEXT, *hostile.BINARY}:
        for given in (text, data):
            once = [how(given, random.Random(n)) for n in range(30)]
            assert once == [how(given, random.Random(n)) for n in range(30)]
            assert sum(changed != given for changed in once) > 15
