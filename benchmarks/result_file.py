"""What every benchmark writes: its figures, and what they were made by."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MADE = "made"
LIBRARIES = ("anndata", "numpy", "pandas", "scikit-learn", "scipy", "squidpy", "torch", "torch-geometric", "zarr")


def provenance(tree: Path) -> dict[str, Any]:
    """Return the commit of `tree`, whether anything but results differs from it, the date, libraries and machine.

    The commit is None, and nothing is dirty, where `tree` is no checkout.
    """

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=tree, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    return {
        "commit": git("rev-parse", "HEAD") or None,
        "dirty": bool(git("status", "--porcelain", "--", ".", ":!benchmarks/results")),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
    }


STARTED = provenance(ROOT)  # of the code that runs, not of what stands there when it ends


def write_result(path: Path, found: dict[str, Any], *, part: str | None = None) -> None:
    """Write figures as JSON, with `provenance` under ``made``.

    Parameters
    ----------
    part
        Put `found` under this name into what the file holds already; ``made`` then tells of each part by itself.
    """
    held = {**found, MADE: STARTED}
    if part is not None:
        there = json.loads(path.read_text()) if path.exists() else {}
        made = {name: facts for name, facts in there.pop(MADE, {}).items() if name in there}
        held = {MADE: {**made, part: STARTED}, **there, part: found}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(held, indent=1) + "\n")
