"""What is wrong with a configuration, gathered and said in terms of the file: line, key, mend."""

from __future__ import annotations

import copy
import re
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from aivc_graph.errors import ConfigError, Faults, nearest, unknown_name
from aivc_graph.registry import Registry
from aivc_graph.yaml_source import ANY, Key, YamlSource, dotted, parse_dotted, places

LAST = 10**9
PLAIN_WORDS = {"a valid string": "text", "a valid tuple": "a list", "a valid dictionary": "a mapping"}


class SettingFaults:
    """Gathers the faults of one configuration, each with its place in the file or its ``--set``.

    Parameters
    ----------
    source
        The YAML the settings came from; its own faults are taken over.
    """

    def __init__(self, source: YamlSource) -> None:
        self._source = source
        self._faults = list(source.faults)
        self._overrides: dict[Key, str] = {}
        self._faulty: list[Key] = []

    def overridden(self, key: Key, name: str) -> None:
        """Note that ``--set name=…`` gave the value at `key`."""
        self._overrides[key] = name

    def add(self, key: Key, found: str, expected: str = "", mend: str = "") -> None:
        """Note one fault of the value at `key`."""
        where, line = self._place(key)
        self._faults.append((line, str(ConfigError(where, found, expected, mend))))

    def add_override(self, name: str, found: str, expected: str, mend: str) -> None:
        """Note one fault of ``--set name`` itself."""
        self._faults.append((LAST, str(ConfigError(f"--set {name}", found, expected, mend))))

    def raise_if_any(self) -> None:
        """Raise one `ConfigError` that lists every fault in the order of the file, or do nothing."""
        faults = Faults(ConfigError)
        faults.messages = list(dict.fromkeys(message for _, message in sorted(self._faults)))
        faults.raise_if_any()

    def check_member(
        self, key: Key, given: Any, registry: Registry[Any], word: str, selector: str = "kind", also: Iterable[str] = ()
    ) -> None:
        """Check a mapping whose `selector` names a member of `registry` and whose other keys are that member's options.

        `word` is what messages call a member, such as "rule"; keys in `also` are not the member's.
        """
        before = len(self._faults)
        name = given.get(selector) if isinstance(given, dict) else None
        if not isinstance(name, str):
            known = ", ".join(registry)
            self.add(key, f"{given!r:.60}", f"a mapping with `{selector}:`", f"name a {registry.kind} (known: {known})")
        elif name not in registry:
            where, line = self._place((*key, selector))
            self._faults.append((line, str(unknown_name(ConfigError, where, registry.kind, name, registry))))
        else:
            options = {option: value for option, value in given.items() if option not in (selector, *also)}
            member = registry[name]
            self.check_settings(key, options, getattr(member, "Options", member), word)
        if len(self._faults) > before:
            self._faulty.append(key)

    def check_settings(self, key: Key, options: dict[str, Any], member: type[BaseModel], word: str) -> None:
        """Check a mapping that should make a `member`; `word` is what messages call it."""
        try:
            member.model_validate(options)
        except ValidationError as error:
            self.add_validation(error, member, options, key, f"this {word} takes: ")
            self._faulty.append(key)

    def without_faulty(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return a copy of `data` without the mappings `check_member` refused, so that the rest can be checked."""
        kept = copy.deepcopy(data)
        for *above, last in dict.fromkeys(self._faulty):
            place: Any = kept
            for part in above:
                place = place[part]
            if isinstance(place, dict):
                del place[last]
        return kept

    def add_validation(
        self, error: ValidationError, settings: type[BaseModel], data: Any, key: Key = (), takes: str = "known: "
    ) -> None:
        """Note every fault pydantic found in `data`, which should have made a `settings` at `key`."""
        for local, *said in said_of(error, settings, data, takes):
            self.add((*key, *local), *said)

    def _place(self, key: Key) -> tuple[str, int]:
        for depth in range(len(key), 0, -1):
            if key[:depth] in self._overrides:
                below = dotted(key[depth:])
                return f"--set {self._overrides[key[:depth]]}" + (f": {below}" if below else ""), LAST
        return self._source.where(key), self._source.line(key)


def put_over(data: dict[str, Any], override: str, faults: SettingFaults) -> None:
    """Put ``KEY=VALUE`` into `data`; the value is read as YAML."""
    name, equals, text = (part.strip() for part in override.partition("="))
    if not equals or not name:
        faults.add_override(override, "no value", "KEY=VALUE", "write it as in `--set training.epochs=20`")
        return
    try:
        value = YamlSource(text, "--set")
    except ConfigError:
        value = None
    if value is None or value.faults:
        faults.add_override(name, repr(text), "a plain YAML value", "put it in quotes")
        return
    *above, last = key = parse_dotted(name)
    place: Any = data
    for depth, part in enumerate(above, 1):
        if isinstance(place, dict):
            if part not in place:
                faults.overridden(key[:depth], name)
            place = place.setdefault(part, {})
        else:
            place = place[part] if _is_index(part, place) else None
    if isinstance(place, dict) or _is_index(last, place):
        place[last] = value.data
        faults.overridden(key, name)
    else:
        faults.add_override(name, "no such place in the file", "a key or an index that is there", "check the key")


def _is_index(part: str | int, place: Any) -> bool:
    return isinstance(place, list) and part in range(len(place))


def said_of(
    error: ValidationError, settings: type[BaseModel], data: Any, takes: str
) -> Iterator[tuple[Key, str, str, str]]:
    """Yield the key, what was found there, what was expected and the mend of every fault pydantic found in `data`."""
    faults = error.errors(include_url=False)
    places = [_present(fault["loc"], data, missing=fault["type"] == "missing") for fault in faults]
    for fault, local in zip(faults, places, strict=True):
        # What a value might have been besides is no news where it is told what is wrong inside it.
        inside = any(len(other) > len(local) and other[: len(local)] == local for other in places)
        if not inside or fault["type"] == "value_error":
            yield local, *_parts(fault, settings, local, takes)


def _parts(fault: Any, settings: type[BaseModel], key: Key, takes: str) -> tuple[str, str, str]:
    """Return (found, expected, mend) of one pydantic fault."""
    kind, value, message = fault["type"], fault["input"], fault["msg"]
    if kind == "extra_forbidden":
        known = sorted(_settings_at(settings, key[:-1]).model_fields)
        return "unknown key", "", _nearest(str(key[-1]), known, takes)
    if kind == "missing":
        return "nothing", "a value", f"add `{key[-1]}:`"
    if kind == "value_error":
        return message.removeprefix("Value error, "), "", ""
    expected = re.split(r", (?:unable|got)| after validation", message)[0]
    expected = re.sub(r"^\w+ should (?:be|have) ", "", expected)
    expected = PLAIN_WORDS.get(expected, expected)
    mend = ""
    if kind == "string_type" and isinstance(value, int | float):
        mend = "put it in quotes"
    if kind == "literal_error":
        mend = _nearest(str(value), re.findall(r"'([^']*)'", fault["ctx"]["expected"]))
    return f"{_as_yaml(value):.60}", expected, mend


def _nearest(name: str, known: list[str], takes: str = "") -> str:
    close = nearest(name, known)
    hint = f"did you mean {close!r}?" if close else ""
    listed = ", ".join(known) or "no option"
    if hint and takes == "known: ":
        return f"{hint} (known: {listed})"
    return f"{hint} {takes}{listed if takes else ''}".strip()


def _as_yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "nothing" if value is None else repr(value)


def _present(loc: tuple[str | int, ...], data: Any, missing: bool) -> Key:
    """Return the part of pydantic's location that is a place in `data` (it also names union members)."""
    key: Key = ()
    for depth, part in enumerate(loc):
        if not _is_place(part, data):
            if depth + 1 < len(loc) and _is_place(loc[depth + 1], data):
                continue
            return (*key, part) if missing and depth == len(loc) - 1 else key
        key, data = (*key, part), data[part]
    return key


def _is_place(part: str | int, data: Any) -> bool:
    inside = isinstance(data, dict) and part in data
    return inside or (isinstance(data, list) and isinstance(part, int) and part < len(data))


def _settings_at(settings: type[BaseModel], key: Key) -> type[BaseModel]:
    """Return the settings class that holds the value at `key` below `settings`."""
    annotation: Any = settings
    for part in key:
        if isinstance(part, str) and isinstance(annotation, type) and issubclass(annotation, BaseModel):
            annotation = annotation.model_fields[part].annotation
        else:
            annotation = _member_for(annotation, part)
            annotation = typing.get_args(annotation)[-1 if typing.get_origin(annotation) is dict else 0]
    return _member_for(annotation, "")


def _member_for(annotation: Any, part: str | int) -> Any:
    """Return what of a union, or beneath an `Annotated`, holds `part`: a list an index, settings a name."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _member_for(typing.get_args(annotation)[0], part)
    if typing.get_origin(annotation) in (dict, list, tuple) or isinstance(annotation, type):
        return annotation
    members = [_member_for(member, part) for member in typing.get_args(annotation)]
    wanted = (list, tuple) if isinstance(part, int) else (dict,)
    settings = [member for member in members if isinstance(member, type) and issubclass(member, BaseModel)]
    fitting = [member for member in members if typing.get_origin(member) in wanted]
    found = fitting if isinstance(part, int) else [*settings, *fitting]
    return found[0] if found else annotation


def refuse_screen(source: YamlSource) -> None:
    """Raise a `ConfigError` if the file has a ``screen:``, as of former versions: a screen is a task like any other."""
    if isinstance(source.data, dict) and "screen" in source.data:
        raise ConfigError(source.where(("screen",)), "`screen:`", "`task:`", _as_task(source.data["screen"]))


def _as_task(screen: Any) -> str:
    """Return how a screen of former versions is written as a task, with what it says as far as it can be told."""
    given = screen if isinstance(screen, dict) else {}
    name, context = given.get("name", "NAME"), given.get("context")
    by = f"sections_by: {context}, context_by: {context}, " if context else ""
    layer = f", layer: {given['layer']}" if given.get("layer") else ""
    source = f"{{path: {given.get('path', 'FILE.h5ad')}, dissociated: true{layer}}}"
    done = f"{{column: {given.get('condition', 'COLUMN')}, control: {given.get('control', 'NAME')}, kind: knockout}}"
    return (
        f"write it as `task: {{name: {name}, sections: [{{name: {name}, {by}sources: [{source}], "
        f"interventions: {done}}}], split: {{kind: by_intervention, n_test: 1}}}}` (of log-normalised values say "
        "`values: log` of the source), with `evaluation: {questions: [{kind: by_context}]}` for more; then aivc train, "
        "and evaluate its run"
    )


def check_serial(data: dict[str, Any], faults: SettingFaults) -> None:
    """Note sections that are to be placed on one that is not listed before them, as far as names are known yet."""
    for key, on in places(data, ("task", "sections", ANY, "serial", "on")):
        before = [one for one in data["task"]["sections"][: key[2]] if isinstance(one, dict)]
        known = [str(one.get("name")) for one in before]
        if str(on) not in known and not any("sections_by" in one for one in before):
            faults.add(key, f"no section {on!r} before this one", mend=_nearest(str(on), known, "known: "))


def refuse_pairing(source: YamlSource) -> None:
    """Raise a `ConfigError` that says how to write it, where a file asks one modality of another as it once did."""
    if not isinstance(source.data, dict) or "pairing" not in source.data:
        return
    told = source.data["pairing"]
    given = told if isinstance(told, dict) else {}
    name, donor, tested = given.get("name", "NAME"), given.get("donor", "COLUMN"), given.get("test", ["DONOR"])
    rna, other = (f"path: {given.get(key, 'FILE.h5ad')}, dissociated: true" for key in ("given", "asked"))
    held_out = ", ".join(map(str, tested if isinstance(tested, list) else [tested]))
    mend = (
        f"write it as `task: {{name: {name}, sections: [{{name: {name}, sections_by: {donor}, donor_by: {donor}, "
        f"sources: [{{{rna}}}, {{{other}, modality: protein}}]}}], split: {{kind: by_group, key: donor, "
        f"test: [{held_out}]}}}}`, of the counts of both (`layer:` where they are not `X`); then aivc train, and "
        "evaluate its run"
    )
    raise ConfigError(source.where(("pairing",)), "`pairing:`", "a `task:` whose section has both modalities", mend)
