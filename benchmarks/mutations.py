"""Plant faults in a copy of the core, one at a time, and see whether its tests catch them.

Each fault is a text put in the place of another, which must stand in exactly one file of the package. Its tests are run
on the copy; all of them must pass there before anything is planted.

    python benchmarks/mutations.py [--only WORD …] [--out benchmarks/results/mutations.json]

Exits with 1 if a fault survives.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mutations_list import FAULTS, Fault
from result_file import ROOT, write_result

COPIED = ("aivc_graph", "io", "tests", "configs", "pyproject.toml")


def main() -> int:
    """Plant every fault and write which were caught."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "mutations.json")
    parser.add_argument("--only", nargs="+", default=[""], help="faults whose name holds one of these words")
    options = parser.parse_args()
    chosen = [fault for fault in FAULTS if any(word in fault.name for word in options.only)]
    with tempfile.TemporaryDirectory() as folder:
        tree = copied(Path(folder))
        places = {fault.name: place_of(fault, tree) for fault in chosen}
        related = sorted({test for fault in chosen for test in fault.tests})
        if failed := failing(tree, related):
            raise SystemExit(f"tests fail before anything is planted:\n{failed}")
        rows = [planted(fault, places[fault.name], tree) for fault in chosen]
    survived = [row["fault"] for row in rows if not row["caught_by"]]
    if chosen == list(FAULTS):
        write_result(options.out, {"planted": len(rows), "survived": survived, "faults": rows})
    print(f"{len(rows) - len(survived)} of {len(rows)} caught", *survived, sep="\n  survived: ")
    return 1 if survived else 0


def copied(folder: Path) -> Path:
    """Return a copy of the tree, links as links, without what runs left behind."""
    tree = folder / "tree"
    tree.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, tree / name)
    return tree


def place_of(fault: Fault, tree: Path) -> Path:
    """Return the one file that holds the text to be replaced, once."""
    found = [path for path in sorted((tree / "aivc_graph").rglob("*.py")) if fault.text in path.read_text()]
    if len(found) != 1 or found[0].read_text().count(fault.text) != 1:
        places = ", ".join(str(path.relative_to(tree)) for path in found) or "nowhere"
        raise SystemExit(f"{fault.name}: expected {fault.text!r} once in one file, found it in {places}")
    return found[0]


def planted(fault: Fault, path: Path, tree: Path) -> dict[str, Any]:
    """Run the tests of a fault with it in place, and take it away again."""
    original, started = path.read_text(), time.perf_counter()
    path.write_text(original.replace(fault.text, fault.planted))
    try:
        failed = failing(tree, fault.tests)
    finally:
        path.write_text(original)
    row = {"fault": fault.name, "file": str(path.relative_to(tree)), "caught_by": failed}
    print(
        "caught  " if failed else "SURVIVED", fault.name, f"{time.perf_counter() - started:.0f} s", failed, flush=True
    )
    return row


def failing(tree: Path, tests: tuple[str, ...] | list[str]) -> str:
    """Return the first test that fails, empty if all pass; a run that finds no test, or breaks down, is no answer."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(tests)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return lines[0].split(" - ")[0].split(" ", 1)[1] if done.returncode else ""


if __name__ == "__main__":
    sys.exit(main())
