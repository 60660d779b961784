"""The JSON Schema of the YAML file, so that an editor completes keys and marks faults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aivc_graph.config import Config, RegistrationConfig, SourceConfig
from aivc_graph.graph.edges.rule import EDGES
from aivc_graph.io.reading import READERS
from aivc_graph.model.settings import BY_NAME, ONE_MEMBER
from aivc_graph.operators.part import KINDS
from aivc_graph.registry import Registry
from aivc_graph.settings import Settings
from aivc_graph.splits.design import DESIGNS
from aivc_graph.tissue.registration.method import REGISTRATIONS

DRAFT = "https://json-schema.org/draft/2020-12/schema"
READER, KIND = "reader", "kind"
_REF = "#/$defs/{model}"
Node = dict[str, Any]


def schema() -> Node:
    """Return the JSON Schema of a configuration, the options of every registered member included.

    Examples
    --------
    >>> sorted(schema()["properties"])
    ['evaluation', 'graph', 'model', 'task', 'training']
    """
    defs: dict[str, Node] = {}
    root = _described(Config, defs)
    model = defs["ModelConfig"]["properties"]
    for kind in (*ONE_MEMBER, *BY_NAME):
        chosen = _choice(KINDS[kind], KIND, {}, defs)
        _put(model[kind], {"type": "object", "additionalProperties": chosen} if kind in BY_NAME else chosen)
    _put(defs["GraphConfig"]["properties"]["edges"], {"additionalProperties": _choice(EDGES, KIND, {}, defs)})
    _put(defs["TaskConfig"]["properties"]["split"], {"anyOf": [_choice(DESIGNS, KIND, {}, defs), {"type": "null"}]})
    defs["RegistrationConfig"] = _choice(REGISTRATIONS, KIND, defs["RegistrationConfig"]["properties"], defs)
    defs["SourceConfig"] = _choice(READERS, READER, defs["SourceConfig"]["properties"], defs, needs=("path",))
    for settings in (SourceConfig, RegistrationConfig):
        defs[settings.__name__]["description"] = _first_line(settings)
    return {"$schema": DRAFT, "title": "aivc-graph configuration", **root, "$defs": dict(sorted(defs.items()))}


def _choice(
    registry: Registry[Any], selector: str, own: Mapping[str, Node], defs: dict[str, Node], needs: Iterable[str] = ()
) -> Node:
    """Return the schema of a mapping whose `selector` names a member and whose other keys are that member's options.

    A source without a reader is recognised by content: it may have the options of any.
    """
    own = {name: node for name, node in own.items() if name != selector}
    forms, everything = [], dict(own)
    for name in registry:
        member = registry[name]
        options = _described(getattr(member, "Options", member), defs)
        properties = {selector: {"const": name, "description": _first_line(member)}, **own, **options["properties"]}
        everything |= options["properties"]
        required = [selector, *needs, *options.get("required", ())]
        forms.append({"properties": properties, "required": required, "additionalProperties": False})
    if needs:
        forms.append({"properties": everything, "required": [*needs], "additionalProperties": False})
    return {"type": "object", "anyOf": forms}


def _described(settings: type[Settings], defs: dict[str, Node]) -> Node:
    """Return the schema of one settings class, fields described; those of classes within go to `defs`."""
    node = settings.model_json_schema(ref_template=_REF)
    node["properties"] = node.get("properties", {})
    found = {**node.pop("$defs", {}), settings.__name__: node}
    for one in _within(settings):
        if one.__name__ in found:
            described = found[one.__name__]
            described["description"] = _first_line(one)
            for name, text in one.descriptions().items():
                described["properties"][name]["description"] = text
    defs |= {name: one for name, one in found.items() if name != settings.__name__}
    return node


def _within(settings: type[Settings]) -> list[type[Settings]]:
    """Return `settings` and all settings classes there are that it could hold."""
    classes, waiting = [settings], [Settings]
    while waiting:
        found = waiting.pop().__subclasses__()
        classes += found
        waiting += found
    return classes


def _put(node: Node, what: Node) -> None:
    """Put `what` in place of a node's type; its description and default stay."""
    for key in ("type", "anyOf", "additionalProperties", "items"):
        node.pop(key, None)
    node |= what


def _first_line(member: Any) -> str:
    return (member.__doc__ or "").strip().split("\n")[0]
