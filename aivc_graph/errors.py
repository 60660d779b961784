"""One root error, a child per stage; every message says where, expected, found and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AivcError(Exception):
    """Root of all errors a user can meet.

    Parameters
    ----------
    where
        File, section, table or field that is at fault.
    found
        What was found there.
    expected
        What should have been there.
    mend
        What the user can do about it.
    """

    exit_code = 2

    def __init__(self, where: str, found: str, expected: str = "", mend: str = "") -> None:
        message = f"{where}: "
        message += f"expected {expected}, found {found}" if expected else found
        if mend:
            message += f"; {mend}"
        super().__init__(message)


class ConfigError(AivcError):
    """The configuration is wrong."""


class ReadError(AivcError):
    """A file cannot be read, or is not what it says it is."""


class TissueError(AivcError):
    """A section breaks the rules of the tissue schema."""


class RegistrationError(AivcError):
    """A slide or table cannot be placed in its section's micron frame."""


class GraphError(AivcError):
    """A graph breaks its schema."""


class StoreError(AivcError):
    """A graph store or run folder is damaged, locked or of another version."""


class ModelError(AivcError):
    """A model does not fit its graph or its checkpoint."""


class QueryError(AivcError):
    """A question the virtual tissue cannot answer as put."""


class TrainingError(AivcError):
    """Training failed."""

    exit_code = 1


def nearest(name: str, known: list[str]) -> str | None:
    """Return which of the `known` a name may have been meant for, by its letters whatever their case; None if none.

    Examples
    --------
    >>> nearest("Cd3e", ["CD3D", "CD3E"]), nearest("radus", ["knn", "radius"]), nearest("x", ["knn"])
    ('CD3E', 'radius', None)
    """
    close = difflib.get_close_matches(name.casefold(), [one.casefold() for one in known], n=1, cutoff=0.6)
    alike = [one for one in known if close and one.casefold() == close[0]]
    return max(alike, key=lambda one: difflib.SequenceMatcher(None, name, one).ratio(), default=None)


def unknown_name(error: type[AivcError], where: str, kind: str, name: str, known: Iterable[str]) -> AivcError:
    """Build the error for a name that does not exist: lists what does and the nearest match."""
    names = sorted(map(str, known))
    close = nearest(str(name), names)
    shown = ", ".join(names[:30]) + (f", … {len(names) - 30} more" if len(names) > 30 else "")
    known_ones = f"(known: {shown or 'none'})"
    found = f"no {kind} named {name!r}"
    if close:
        return error(where, found, mend=f"did you mean {close!r}? {known_ones}")
    return error(where, f"{found} {known_ones}")


class Faults:
    """Gathers every fault of one thing, then raises them together.

    Examples
    --------
    >>> faults = Faults(TissueError)
    >>> faults.add("section A", "12 duplicate barcodes", mend="make them unique")
    >>> bool(faults)
    True
    """

    def __init__(self, error: type[AivcError]) -> None:
        self._error = error
        self.messages: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.messages)

    def add(self, where: str, found: str, expected: str = "", mend: str = "") -> None:
        """Note one fault; the parts are those of `AivcError`."""
        self.messages.append(str(self._error(where, found, expected, mend)))

    def raise_if_any(self) -> None:
        """Raise one error that lists every fault, or do nothing."""
        if self.messages:
            where, _, rest = self.messages[0].partition(": ")
            raise self._error(where, "\n".join([rest, *self.messages[1:]]))
