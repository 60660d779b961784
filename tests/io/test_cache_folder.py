"""The folder of what is remembered: leftovers of writers that were killed go, those of writers at work stay."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aivc_graph.io.cache_folder import cache_folder


def test_leftovers_of_killed_writers_are_swept_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    cache = tmp_path / "aivc-graph"
    (cache / "baselines").mkdir(parents=True)
    killed = [cache / f"histology-ab.{done.pid}.part", cache / "baselines" / f"mean-ab.{done.pid}.part"]
    stay = [
        cache / f"histology-cd.{os.getpid()}.part",
        cache / f"histology-ef.{os.getppid()}.part",
        cache / "histology-ab.parquet",
        cache / "baselines/mine.part",
        cache / "99999999999999999999.99999999999999999999.part",
    ]
    for path in (*killed, *stay):
        path.write_text("x")
    assert cache_folder() == cache
    assert not any(path.exists() for path in killed) and all(path.exists() for path in stay)
