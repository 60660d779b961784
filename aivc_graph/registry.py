"""Name → member, with the facts each member states about itself."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from aivc_graph.errors import AivcError, ConfigError, unknown_name
from aivc_graph.settings import Settings

T = TypeVar("T")
S = TypeVar("S", bound=Settings)


class Registry(Generic[T]):
    """An extension point: every module of a package registers one member here, and so may packages of users.

    Parameters
    ----------
    kind
        What a member is called in messages, such as ``"edge rule"``.
    package
        Where the members stand. One is imported when it is asked for by name, and those of users with it; all are
        imported when they are listed.

    Examples
    --------
    >>> RULES = Registry("rule")
    >>> @RULES.register("double")
    ... def double(x):
    ...     return 2 * x
    >>> RULES["double"](2)
    4
    """

    def __init__(self, kind: str, package: str = "") -> None:
        self.kind = kind
        self._package = package
        self._members: dict[str, T] = {}
        self._facts: dict[str, dict[str, object]] = {}

    def _known(self) -> dict[str, T]:
        if self._package:
            import_members(self._package)
        return self._members

    @property
    def facts(self) -> Mapping[str, dict[str, object]]:
        """What each member states about itself, by name."""
        self._known()
        return self._facts

    def register(self, name: str, **facts: object) -> Callable[[T], T]:
        """Return a decorator that adds a member under `name` with its `facts`."""

        def add(member: T) -> T:
            if name in self._members and self._members[name] is not member:
                raise ConfigError(f"registry of {self.kind}s", f"{name!r} is registered twice")
            self._members[name] = member
            self._facts[name] = facts
            return member

        return add

    def get(self, name: str, where: str = "configuration", error: type[AivcError] = ConfigError) -> T:
        """Return the member called `name`, or raise an error that names the nearest match."""
        if self._package:
            import_member(self._package, name)
        if name not in self._members and name not in self._known():
            raise unknown_name(error, where, self.kind, name, self._members)
        return self._members[name]

    def __getitem__(self, name: str) -> T:
        return self.get(name)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._known()))

    def __contains__(self, name: object) -> bool:
        return name in self._known()


@cache
def import_member(package: str, name: str) -> None:
    """Import the module of `package` that is called as its member is, where there is one, and what users add to it."""
    if name.isidentifier() and importlib.util.find_spec(f"{package}.{name}") is not None:
        importlib.import_module(f"{package}.{name}")
    import_added(package)


@cache
def import_members(package: str) -> None:
    """Import every module of `package`, and what users' packages add to it, so that each registers itself."""
    folder = importlib.import_module(package).__path__
    for module in pkgutil.iter_modules(folder):
        importlib.import_module(f"{package}.{module.name}")
    import_added(package)


@cache
def import_added(package: str) -> None:
    """Import what installed packages of users add to `package`.

    Installed packages add to it by entry points of the group ``aivc_graph.`` and the last word of `package`, such as
    ``aivc_graph.edges`` for edge rules, or ``aivc_graph.parts`` for all kinds of operator; a value is a module, or an
    object in it.

    Raises
    ------
    ConfigError
        If an entry point cannot be loaded: names it and the distribution it belongs to.
    """
    room, _, last = package.rpartition(".")
    group = "parts" if room == "aivc_graph.operators" else last
    for point in _installed(f"aivc_graph.{group}"):
        _load(point)


@cache
def _installed(group: str) -> tuple[EntryPoint, ...]:
    return tuple(sorted(entry_points(group=group)))


def _load(point: EntryPoint) -> None:
    """Import what an entry point names; whatever goes wrong in code of others is told as theirs."""
    try:
        point.load()
    except Exception as error:
        owner = "an unnamed distribution" if point.dist is None else f"{point.dist.name} {point.dist.version}"
        where = f"entry point {point.name} = {point.value} of {owner} ({point.group})"
        raise ConfigError(
            where, f"{type(error).__name__}: {error}", mend="mend that package, or uninstall it"
        ) from error


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
