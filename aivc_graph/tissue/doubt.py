"""What is not wrong for certain but worth a look: said aloud, and heard by whoever keeps the record."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from aivc_graph.errors import TissueError

log = logging.getLogger(__name__)
_heard: ContextVar[list[str] | None] = ContextVar("heard", default=None)


def doubt(where: str, found: str, expected: str = "", mend: str = "") -> None:
    """Say what is worth a look, in the four parts of an error; see `tell`."""
    tell(str(TissueError(where, found, expected, mend)))


def tell(text: str) -> None:
    """Log a warning, and keep it where a `doubts_heard` is open; a text is said once there."""
    heard = _heard.get()
    if heard is not None and text in heard:
        return
    log.warning("%s", text)
    if heard is not None:
        heard.append(text)


@contextmanager
def doubts_heard() -> Iterator[list[str]]:
    """Gather whatever is told inside the block, so that it can be put into a record.

    Examples
    --------
    >>> with doubts_heard() as doubts:
    ...     doubt("section A", "30 of 300 spots measured")
    >>> doubts
    ['section A: 30 of 300 spots measured']
    """
    doubts: list[str] = []
    token = _heard.set(doubts)
    try:
        yield doubts
    finally:
        _heard.reset(token)
