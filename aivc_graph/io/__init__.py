"""Reading and writing: `read` picks the reader by content; `write` the writer by name."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aivc_graph.io.reading import read
    from aivc_graph.io.writing import write

__all__ = ["read", "write"]
_DEFINED_IN = {"read": "aivc_graph.io.reading", "write": "aivc_graph.io.writing"}


def __getattr__(name: str) -> Any:
    if name in _DEFINED_IN:
        return getattr(importlib.import_module(_DEFINED_IN[name]), name)
    raise AttributeError(f"module 'aivc_graph.io' has no attribute {name!r}")
