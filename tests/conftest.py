"""Where the real data lies, for every test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of real data, ``AIVC_DATA`` or ``../shared/data``; skip where it is absent."""
    folder = Path(os.environ.get("AIVC_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data absent: {folder} (set AIVC_DATA)")
    return folder
