"""Name → member, with the facts each member states about itself."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from aivc_graph.errors import AivcError, ConfigError, unknown_name
from aivc_graph.settings import Settings

T = TypeVar("T")
S = TypeVar("S", bound=Settings)


class Registry(Generic[T]):
    """An extension point: every module of a folder registers one member here.

    Parameters
    ----------
    kind
        What a member is called in messages, such as ``"edge rule"``.

    Examples
    --------
    >>> RULES = Registry("rule")
    >>> @RULES.register("double")
    ... def double(x):
    ...     return 2 * x
    >>> RULES["double"](2)
    4
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._members: dict[str, T] = {}
        self.facts: dict[str, dict[str, object]] = {}

    def register(self, name: str, **facts: object) -> Callable[[T], T]:
        """Return a decorator that adds a member under `name` with its `facts`."""

        def add(member: T) -> T:
            if name in self._members and self._members[name] is not member:
                raise ConfigError(f"registry of {self.kind}s", f"{name!r} is registered twice")
            self._members[name] = member
            self.facts[name] = facts
            return member

        return add

    def get(self, name: str, where: str = "configuration", error: type[AivcError] = ConfigError) -> T:
        """Return the member called `name`, or raise an error that names the nearest match."""
        if name not in self._members:
            raise unknown_name(error, where, self.kind, name, self._members)
        return self._members[name]

    def __getitem__(self, name: str) -> T:
        return self.get(name)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._members))

    def __contains__(self, name: object) -> bool:
        return name in self._members


def import_members(package: str) -> None:
    """Import every module of `package`, so that each registers itself."""
    folder = importlib.import_module(package).__path__
    for module in pkgutil.iter_modules(folder):
        importlib.import_module(f"{package}.{module.name}")


def made(member: type[S], options: dict[str, Any], where: str, kind: str) -> S:
    """Return ``member(**options)``; `kind` is what users call such a member, such as ``design``.

    Raises
    ------
    ConfigError
        If the options do not fit: all their faults, and the options there are.
    """
    try:
        return member(**options)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, f['loc'])) or 'options'}: {f['msg']}" for f in error.errors())
        takes = ", ".join(sorted(member.model_fields))
        raise ConfigError(where, faults, mend=f"this {kind} takes: {takes}") from error
