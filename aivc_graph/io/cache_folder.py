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
            _sweep(folder)
            return folder
        reason = "not writable"
    except OSError as error:
        reason = error.strerror or str(error)
    _warn_once(f"{folder}: {reason}; tiles and baselines are not remembered (XDG_CACHE_HOME names another place)")
    return None


@functools.cache
def _sweep(folder: Path) -> None:
    """Remove what writers that were killed left: files called after a process that is no more, ``NAME.PID.part``."""
    for part in folder.rglob("*.part"):
        pid = part.suffixes[-2].removeprefix(".") if len(part.suffixes) > 1 else ""
        if pid.isdigit() and not _lives(int(pid)):
            part.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


@functools.cache
def _warn_once(text: str) -> None:
    """Say once what is true of every section and every task."""
    log.warning("%s", text)
