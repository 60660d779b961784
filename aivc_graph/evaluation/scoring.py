"""Score a model and its baselines on one task: results with intervals, and the model beside the best of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from aivc_graph.evaluation.intervals import Estimate, Units, estimate, holm
from aivc_graph.evaluation.metrics.metric import Answers, Array, higher_is_better, metric
from aivc_graph.evaluation.records import PREDICTORS, Axis, Comparison, Kind, Result, UnitScores

MODEL = "model"


@dataclass(frozen=True)
class Scored:
    """One task with everybody's answers.

    Parameters
    ----------
    task, axis, split, scale, modality, readout
        As in `Result`.
    measured
        (row, …) the truth, or what was measured; or a view of a table that the metrics know how to read.
    model
        (row, …) the model's answer, or a view of it; None where it has none.
    baselines, ceilings
        Answers of others by name.
    ablations
        The model's answers with one part of it taken away, by name; judged by the first metric alone.
    metrics
        Names of the metrics.
    units
        Who is resampled.
    leakage
        Share of the rows whose donor, or whose very counts, training saw too.
    similarity
        How like the nearest training unit each unit of `units` is, by its label.
    no_model
        Why the model does not answer, where it does not though it was asked.
    leaks, audit
        What stands on two sides of the question, a sentence each; and its audit, by what was looked at.
    folds
        How many rows are asked in how many folds, and from how many was learned, where there are folds.
    no_ceiling
        Why there is no ceiling, where there is none.
    donor
        Donor of each row (row,), where rows are of tissue.
    group
        Kind of each row (row,), such as its label or its context, where it has one.
    """

    task: str
    axis: Axis
    split: str
    scale: str
    modality: str
    readout: str
    measured: Answers
    model: Answers | None
    baselines: dict[str, Answers]
    metrics: tuple[str, ...]
    units: Units
    leakage: float
    ceilings: dict[str, Answers] = field(default_factory=dict)
    ablations: dict[str, Answers] = field(default_factory=dict)
    similarity: dict[str, float] = field(default_factory=dict)
    no_model: str = ""
    leaks: tuple[str, ...] = ()
    audit: dict[str, Any] = field(default_factory=dict)
    folds: dict[str, Any] = field(default_factory=dict)
    no_ceiling: str = "no replicate was measured"
    donor: Array | None = None
    group: Array | None = None

    def read(self, read: Callable[[Answers], Answers], **changes: Any) -> Scored:
        """Return the task with all that was measured and answered put through `read`, and fields `changes`."""

        def every(answers: dict[str, Answers]) -> dict[str, Answers]:
            return {who: read(answer) for who, answer in answers.items()}

        told: dict[str, Any] = {
            "model": None if self.model is None else read(self.model),
            **{kind: every(getattr(self, kind)) for kind in ("baselines", "ceilings", "ablations")},
        }
        return replace(self, **{"measured": read(self.measured), **told, **changes})


@dataclass(frozen=True)
class Judged:
    """One task by one metric: the estimate of every predictor, and of which kind each is."""

    task: Scored
    metric: str
    higher_is_better: bool
    estimates: dict[str, Estimate]
    kinds: dict[str, Kind]

    def best(self, kind: Kind) -> str | None:
        """Return the best predictor of a kind that has a score, the first of equals."""
        known = {name: self.estimates[name].value for name, of in self.kinds.items() if of == kind}
        known = {name: value for name, value in known.items() if np.isfinite(value)}
        return (max if self.higher_is_better else min)(known, key=known.__getitem__) if known else None


def score(scored: Iterable[Scored]) -> tuple[list[Result], list[Comparison]]:
    """Return the results of all tasks, and the comparisons with their p-values adjusted for their number."""
    judged = judge(scored)
    return results_of(judged), comparisons_of(judged)


def judge(scored: Iterable[Scored]) -> list[Judged]:
    """Return the estimates of everybody by every metric of every task."""
    return [_judge(one, name) for one in scored for name in one.metrics]


def _judge(one: Scored, name: str) -> Judged:
    kinds: dict[str, Kind] = {} if one.model is None else {MODEL: "model"}
    answers = {} if one.model is None else {MODEL: one.model}
    by_kind: tuple[tuple[Kind, dict[str, Answers]], ...] = (
        ("ablation", one.ablations if name == one.metrics[0] else {}),
        ("baseline", one.baselines),
        ("ceiling", one.ceilings),
    )
    for kind, given in by_kind:
        answers |= given
        kinds |= dict.fromkeys(given, kind)
    found = {who: estimate(metric(name), answer, one.measured, one.units) for who, answer in answers.items()}
    return Judged(one, name, higher_is_better(name), found, kinds)


def results_of(judged: Iterable[Judged]) -> list[Result]:
    """Return a row for every predictor."""
    return [
        _result(one.task, one.metric, one.higher_is_better, who, one.kinds[who], found)
        for one in judged
        for who, found in one.estimates.items()
    ]


def comparisons_of(judged: Iterable[Judged]) -> list[Comparison]:
    """Return the model beside its best baseline and each ablation, wherever both have a score.

    P-values are adjusted by task and readout, those of baselines apart from those of ablations.
    """
    open_ = []
    for one in judged:
        rivals = {one.best("baseline"): "baseline"} | {who: of for who, of in one.kinds.items() if of == "ablation"}
        for rival in rivals if one.best("model") is not None else ():
            if rival is not None and np.isfinite(one.estimates[rival].value):
                open_.append(_compare(one, rival))
    adjusted = holm([p for _, p in open_], [(c.task, c.readout, c.against) for c, _ in open_])
    return [c.model_copy(update={"p_adjusted": p}) for (c, _), p in zip(open_, adjusted, strict=True)]


def units_of_scores(judged: Iterable[Judged]) -> list[UnitScores]:
    """Return what everybody scores on each unit alone, so that runs can be compared unit by unit."""
    return [
        UnitScores(
            task=one.task.task,
            readout=one.task.readout,
            metric=one.metric,
            split=one.task.split,
            scale=one.task.scale,
            higher_is_better=one.higher_is_better,
            asked=fingerprint(one.task.measured),
            unit=one.task.units.name,
            names=one.task.units.labels,
            values={
                who: tuple(rounded(float(value)) for value in found.by_unit)
                for who, found in one.estimates.items()
                if one.kinds[who] in PREDICTORS
            },
        )
        for one in judged
    ]


def fingerprint(measured: Answers) -> str:
    """Return a hash of what was measured, to five decimals: equal where two runs were asked the same.

    Of responses all that a metric may look at stands in it: controls, the mean rule, noise, genes called and cells.
    """
    parts = [measured] if isinstance(measured, np.ndarray) else list(measured.arrays())
    digest = hashlib.blake2b(digest_size=8)
    for values in parts:
        rounded_off = np.round(np.asarray(values, np.float64), 5) + 0.0
        digest.update(repr(values.shape).encode() + rounded_off.tobytes())
    return digest.hexdigest()


def _result(one: Scored, name: str, better: bool, predictor: str, kind: Kind, found: Estimate) -> Result:
    lower, upper = found.bounds()
    return Result(
        task=one.task,
        axis=one.axis,
        split=one.split,
        scale=one.scale,
        modality=one.modality,
        readout=one.readout,
        metric=name,
        higher_is_better=better,
        predictor=predictor,
        kind=kind,
        value=rounded(found.value),
        lower=rounded(lower),
        upper=rounded(upper),
        unit=one.units.name,
        n_units=one.units.n,
        leakage=one.leakage,
    )


def _compare(judged: Judged, rival: str) -> tuple[Comparison, float | None]:
    one, ours, theirs = judged.task, judged.estimates[MODEL], judged.estimates[rival]
    difference = ours - theirs
    lower, upper = difference.bounds()
    compared = Comparison(
        task=one.task,
        readout=one.readout,
        metric=judged.metric,
        split=one.split,
        a=MODEL,
        b=rival,
        against=judged.kinds[rival],
        difference=rounded(difference.value) or 0.0,
        lower=rounded(lower),
        upper=rounded(upper),
        p_adjusted=None,
        higher_is_better=judged.higher_is_better,
        unit=one.units.name,
        n_units=one.units.n,
    )
    return compared, difference.p_of_none()


def rounded(value: float | None) -> float | None:
    """Return a number at six significant digits, so that files do not differ by the last bits; not a number is null."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.6g}")


def with_audits(leakage: dict[str, Any], scored: Iterable[Scored]) -> dict[str, Any]:
    """Return what leaks with the audit of each task that has one, by what was looked at and the task's name."""
    found = dict(leakage)
    for one in scored:
        for what, audited in one.audit.items():
            found[what] = {**found.get(what, {}), one.task: audited}
    return found
