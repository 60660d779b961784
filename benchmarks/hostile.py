"""Read thousands of damaged files, and see that each is refused by name or read as what it says.

Small sound files of every kind that is read are changed at random: bits, bytes and blocks, numbers of headers, values
that are no number or too large, lines twice or in another encoding, cut ends. Each change is read in a child of one
warmed-up process, which may take 30 s and 2 GiB more than its parent. What comes out must be an `AivcError`, or a
section that passes its schema; anything else is a fault: an error of a library, a hang, a crash, too much memory.

    python benchmarks/hostile.py [--mutants 10000] [--only WORD …] [--out benchmarks/results/hostile.json]

Exits with 1 if there is a fault; each can be made again by its kind and number (``--only KIND --number N``).
"""

from __future__ import annotations

import argparse
import collections
import gzip
import json
import math
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile_kinds import Kind, kinds

MOST_S, MOST_BYTES = 30, 2 * 2**30
LEAST = 1_000  # mutants of all kinds together, from which on the counts are kept
REFUSED, READ, UNTYPED = 0, 1, 2
HUGE = (b"9" * 10, b"2000000000", b"-1", b"0", b"1e308", b"4294967295", b"9223372036854775807")
WORDS = (b"nan", b"inf", b"-inf", b"1e400", b"-5", b"", b"x", b"\xff\xfe", b'"', b"1,5", b"0x10", b"\xce\xbc", b"=1+1")
Mutation = Callable[[bytes, random.Random], bytes]


def flip(data: bytes, chance: random.Random) -> bytes:
    """Flip one to eight bits."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def cut(data: bytes, chance: random.Random) -> bytes:
    """Cut the end off."""
    return data[: chance.randrange(len(data))]


def swap(data: bytes, chance: random.Random) -> bytes:
    """Swap two blocks."""
    size = max(1, min(len(data) // 3, chance.choice((8, 64, 512, 4096))))
    a, b = sorted(chance.randrange(len(data) - size + 1) for _ in range(2))
    b = max(b, a + size)
    return data[:a] + data[b : b + size] + data[a + size : b] + data[a : a + size] + data[b + size :]


def blank(data: bytes, chance: random.Random) -> bytes:
    """Overwrite a block with one byte."""
    start, size = chance.randrange(len(data)), chance.choice((1, 4, 8, 64, 1024))
    return data[:start] + bytes([chance.choice((0, 255, 128))]) * len(data[start : start + size]) + data[start + size :]


def insert(data: bytes, chance: random.Random) -> bytes:
    """Insert some bytes, or take some away."""
    start, size = chance.randrange(len(data)), chance.randint(1, 64)
    return data[:start] + (chance.randbytes(size) if chance.random() < 0.5 else b"") + data[start + size // 2 :]


def number(data: bytes, chance: random.Random) -> bytes:
    """Put another number in the place of one that stands as text, or of four or eight bytes."""
    found = list(re.finditer(rb"\d+", data[:20_000]))
    if found and chance.random() < 0.7:
        one = chance.choice(found[:40] if chance.random() < 0.5 else found)
        return data[: one.start()] + chance.choice(HUGE) + data[one.end() :]
    width = chance.choice((4, 8))
    start = chance.randrange(max(1, len(data) - width))
    value = chance.choice((2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 0)) % 2 ** (8 * width)
    return data[:start] + value.to_bytes(width, chance.choice(("little", "big"))) + data[start + width :]


def word(data: bytes, chance: random.Random) -> bytes:
    """Put something that is no number, or too large, in the place of a field."""
    found = [m for m in re.finditer(rb"[^\t\r\n,;\"{}\[\]]+", data[:100_000]) if m.group().strip()]
    if not found:
        return flip(data, chance)
    for one in sorted(chance.sample(found, min(len(found), chance.randint(1, 3))), key=lambda m: -m.start()):
        data = data[: one.start()] + chance.choice(WORDS) + data[one.end() :]
    return data


def lines(data: bytes, chance: random.Random) -> bytes:
    """Write a line twice, leave one out, swap two, or cut one short."""
    parts = data.split(b"\n")
    i, j = chance.randrange(len(parts)), chance.randrange(len(parts))
    what = chance.randrange(4)
    if what == 0:
        parts.insert(i, parts[j])
    elif what == 1:
        del parts[i]
    elif what == 2:
        parts[i], parts[j] = parts[j], parts[i]
    else:
        parts[i] = parts[i][: len(parts[i]) // 2]
    return b"\n".join(parts)


def encoding(data: bytes, chance: random.Random) -> bytes:
    """Write text in another encoding, or with other ends of lines."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return flip(data, chance)
    if chance.random() < 0.3:
        return data.replace(b"\n", chance.choice((b"\r\n", b"\r", b"\n\n")))
    name = chance.choice(("utf-16", "utf-16-be", "utf-8-sig", "utf-32", "cp500", "latin-1"))
    return f"é{text}".encode(name, "replace")


BINARY: tuple[Mutation, ...] = (flip, flip, cut, swap, blank, insert, number)
TEXT: tuple[Mutation, ...] = (word, word, lines, number, encoding, cut, flip, insert)


def mutant(kind: Kind, n: int, place: Path) -> tuple[Path, str]:
    """Put the `n`-th damaged copy of a kind at `place`; return what to read, and what was done to it."""
    chance = random.Random(f"{kind.name} {n}")
    target = place / kind.place.name
    if target.is_dir():
        shutil.rmtree(target)
    files = [kind.place] if kind.place.is_file() else sorted(f for f in kind.place.rglob("*") if f.stat().st_size)
    files = [file for file in files if file.is_file()]
    chosen = chance.choice(files)
    if kind.place.is_dir():
        shutil.copytree(kind.place, target)
        changed = target / chosen.relative_to(kind.place)
    else:
        changed = target
    if kind.place.is_dir() and chance.random() < 0.03:
        changed.unlink()
        return target, f"{changed.name} taken away"
    data = chosen.read_bytes()
    packed = data[:2] == b"\x1f\x8b" and chance.random() < 0.7
    data = gzip.decompress(data) if packed else data
    how = chance.choice(TEXT if b"\0" not in data else BINARY)
    data = how(data, chance)
    changed.write_bytes(gzip.compress(data, 1) if packed else data)
    return target, f"{changed.name}: {how.__name__}"


def outcome(read: Callable[[Path], Any], path: Path) -> tuple[str, str]:
    """Read a damaged file in a child; return ``refused``, ``read`` or what is wrong, and what was said."""
    from aivc_graph.errors import AivcError

    receiver, sender = os.pipe()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        code, said = UNTYPED, ""
        try:
            os.close(receiver)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + MOST_BYTES, resource.RLIM_INFINITY))
            signal.alarm(MOST_S)
            try:
                read(path)
                code = READ
            except AivcError as error:
                code, said = REFUSED, f"{type(error).__name__}: {error}"
            except BaseException as error:
                said = f"{type(error).__name__}: {error}"
            os.write(sender, said.encode(errors="replace")[:2000])
        finally:
            os._exit(code)
    os.close(sender)
    with os.fdopen(receiver, errors="replace") as told:
        said = told.read()
    _, status, used = os.wait4(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGALRM or time.monotonic() - started > 2 * MOST_S:
        return "hang", said
    if code < 0:
        return f"crash by {signal.Signals(-code).name}", said
    if (used.ru_maxrss - before) * 1024 > MOST_BYTES:
        return "too much memory", said
    return {REFUSED: "refused", READ: "read"}.get(code, "untyped"), said


def tried(kind: Kind, numbers: range, work: Path) -> list[dict[str, Any]]:
    """Read mutants of one kind; return what came of each."""
    place = work / f"trial{os.getpid()}"
    place.mkdir(exist_ok=True)
    found = []
    for n in numbers:
        path, how = mutant(kind, n, place)
        came, said = outcome(kind.read, path)
        found.append({"number": n, "how": how, "found": came, "said": said[:300]})
    return found


def shared(kind: Kind, mutants: int, work: Path, jobs: int) -> dict[str, Any]:
    """Read the mutants of one kind in several children; return the counts and what went wrong."""
    started, readers = time.monotonic(), []
    for job in range(jobs):
        receiver, sender = os.pipe()
        if (pid := os.fork()) == 0:
            os.close(receiver)
            with os.fdopen(sender, "w") as told:
                json.dump(tried(kind, range(job, mutants, jobs), work), told)
            os._exit(0)
        os.close(sender)
        readers.append((pid, receiver))
    rows = []
    for pid, receiver in readers:
        with os.fdopen(receiver) as told:
            rows += json.loads(told.read())
        os.waitpid(pid, 0)
    counts = collections.Counter(row["found"] for row in rows)
    faults = [row for row in rows if row["found"] not in ("refused", "read")]
    seconds = round(jobs * (time.monotonic() - started) / max(mutants, 1), 3)
    return {"kind": kind.name, "mutants": mutants, **dict(counts), "seconds_each": seconds, "faults": faults}


def main() -> int:
    """Read every mutant and write the counts."""
    from result_file import write_result

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "hostile.json")
    parser.add_argument("--mutants", type=int, default=10_000, help="of all kinds together (%(default)s)")
    parser.add_argument("--only", nargs="+", default=[""], help="kinds whose name holds one of these words")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="at once (%(default)s)")
    parser.add_argument("--number", type=int, help="show this mutant of the kinds alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        every = kinds(work)
        chosen = [kind for kind in every if any(word in kind.name for word in options.only)]
        for kind in chosen:
            kind.read(kind.place)  # warms up, and is sound
        if options.number is not None:
            (work / "trial").mkdir()
            for kind in chosen:
                path, how = mutant(kind, options.number, work / "trial")
                print(kind.name, how)
                print(kind.read(path))
            return 0
        total = sum(kind.share for kind in every)
        rows = []
        for kind in chosen:
            mutants = math.ceil(options.mutants * kind.share / total)
            rows.append(shared(kind, mutants, work, options.jobs))
            if options.mutants >= LEAST:
                write_result(options.out, rows[-1], part=kind.name)
            print(json.dumps(rows[-1]), flush=True)
    faults = sum(len(row["faults"]) for row in rows)
    print(f"{sum(row['mutants'] for row in rows):,} mutants of {len(rows)} kinds, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
