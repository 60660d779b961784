"""Kill every verb that writes, and see that what is left is the old or the new.

A kill leaves what lies there at that instant. So each verb works once on a small finished state, and what lies there
is judged before calls that open a file for writing, rename, link, sync or remove (all, or a sample with the last) and
before others at random: it must be the old content or the new, byte for byte, never a mix. A twentieth of the points
are a SIGKILL at a random time. From what is left the verb, put again, must make the new and sweep the rest. Then the
disk is full: after some bytes or files, on a disk of its own where one can be mounted, and from some such call on. That
must be said, and the old be left alone.

    python benchmarks/kills.py [--points 200] [--only WORD …] [--out benchmarks/results/kills.json]

Children are forked from one process that has imported everything. Exits with 1 if anything was lost or mixed.
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
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kill_verbs import Verb, verbs
from own_disk import OwnDisk

CALLS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "shutil.rmtree", "ctypes.dlsym")
CREATING = ("open", "os.mkdir", "os.link", "fsync")
UNTYPED, REFUSED = 1, 2
LEAST = 100  # kills of each verb, from which on the counts are kept
LAST = 40  # of the calls of a verb, each is killed at: there the new takes the place of the old
LEFT = re.compile(r"(^|/)(\.tmp-[^/]*|\.old-[^/]*|\.[^/]*\.lock|unfinished)(/|$)")
CLOCK = re.compile(rb', "seconds": [\d.e-]+, "nodes_per_second": \d+')
Content = dict[str, str]
Act = Callable[[Path], int]
Look = Callable[[str, str, int], None]  # the call, what it is of, and how many there were
Judged = tuple[bool, str | None]  # whether the new lies there, and what is wrong


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit code, how many calls changed files, how long it took [s], what it said and found."""

    code: int
    calls: int
    seconds: float
    said: str
    found: list[Any]


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


def copy(source: Path, target: Path) -> None:
    """Copy all in a folder into another, which may be there: times, links of both kinds and all."""
    target.mkdir(exist_ok=True)
    subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True)


def watched(place: Path, look: Look) -> Callable[[], int]:
    """Count, in this process, calls that change files below `place`; before each of them `look` is called."""
    seen = 0

    def call(event: str, name: Any) -> None:
        nonlocal seen
        name = os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else ""
        if event == "ctypes.dlsym" or str(place) in name:
            seen += 1
            look(event, name, seen - 1)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            if isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                call(event, args[0])
        elif event in CALLS and (event != "ctypes.dlsym" or args[1] == "renameat2"):
            call(event, args[0])

    sync = os.fsync

    def fsync(handle: int) -> None:
        call("fsync", os.readlink(f"/proc/self/fd/{handle}"))
        sync(handle)

    os.fsync = fsync  # type: ignore[assignment]
    sys.addaudithook(hook)
    return lambda: seen


def full_from(at: int) -> Look:
    """Return what lets the disk be full from the call `at` on."""

    def look(event: str, name: str, number: int) -> None:
        if number >= at and event in CREATING:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

    return look


def begun(act: Act, place: Path, look: Look = lambda *_: None, found: Sequence[Any] = ()) -> tuple[int, int]:
    """Start `act` in a child of this process; return its number, and a file that tells what it says and `found`."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        own, code = os.getpid(), UNTYPED
        try:
            os.dup2(writer, 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            calls = watched(place, look)
            code = act(place)
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}".encode())
        finally:
            if os.getpid() == own:  # not one that was forked on the way, to be killed
                os.write(writer, f"\0{json.dumps([calls(), found])}".encode())
            os._exit(code)
    os.close(writer)
    return pid, reader


def ended(child: tuple[int, int]) -> tuple[int, str]:
    """Wait for a child; return its exit code and what it said."""
    with os.fdopen(child[1], errors="replace") as told:
        said = told.read()
    return os.waitstatus_to_exitcode(os.waitpid(child[0], 0)[1]), said


def run(act: Act, place: Path, look: Look = lambda *_: None, found: Sequence[Any] = ()) -> Ended:
    """Run `act` in a child to its end."""
    started = time.monotonic()
    code, told = ended(begun(act, place, look, found))
    said, _, kept = told.partition("\0")
    calls, seen = json.loads(kept or "[0, []]")
    return Ended(code, calls, time.monotonic() - started, said, seen)


def fault_of(verb: Verb, found: Content, old: Content, new: Content) -> str | None:
    """Say what is wrong with what a kill left, if anything is."""
    if verb.run and f"{verb.run}/run.json" not in {*old, *found}:
        return None  # no run yet, and told as such
    for allowed in (old, new):
        lacking = {name: digest for name, digest in allowed.items() if name not in verb.may_lack}
        if lacking.items() <= found.items() <= allowed.items():
            return None
    mixed = [f"{name} {'old' if digest == old.get(name) else 'new' if digest == new.get(name) else 'neither'}"
             for name, digest in found.items() if old.get(name) != new.get(name)]  # fmt: skip
    return f"a mix: {mixed[:5]}, without {sorted({*old, *new} - set(found))[:5]}"


def counting() -> tuple[Look, list[int]]:
    """Return what counts the calls of all kinds from the first lock on, and where."""
    seen = [0]

    def tick(_: Any, event: str, called: Any) -> None:
        seen[0] += event == "c_call"

    def look(_: str, name: str, number: int) -> None:
        if name.endswith(".lock"):
            sys.setprofile(tick)

    return look, seen


def instants(most: int, calls: int, chance: random.Random) -> list[int]:
    """Return the calls at which what lies there is judged: all, or the last ones and a sample of the others."""
    late = max(calls - min(LAST, most // 2), 0)
    return [*sorted(chance.sample(range(late), min(late, most - (calls - late)))), *range(late, calls)]


@dataclass
class Trial:
    """A verb, the state that it finds, what it makes of it, and where it is tried."""

    verb: Verb
    disk: OwnDisk
    work: Path
    old: Content
    new: Content
    size: int
    folder: bool
    once: Ended

    @classmethod
    def of(cls, verb: Verb, disk: OwnDisk, work: Path) -> Trial:
        """Let a verb work once, without a kill."""
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        disk.clear()
        verb.before(disk.place)
        copy(disk.place, work / "old")
        old, once = content(disk.place), run(verb.act, disk.place, *counting())
        new = content(disk.place, left=True)
        if once.code != 0 or old == new:
            raise SystemExit(f"{verb.name}: exit code {once.code} without any kill, or nothing changed: {once.said}")
        size = sum((disk.place / name).stat().st_size for name in new if new[name] != old.get(name))
        folder = (disk.place / verb.out).is_dir()
        return cls(verb, disk, work, old, new, size, folder, once)

    def fresh(self, state: str = "old") -> Path:
        """Put the place back to the state that the verb finds, or to one that was kept."""
        self.disk.clear()
        copy(self.work / state, self.disk.place)
        return self.disk.place

    def judged(self, chosen: Sequence[int], between: int, again_every: int) -> list[Judged]:
        """Run the verb once; judge what lies there at the chosen calls, and at others that change nothing.

        Some of what lies there at a chosen call is kept, and the verb put again on it.
        """
        place, found, chance = self.fresh(), list[Judged](), random.Random(1)
        again = {chosen[i] for i in range(0, len(chosen), again_every)}
        rate = 1.4 * between / max(self.once.found[0], 1)  # rather more than too few

        def look(_: str, name: str, number: int) -> None:
            begun = name.endswith(".lock") or sys.getprofile() is not None
            sys.setprofile(None)  # what is called here is none of the verb's
            if number in chosen:
                found.append(self.judge(f"killed at call {number}"))
                if number in again:
                    copy(place, self.work / str(number))
            sys.setprofile(tick if begun else None)

        def tick(_: Any, event: str, called: Any) -> None:
            if event == "c_call" and chance.random() < rate:
                sys.setprofile(None)
                found.append(self.judge(f"killed before a {called.__name__}"))
                sys.setprofile(tick)

        done = run(self.verb.act, place, look, found)
        judged = [(complete, fault) for complete, fault in done.found]
        for number in sorted(again):
            self.fresh(str(number))
            where = f"killed at call {number}"
            if (fault := self.again(where, complete=self.judge(where)[0])) is not None:
                judged.append((False, fault))
            shutil.rmtree(self.work / str(number))
        return judged

    def shot(self, times: int, again_every: int) -> list[Judged]:
        """SIGKILL the verb at random times, from when it locks what it writes; judge what is left, put it again."""
        chance, found, begun = random.Random(0), list[Judged](), False

        def look(_: str, name: str, number: int) -> None:
            nonlocal begun
            if begun or not name.endswith(".lock"):
                return
            begun, longest = True, None
            for number in range(-1, times):
                self.fresh()
                if (pid := os.fork()) == 0:
                    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                    return  # goes on with its work
                started, after_s = time.monotonic(), chance.uniform(0, longest or 0)
                if longest is not None:
                    time.sleep(after_s)
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                if longest is None:  # this one was let live
                    longest = time.monotonic() - started
                    continue
                where = f"killed {after_s:.3f} s after it began to write"
                complete, fault = self.judge(where)
                if fault is None and number % again_every == 0:
                    fault = self.again(where, complete=complete)
                found.append((complete, fault))
            raise KeyboardInterrupt

        done = run(self.verb.act, self.fresh(), look, found)
        return [(complete, fault) for complete, fault in done.found]

    def judge(self, where: str) -> Judged:
        """Say whether what lies there is the new, and what is wrong with it."""
        found = content(self.disk.place)
        fault = fault_of(self.verb, found, self.old, self.new)
        return found == self.new, None if fault is None else f"{where}: {fault}"

    def again(self, where: str, *, complete: bool) -> str | None:
        """Put the verb again; say what is wrong with what it makes, if anything is."""
        done = run(self.verb.again or self.verb.act, self.disk.place)
        if done.code == REFUSED and content(self.disk.place) == self.old:  # nothing had begun that could be resumed
            done = run(self.verb.act, self.disk.place)
        there = done.code == REFUSED and complete  # it is not written over
        found = content(self.disk.place, left=True)
        if (done.code == 0 or there) and found == self.new:
            return None
        names = sorted(name for name in {*found, *self.new} if found.get(name) != self.new.get(name))
        return f"{where}, put again: exit code {done.code}, not the new in {names[:5]}: {done.said[-300:]}"

    def full(self, at: int | None, chance: random.Random) -> Judged:
        """Let the disk be full from a call on, or after some bytes; say if it was, and what is wrong then."""
        place, where = self.fresh(), f"full {'after some bytes' if at is None else f'from call {at}'}"
        if at is None:
            self.disk.leave(chance, self.size, len(self.new))
        done = run(self.verb.act, place, *([] if at is None else [full_from(at)]))
        self.disk.widen()
        found = content(place, left=True)
        if done.code == 0:  # what could not be written was a cache, or nothing more was to be written
            return False, None if content(place) == self.new else f"{where}: ended well with another result"
        if done.code != REFUSED or "StoreError" not in done.said:
            return True, f"{where}: an untyped error ({done.code}): {done.said[-300:]}"
        kept = {name: digest for name, digest in found.items() if "unfinished/" not in name}
        lacking = {name: digest for name, digest in self.new.items() if name not in self.verb.may_lack}
        if not self.verb.run and kept != self.old and not (self.verb.may_lack and lacking == kept):
            return True, f"{where}: {sorted(set(kept) ^ set(self.old))[:5]} is left or lost: {done.said[-300:]}"
        return True, self.again(where, complete=kept == self.new)


def tried(verb: Verb, disk: OwnDisk, work: Path, points: int, again_every: int) -> dict[str, Any]:
    """Kill one verb at many points, and let its disk be full at some; return the counts."""
    trial, chance = Trial.of(verb, disk, work), random.Random(0)
    every = max(again_every // 2, 1) if verb.again else again_every
    chosen = instants(points * 3 // 5, trial.once.calls, chance)
    times = max(points // 20, 1)
    kills = trial.judged(chosen, points - len(chosen) - times, every)
    shots = trial.shot(times, every)
    filled = [trial.full(chance.randrange(trial.once.calls), chance)]
    filled += [trial.full(None, chance) for _ in range(points // 100 + 1) if disk.mounted]
    return {
        "verb": verb.name, "calls": trial.once.calls, "killed": len(kills) + len(shots), "shot": len(shots),
        "new": sum(complete for complete, _ in [*kills, *shots]),
        "again": -(-len(chosen) // every) + -(-len(shots) // every), "disk_full": sum(was for was, _ in filled),
        "faults": [fault for _, fault in [*kills, *shots, *filled] if fault is not None],
    }  # fmt: skip


def main() -> int:
    """Kill every verb and write the counts."""
    from result_file import write_result

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "kills.json")
    parser.add_argument("--points", type=int, default=200, help="kills of each verb (%(default)s)")
    parser.add_argument("--only", nargs="+", default=[""], help="verbs whose name begins with one of these words")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(os.path.realpath(folder))
        disk = OwnDisk(place / "trial")  # before anything has started a thread
        (place / "inputs").mkdir()
        for verb in verbs(place / "inputs"):
            if verb.name.startswith(tuple(options.only)):
                rows.append(tried(verb, disk, place / "work", options.points, 20))
                if options.points >= LEAST:
                    write_result(options.out, rows[-1], part=verb.name)
                print(json.dumps(rows[-1]), flush=True)
        disk.unmount()
    faults = sum(len(row["faults"]) for row in rows)
    killed, full = (sum(row[key] for row in rows) for key in ("killed", "disk_full"))
    print(f"{killed:,} kills of {len(rows)} verbs, {full:,} times the disk was full, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
