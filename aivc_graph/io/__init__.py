"""Reading and writing: `read` picks the reader by content; `write` the writer by name."""

from aivc_graph.io.reading import read
from aivc_graph.io.writing import write

__all__ = ["read", "write"]
