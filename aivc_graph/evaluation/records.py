"""What ``evaluation.json`` holds: results, comparisons, leakage and provenance; no result without its baselines."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from aivc_graph.errors import StoreError
from aivc_graph.io.h5ad_file import file_hashes
from aivc_graph.settings import Settings

SCHEMA_VERSION = 1
WEIGHTS = "model.safetensors"
Axis = Literal["modality", "scale", "context", "intervention"]
AXES: tuple[Axis, ...] = ("modality", "scale", "context", "intervention")
Kind = Literal["model", "ablation", "baseline", "ceiling"]
# Who stands for itself: an ablation is a part of the model, a ceiling a repeat of what was measured.
PREDICTORS: tuple[Kind, ...] = ("model", "baseline")
Number = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]


class Result(Settings):
    """One score: a row of a table.

    Parameters
    ----------
    task, axis, split, scale, modality, readout
        What was asked, which of the four axes it belongs to, on which nodes (``test``, ``validation``, or ``hidden``:
        training nodes whose observation was taken away), at which level, from and to which modality, in which terms.
    metric, higher_is_better
        How it was scored.
    predictor, kind
        Who answered.
    value, lower, upper, interval
        The score and its interval; the bounds are null where there are too few units to resample.
    unit, n_units
        What was resampled, and how many there were.
    leakage
        Share of the scored nodes whose donor, or whose very counts, training saw too.
    """

    task: Text
    axis: Axis
    split: Text
    scale: Text
    modality: Text
    readout: Text
    metric: Text
    higher_is_better: bool
    predictor: Text
    kind: Kind
    value: Number | None
    lower: Number | None
    upper: Number | None
    interval: float = Field(0.95, gt=0, lt=1)
    unit: Text
    n_units: int = Field(ge=0)
    leakage: float = Field(ge=0, le=1)


class Comparison(Settings):
    """The model less another, on the same resampled units; `p_adjusted` by Holm within a task and readout.

    The other is the best baseline, or the model with one part of it taken away, as `against` says.
    """

    task: Text
    readout: Text
    metric: Text
    split: Text
    a: Text
    b: Text
    against: Literal["baseline", "ablation"] = "baseline"
    difference: Number
    lower: Number | None
    upper: Number | None
    p_adjusted: float | None = Field(ge=0, le=1)
    higher_is_better: bool
    unit: Text
    n_units: int = Field(ge=0)


class UnitScores(Settings):
    """What everybody scores on each unit of one task by one metric: the pairs that two runs are compared by.

    Parameters
    ----------
    asked
        Hash of what was measured; two runs with another one were asked something else.
    names
        The units, in the order of `values`.
    values
        By predictor; null where the metric says nothing of a unit.
    """

    task: Text
    readout: Text
    metric: Text
    split: Text
    scale: Text
    higher_is_better: bool
    asked: Text
    unit: Text
    names: tuple[str, ...]
    values: dict[str, tuple[Number | None, ...]]

    @model_validator(mode="after")
    def _a_value_a_unit(self) -> Self:
        odd = [who for who, values in self.values.items() if len(values) != len(self.names)]
        if odd:
            raise ValueError(f"{len(self.names)} units, but not as many values of {', '.join(odd)}")
        return self


class Evaluation(Settings):
    """All scores of one run.

    Parameters
    ----------
    provenance
        Run, graph, versions and seed behind the scores.
    risk
        What each of the four axes says; an axis that was not run reads ``"not evaluated"``.
    leakage
        How leakage was measured, and its figure by split.
    units
        Scores unit by unit.
    calibration
        By task: how often intervals hold, and the band that donors held out would need.
    inversions
        Where ranking by a readout and by reconstruction error disagree.
    assays
        By level, modality and section: whether what the model draws looks like what was measured.
    type_contacts
        By level, distance and pair of types: how many of one lie around one of the other, measured and drawn.
    cycles
        By pair of levels: how far lift and project lead astray, in units of the noise of a measurement.
    anchors
        By level told, share and shift of anchors: how well cells and spots tell each other, where that was asked.
    card
        What the run assumes, what it was trained and scored on, and what was not evaluated.
    """

    schema_version: Literal[1] = 1
    provenance: dict[str, Any]
    risk: dict[str, Any]
    leakage: dict[str, Any]
    results: tuple[Result, ...] = Field(min_length=1)
    comparisons: tuple[Comparison, ...] = ()
    units: tuple[UnitScores, ...] = ()
    calibration: tuple[dict[str, Any], ...] = ()
    inversions: tuple[dict[str, Any], ...] = ()
    assays: tuple[dict[str, Any], ...] = ()
    type_contacts: tuple[dict[str, Any], ...] = ()
    cycles: tuple[dict[str, Any], ...] = ()
    anchors: tuple[dict[str, Any], ...] = ()
    card: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _stands_beside_baselines(self) -> Self:
        faults = list(faults_of(self.results, self.comparisons, self.leakage))
        faults += [f"risk: axis {axis!r} missing; write 'not evaluated'" for axis in AXES if axis not in self.risk]
        if faults:
            raise ValueError("; ".join(faults))
        return self


def faults_of(results: Iterable[Result], comparisons: Iterable[Comparison], leakage: dict[str, Any]) -> Iterable[str]:
    """Yield what keeps results from being believed: no baseline, no comparison, no leakage figure of their split."""
    kinds: dict[tuple[str, ...], set[str]] = {}
    scored: dict[tuple[str, ...], set[str]] = {}
    for result in results:
        named: tuple[str, ...] = (result.task, result.readout, result.metric, result.split)
        kinds.setdefault(named, set()).add(result.kind)
        if result.value is not None:
            scored.setdefault(named, set()).add(result.kind)
    compared = {(c.task, c.readout, c.metric, c.split) for c in comparisons if c.against == "baseline"}
    for key, found in kinds.items():
        where = " · ".join(key)
        if "baseline" not in found:
            yield f"{where}: no baseline beside {', '.join(sorted(found))}"
        elif {"model", "baseline"} <= scored.get(key, set()) and key not in compared:
            yield f"{where}: no comparison of the model with its best baseline"
    for split in sorted({key[-1] for key in kinds} - set(leakage.get("by_split", {}))):
        yield f"leakage: no figure for the split {split!r}"


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of ``evaluation.json``; `schema_version` in it says which."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Evaluation.model_json_schema()}


def schema_text() -> str:
    """Return the JSON schema as the file that is published beside the documentation."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


def read_evaluation(path: Path, run: Path | None = None) -> Evaluation:
    """Return what ``evaluation.json`` holds.

    Parameters
    ----------
    run
        The run folder that the scores must be of; the folder that they lie in if not given.

    Raises
    ------
    StoreError
        If it cannot be read, is of another version or another model than the run's, or breaks the rules; all faults at
        once.
    """
    try:
        found = json.loads(path.read_text())
        version = found.get("schema_version") if isinstance(found, dict) else None
        if version != SCHEMA_VERSION:
            mend = "use the version of aivc-graph that wrote it, or run aivc evaluate again"
            raise StoreError(str(path), f"schema version {version}", f"version {SCHEMA_VERSION}", mend)
        evaluation = Evaluation.model_validate(found)
        _check_model(evaluation, path, path.parent if run is None else run)
        return evaluation
    except (OSError, ValueError) as error:
        shown = "; ".join(_fault(f) for f in error.errors()) if isinstance(error, ValidationError) else str(error)
        raise StoreError(str(path), shown, mend="run aivc evaluate again") from error


def _check_model(evaluation: Evaluation, path: Path, run: Path) -> None:
    """Raise a `StoreError` if scores of a run are not of the weights that lie in its folder."""
    weights = run / WEIGHTS
    scored = dict(evaluation.provenance.get("files") or {}).get(WEIGHTS)
    if scored is not None and weights.is_file() and scored != file_hashes(weights)[WEIGHTS]:
        raise StoreError(str(path), "scores of another model than the run's", mend="run aivc evaluate again")


def _fault(fault: Any) -> str:
    place = ".".join(map(str, fault["loc"]))
    return f"{place}: {fault['msg']}" if place else str(fault["msg"])
