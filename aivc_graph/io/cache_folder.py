"""Where what is costly and can be made again is remembered: the user's cache folder."""

from __future__ import annotations

import functools
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)


def cache_folder() -> Path | None:
    """Return ``$XDG_CACHE_HOME/aivc-graph``, by default in ``~/.cache``; `None` where it cannot be written."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "aivc-graph"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
        reason = "not writable"
    except OSError as error:
        reason = error.strerror or str(error)
    _warn_once(f"{folder}: {reason}; tiles and baselines are not remembered (XDG_CACHE_HOME names another place)")
    return None


@functools.cache
def _warn_once(text: str) -> None:
    """Say once what is true of every section and every task."""
    log.warning("%s", text)
