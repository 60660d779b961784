"""The JSON Schema agrees with what `load_config` accepts; the reference describes every key and is current."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from aivc_graph.config import load_config
from aivc_graph.errors import ConfigError
from aivc_graph.pipeline.reference import COMMAND, MEMBERS, reference
from aivc_graph.pipeline.schema import schema
from aivc_graph.registry import Registry
from aivc_graph.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = [path for path in sorted((ROOT / "configs").glob("*.yaml")) if "task:" in path.read_text()]


@pytest.fixture(scope="module")
def validator() -> Any:
    found = json.loads(json.dumps(schema()))
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_example_fits_the_schema(path: Path, validator: Any) -> None:
    assert not list(validator.iter_errors(yaml.safe_load(path.read_text())))


@pytest.mark.parametrize(
    "faulty",
    [
        "training: {epoch: 3}",
        "training: {epochs: many}",
        "graph: {edges: {cell: {kind: radus, radius_um: 30}}}",
        "graph: {edges: {cell: {kind: knn, radius_um: 30}}}",
        "task: {split: {kind: by_group, keys: donor}}",
        "task: {sections: [{name: a, sources: [{path: x, reader: xenium, spatial_key: s}]}]}",
        "task: {sections: [{name: a, sources: [{reader: xenium}]}]}",
        "task: {sections: [{sources: [{path: x}]}]}",
        "model: {lift: {kind: none_such}}",
    ],
)
def test_what_the_loader_refuses_the_schema_refuses(faulty: str, validator: Any, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(faulty)
    with pytest.raises(ConfigError):
        load_config(tmp_path / "x.yaml")
    assert list(validator.iter_errors(yaml.safe_load(faulty)))


def test_a_source_without_a_reader_has_options_of_some_reader(validator: Any) -> None:
    source = {"path": "x", "spatial_key": "s"}
    given = {"task": {"sections": [{"name": "a", "sources": [source]}]}}
    assert not list(validator.iter_errors(given))
    source["no_such_option"] = "s"
    assert list(validator.iter_errors(given))


def settings_below(one: type[Settings]) -> Iterator[type[Settings]]:
    from aivc_graph.pipeline.reference import _sections

    yield from (found for _, found in _sections("", one))


def test_every_key_and_option_has_a_meaning() -> None:
    from aivc_graph.config import Config

    members = [
        getattr(member, "Options", member)
        for registries, _ in MEMBERS.values()
        for registry in (registries.values() if isinstance(registries, dict) else [registries])
        for member in (registry[name] for name in registry)
    ]
    silent = [
        f"{one.__name__}.{name}"
        for one in [*settings_below(Config), *members]
        for name in one.model_fields
        if not one.descriptions().get(name)
    ]
    assert not silent, "describe them under Parameters of the class"


def test_the_written_reference_is_current() -> None:
    written = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert written == reference(), f"run {COMMAND}"


def test_a_description_is_taken_from_the_nearest_class() -> None:
    class Base(Settings):
        """Base.

        Parameters
        ----------
        a, b
            Of the base,
            over two lines [µm].
        """

        a: int = 0
        b: int = 0

    class Own(Base):
        """Own.

        Parameters
        ----------
        b
            Own.

        Raises
        ------
        c
            Not a field.
        """

        c: int = 0

    assert Own.descriptions() == {"a": "Of the base, over two lines [µm].", "b": "Own."}


def test_the_verb_prints_both(say: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = say("schema")
    assert code == 0 and json.loads(out) == json.loads(json.dumps(schema()))
    assert say("schema", "--reference")[1] == reference()


def test_a_member_of_a_users_package_is_in_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    from aivc_graph.graph.edges.rule import EDGES, AbstractEdges

    class Mine(AbstractEdges):
        """Mine."""

        reach_um: float = 1.0

    registry: Registry[Any] = EDGES
    monkeypatch.setitem(registry._known(), "mine", Mine)
    cell = {"graph": {"edges": {"cell": {"kind": "mine", "reach_um": 2}}}}
    assert not list(jsonschema.Draft202012Validator(schema()).iter_errors(cell))
