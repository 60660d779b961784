"""A file of results that cannot be believed is refused, with everything that is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aivc_graph.errors import StoreError
from aivc_graph.evaluation.records import AXES, Evaluation, json_schema, read_evaluation, schema_text

RESULT: dict[str, Any] = {
    "task": "t",
    "axis": "scale",
    "split": "test",
    "scale": "patch",
    "modality": "rna",
    "readout": "genes",
    "metric": "rmse_log",
    "higher_is_better": False,
    "value": 0.5,
    "lower": 0.4,
    "upper": 0.6,
    "unit": "donor",
    "n_units": 7,
    "leakage": 0.0,
}


def content(**changes: Any) -> dict[str, Any]:
    both = [{**RESULT, "predictor": name, "kind": kind} for name, kind in (("model", "model"), ("mean", "baseline"))]
    compared = {
        key: RESULT[key] for key in ("task", "readout", "metric", "split", "unit", "n_units", "higher_is_better")
    }
    compared |= {"a": "model", "b": "mean", "difference": -0.1, "lower": -0.2, "upper": 0.0, "p_adjusted": 0.04}
    whole = {
        "schema_version": 1,
        "provenance": {},
        "risk": dict.fromkeys(AXES, "not evaluated"),
        "leakage": {"by_split": {"test": 0.0}},
        "results": both,
        "comparisons": [compared],
    }
    return whole | changes


def written(path: Path, found: Any) -> Path:
    path.write_text(found if isinstance(found, str) else json.dumps(found))
    return path


def test_what_is_whole_is_read_back(tmp_path: Path) -> None:
    found = read_evaluation(written(tmp_path / "evaluation.json", content()))
    assert found == Evaluation.model_validate(found.model_dump(mode="json"))
    assert found.results[0].interval == 0.95


def without(key: str) -> dict[str, Any]:
    whole = content()
    for result in whole["results"]:
        del result[key]
    return whole


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (content(results=content()["results"][:1]), "t · genes · rmse_log · test: no baseline beside model"),
        (content(comparisons=[]), "no comparison of the model with its best baseline"),
        (content(leakage={}), "no figure for the split 'test'"),
        (content(risk={}), "axis 'modality' missing"),
        (content(results=[]), "results"),
        (without("split"), "results.0.split: Field required"),
        (without("leakage"), "results.1.leakage: Field required"),
        (content(extra=1), "extra: Extra inputs are not permitted"),
        (content(schema_version=2), "expected version 1, found schema version 2"),
        ("{", "run aivc evaluate again"),
    ],
)
def test_what_cannot_be_believed_is_refused(tmp_path: Path, found: Any, said: str) -> None:
    with pytest.raises(StoreError) as raised:
        read_evaluation(written(tmp_path / "evaluation.json", found))
    assert said in str(raised.value) and "evaluation.json" in str(raised.value)


def test_all_faults_are_said_at_once(tmp_path: Path) -> None:
    broken = content(results=content()["results"][:1], leakage={}, risk={})
    with pytest.raises(StoreError, match=r"no baseline.*no figure for the split.*axis 'modality' missing"):
        read_evaluation(written(tmp_path / "evaluation.json", broken))


def test_schema_names_what_must_be_there() -> None:
    schema = json_schema()
    assert {"provenance", "risk", "leakage", "results"} <= set(schema["required"])
    assert {"split", "leakage", "kind", "unit"} <= set(schema["$defs"]["Result"]["required"])


def test_the_published_schema_is_current() -> None:
    file = Path(__file__).resolve().parents[2] / "docs" / "evaluation-1.schema.json"
    anew = "write it anew, from aivc_graph.evaluation.records.schema_text()"
    assert file.read_text() == schema_text(), anew
    assert json_schema()["properties"]["schema_version"]["const"] == 1


def test_a_value_is_there_for_every_unit(tmp_path: Path) -> None:
    unit = {key: RESULT[key] for key in ("task", "readout", "metric", "split", "scale", "unit", "higher_is_better")}
    unit |= {"asked": "a", "names": ["d1", "d2"], "values": {"model": [0.1, None]}}
    assert (
        read_evaluation(written(tmp_path / "evaluation.json", content(units=[unit]))).units[0].values["model"][1]
        is None
    )
    unit["values"] = {"model": [0.1]}
    with pytest.raises(StoreError, match="2 units, but not as many values of model"):
        read_evaluation(written(tmp_path / "evaluation.json", content(units=[unit])))
