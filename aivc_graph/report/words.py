"""Small words of the page."""

from __future__ import annotations


def plural(n: int, word: str) -> str:
    """Return `word` in the number that goes with `n`."""
    return word if n == 1 else f"{word}{'es' if word.endswith('ch') else 's'}"


def words(name: str) -> str:
    """Return an identifier as words: ``neighbour_mean`` is read as "neighbour mean"."""
    return name.replace("_", " ")
