"""How many lines of code there are, and how many of tests for each: without blank lines, comments and docstrings.

A line counts if a token stands on it that the interpreter acts upon. Tests count to the room they are named after; what
is asked of all members of a kind, and whole ways, to none. The core is what is fitted.

    python benchmarks/lines.py --out benchmarks/results/lines.json
"""

from __future__ import annotations

import argparse
import json
import tokenize
from collections.abc import Iterable
from pathlib import Path

from result_file import write_result

ROOT = Path(__file__).resolve().parents[1]
CORE = ("model", "operators", "training")
PASSED_OVER = {tokenize.COMMENT, tokenize.NL}
STARTS = {tokenize.ENCODING, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/lines.json"))
    rooms = {room.name: (lines_in([room]), lines_in([ROOT / "tests" / room.name])) for room in rooms_of(ROOT)}
    core = lines_in(ROOT / "aivc_graph" / room for room in CORE), lines_in(core_tests(ROOT / "tests"))
    whole = lines_in([ROOT / "aivc_graph", ROOT / "io"]), lines_in([ROOT / "tests"])
    found = {
        name: {"code": code, "tests": tests, "tests_by_code": round(tests / code, 2)}
        for name, (code, tests) in {**rooms, "core": core, "all": whole}.items()
    }
    write_result(parser.parse_args().out, found)
    print(json.dumps(found, indent=1))


def rooms_of(root: Path) -> list[Path]:
    """Return the folders of the package that hold code."""
    return sorted(one for one in (root / "aivc_graph").iterdir() if (one / "__init__.py").exists())


def core_tests(tests: Path) -> list[Path]:
    """Return where the core is tested: its own rooms, and what is asked of every part and term."""
    suites = [one for one in (tests / "suites").glob("*.py") if "part" in one.name or "term" in one.name]
    return [*(tests / room for room in CORE), tests / "fitting.py", *suites]


def lines_in(places: Iterable[Path]) -> int:
    """Return the lines of code in files and folders."""
    files = {file for place in places for file in ([place] if place.is_file() else place.rglob("*.py"))}
    return sum(lines_of(file) for file in files)


def lines_of(file: Path) -> int:
    """Return the lines of a file on which something stands that is neither comment nor docstring."""
    lines: set[int] = set()
    starts = True
    with file.open("rb") as opened:
        for token in tokenize.tokenize(opened.readline):
            if token.type in PASSED_OVER:
                continue
            docstring = starts and token.type == tokenize.STRING
            starts = token.type in STARTS
            if not (docstring or starts or token.type == tokenize.ENDMARKER):
                lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines)


if __name__ == "__main__":
    main()
