"""YAML read as plain data that remembers its lines, and written so that it reads back the same.

The rules of YAML 1.2's core schema: only ``true`` and ``false`` are booleans (``no``, ``on`` stay words), ``1e-3`` is a
number, ``012`` and dates stay words. Tags, anchors and duplicate keys are faults.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from aivc_graph.errors import ConfigError

Key = tuple[str | int, ...]
# Fits every name and number in a key.
ANY = "*"
MAX_BYTES = 10_000_000
_FAULTY: Any = object()

_PLAIN = {
    "tag:yaml.org,2002:bool": (re.compile(r"^(true|false)$"), "tf"),
    "tag:yaml.org,2002:null": (re.compile(r"^(~|null|)$"), ["~", "n", ""]),
    "tag:yaml.org,2002:int": (re.compile(r"^[-+]?(0|[1-9][0-9]*)$"), "-+0123456789"),
    "tag:yaml.org,2002:float": (
        re.compile(r"^([-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan)$"),
        "-+.0123456789",
    ),
}
_BUILD: dict[str, Any] = {
    "tag:yaml.org,2002:bool": {"true": True, "false": False}.__getitem__,
    "tag:yaml.org,2002:null": {"": None, "~": None, "null": None}.__getitem__,
    "tag:yaml.org,2002:int": int,
    "tag:yaml.org,2002:float": lambda text: float(text.replace(".inf", "inf").replace(".nan", "nan")),
    "tag:yaml.org,2002:str": str,
}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML reads it from the class

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            problem = "anchors and aliases are not read; write the value out"
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


for _tag, (_pattern, _first) in _PLAIN.items():
    _Loader.add_implicit_resolver(_tag, _pattern, list(_first))
    _Dumper.add_implicit_resolver(_tag, _pattern, list(_first))


class YamlSource:
    """Plain data of a YAML text, and the line of every key.

    Parameters
    ----------
    text
        The YAML text.
    name
        What messages call it, such as the file's name.

    Raises
    ------
    ConfigError
        Text that is not YAML, with its line. Tags, duplicate keys and keys that are not words are left out of
        ``data`` and gathered in ``faults`` as (line, message), to be reported with what else is wrong.
    """

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.lines: dict[Key, int] = {}
        self.faults: list[tuple[int, str]] = []
        try:
            node = yaml.compose(text, Loader=_Loader)
            self.data: Any = None if node is None else self._build(node, ())
            if self.data is _FAULTY:
                self.data = None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            raise ConfigError(f"{name}:{line}", str(error.problem), mend="mend the YAML there") from error
        except (yaml.YAMLError, RecursionError) as error:
            found = f"not YAML: {str(error).splitlines()[0]}"
            raise ConfigError(f"{name}:1", found, mend="save it as plain UTF-8 text") from error

    def where(self, key: Key) -> str:
        """Return ``file.yaml:LINE: dotted.key`` of a key."""
        return f"{self.name}:{self.line(key)}: {dotted(key)}".removesuffix(": ")

    def line(self, key: Key) -> int:
        """Return the line of a key, or that of the nearest key above it where it is absent."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key, 1)

    def _build(self, node: yaml.Node, key: Key) -> Any:
        self.lines.setdefault(key, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, key)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            built = [self._build(child, (*key, i)) for i, child in enumerate(node.value)]
            return [None if value is _FAULTY else value for value in built]
        if isinstance(node, yaml.ScalarNode) and node.tag in _BUILD:
            try:
                return _BUILD[node.tag](node.value)
            except (ValueError, KeyError):
                pass
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        return self._fault(node, key, f"the YAML tag {tag!r}", "plain values", "remove the tag")

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for name_node, value_node in node.value:
            name = name_node.value
            if not isinstance(name_node, yaml.ScalarNode) or name_node.tag != "tag:yaml.org,2002:str":
                shown = repr(name) if isinstance(name, str) else "that is a list or a mapping"
                self._fault(name_node, key, f"the key {shown}", "a word as key", "put it in quotes")
            elif (*key, name) in self.lines:
                first = self.lines[(*key, name)]
                self._fault(name_node, (*key, name), f"given twice, first on line {first}", mend="keep one of the two")
            else:
                self.lines[(*key, name)] = name_node.start_mark.line + 1
                value = self._build(value_node, (*key, name))
                if value is not _FAULTY:
                    built[name] = value
        return built

    def _fault(self, node: yaml.Node, key: Key, found: str, expected: str = "", mend: str = "") -> Any:
        line = node.start_mark.line + 1
        where = f"{self.name}:{line}: {dotted(key)}".removesuffix(": ")
        self.faults.append((line, str(ConfigError(where, found, expected, mend))))
        return _FAULTY


def read_yaml(path: Path) -> YamlSource:
    """Read a YAML file; a fault of the file itself is a `ConfigError` that names it."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            allowed = f"at most {MAX_BYTES // 10**6} MB"
            raise ConfigError(str(path), f"{size / 1e6:.0f} MB", allowed, "is this a configuration?")
        return YamlSource(path.read_text(encoding="utf-8"), path.name)
    except OSError as error:
        raise ConfigError(str(path), error.strerror or "not readable", mend="check the path") from error
    except UnicodeDecodeError as error:
        found = f"a byte at {error.start} that is not UTF-8"
        raise ConfigError(str(path), found, mend="save it as UTF-8 text") from error


def dump_yaml(data: Any) -> str:
    """Return plain data as YAML that `YamlSource` reads back the same."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def places(data: Any, pattern: Key, key: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Yield (key, value) of every place in `data` that `pattern` fits."""
    if not pattern:
        yield key, data
        return
    entries = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for name, value in entries:
        if pattern[0] in (ANY, name):
            yield from places(value, pattern[1:], (*key, name))


def dotted(key: Key) -> str:
    """Return a key as people write it, such as ``task.sections[0].name``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).removeprefix(".")


def parse_dotted(text: str) -> Key:
    """Return ``task.sections[0].name`` as a key; ``sections.0.name`` means the same."""
    parts = re.sub(r"\[(\d+)\]", r".\1", text).split(".")
    return tuple(int(part) if part.isdigit() else part for part in parts)
