"""Answers of costly baselines by content: the same rule on the same scene is worked out once."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import inspect
import io
import logging
import os
import time
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)
Array = NDArray[Any]

MOST_BYTES = 512 * 2**20
# One answer takes at most this, so that it does not drive all others out.
MOST_OF_ONE = MOST_BYTES // 8
LIBRARIES = ("numpy", "scipy", "scikit-learn")


class RememberedAnswers:
    """Answers as ``.npz`` files without pickle, named by a hash of the whole scene, the rule and its source.

    Any change of a value, of a rule's source or of a library's version is another name. A file that is torn, or does
    not fit the scene, is made anew. Those not used for longest go first once there are more than 512 MiB.

    Parameters
    ----------
    folder
        Where the files lie; made if need be.
    scene
        A dataclass of arrays, all of which stand in the name: what a rule may not look at as well.
    """

    def __init__(self, folder: Path, scene: Any) -> None:
        self._folder = folder / "baselines"
        self._scene = _digest_of_arrays(scene)
        self._rows = int(scene.asked.sum())

    def get(self, name: str, rule: Any) -> Array | None:
        """Return what the baseline called `name` said of this scene, or `None`."""
        path = self._path(name, rule)
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as found:
                answer: Array = found["answer"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            log.warning("%s: damaged answer set aside, %s is worked out anew (%s)", path, name, error)
            return None
        if answer.ndim == 0 or len(answer) != self._rows:
            log.warning("%s: an answer of %s to something else set aside", path, name)
            return None
        with contextlib.suppress(OSError):
            _used_now(path)
        return answer

    def put(self, name: str, rule: Any, answer: Array) -> None:
        """Remember what it said, beside the final name and then in its place; where that fails, say so and go on."""
        if answer.nbytes > MOST_OF_ONE:
            return
        path = self._path(name, rule)
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                np.savez(file, answer=answer)
            _used_now(part)
            part.replace(path)
            _drop_oldest(path.parent)
        except OSError as error:
            log.warning("%s: cannot be written, %s is not remembered (%s)", path, name, error.strerror or error)
        finally:
            with contextlib.suppress(OSError):
                part.unlink()

    def _path(self, name: str, rule: Any) -> Path:
        key = "\n".join((self._scene, name, _digest_of_source(inspect.getfile(rule)), _libraries()))
        return self._folder / f"{name}-{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}.npz"


def _digest_of_arrays(scene: Any) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for field in dataclasses.fields(scene):
        value = getattr(scene, field.name)
        array = value if isinstance(value, np.ndarray) else np.asarray([] if value is None else value)
        digest.update(f"{field.name} {value is None} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


@functools.cache
def _digest_of_source(file: str) -> str:
    """Return a hash of the rule's own file and of all rules beside it, which it may call."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted({Path(file), *Path(__file__).parent.glob("*.py")}):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@functools.cache
def _libraries() -> str:
    return " ".join(f"{name} {version(name)}" for name in LIBRARIES)


def _used_now(path: Path) -> None:
    """Set when a file was last used; the kernel's own stamp stands still for milliseconds, and orders nothing then."""
    now = time.time_ns()
    os.utime(path, ns=(now, now))


def _drop_oldest(folder: Path) -> None:
    """Delete what was not used for longest until all of it fits; another process may delete as well."""
    found = []
    for path in folder.glob("*.npz"):
        with contextlib.suppress(FileNotFoundError):
            facts = path.stat()
            found.append((facts.st_mtime_ns, facts.st_size, path))
    whole = sum(size for _, size, _ in found)
    for _, size, path in sorted(found, key=lambda one: one[0]):
        if whole <= MOST_BYTES:
            return
        path.unlink(missing_ok=True)
        whole -= size
