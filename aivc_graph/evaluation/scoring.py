"""Score a model and its baselines on one task: results with intervals, and the model beside the best of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from aivc_graph.evaluation.intervals import Estimate, Units, estimate, holm, p_of_difference
from aivc_graph.evaluation.metrics.metric import Answers, higher_is_better, metric
from aivc_graph.evaluation.records import Axis, Comparison, Result

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
        (row, …) the model's answer; or a view of it.
    baselines, ceilings, ablations
        Answers of others by name.
    metrics
        Names of the metrics.
    units
        Who is resampled.
    leakage
        Share of the rows whose donor, or whose very counts, training saw too.
    """

    task: str
    axis: Axis
    split: str
    scale: str
    modality: str
    readout: str
    measured: Answers
    model: Answers
    baselines: dict[str, Answers]
    metrics: tuple[str, ...]
    units: Units
    leakage: float
    ceilings: dict[str, Answers] = field(default_factory=dict)
    ablations: dict[str, Answers] = field(default_factory=dict)


def score(scored: Iterable[Scored]) -> tuple[list[Result], list[Comparison]]:
    """Return the results of all tasks, and the comparisons with their p-values adjusted for their number."""
    results: list[Result] = []
    open_: list[tuple[Comparison, float | None]] = []
    for one in scored:
        for name in one.metrics:
            found, compared = _score(one, name)
            results += found
            open_ += compared
    adjusted = holm([p for _, p in open_])
    return results, [c.model_copy(update={"p_adjusted": p}) for (c, _), p in zip(open_, adjusted, strict=True)]


def _score(one: Scored, name: str) -> tuple[list[Result], list[tuple[Comparison, float | None]]]:
    better, judge = higher_is_better(name), metric(name)
    answers = {MODEL: ("model", one.model)}
    for kind, given in (("ablation", one.ablations), ("baseline", one.baselines), ("ceiling", one.ceilings)):
        answers |= {predictor: (kind, answer) for predictor, answer in given.items()}
    estimates = {
        predictor: estimate(judge, answer, one.measured, one.units) for predictor, (_, answer) in answers.items()
    }
    results = [
        _result(one, name, better, predictor, answers[predictor][0], found) for predictor, found in estimates.items()
    ]
    rivals = {b: estimates[b].value for b in one.baselines if np.isfinite(estimates[b].value)}
    if not rivals or not np.isfinite(estimates[MODEL].value):
        return results, []
    best = (max if better else min)(rivals, key=rivals.__getitem__)
    return results, [_compare(one, name, better, best, estimates[MODEL], estimates[best])]


def _result(one: Scored, name: str, better: bool, predictor: str, kind: str, found: Estimate) -> Result:
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
        kind=kind,  # type: ignore[arg-type]
        value=rounded(found.value),
        lower=rounded(lower),
        upper=rounded(upper),
        unit=one.units.name,
        n_units=one.units.n,
        leakage=one.leakage,
    )


def _compare(
    one: Scored, name: str, better: bool, rival: str, ours: Estimate, theirs: Estimate
) -> tuple[Comparison, float | None]:
    paired = None if ours.draws is None or theirs.draws is None else ours.draws - theirs.draws
    difference = Estimate(ours.value - theirs.value, paired)
    lower, upper = difference.bounds()
    compared = Comparison(
        task=one.task,
        readout=one.readout,
        metric=name,
        split=one.split,
        a=MODEL,
        b=rival,
        difference=rounded(difference.value) or 0.0,
        lower=rounded(lower),
        upper=rounded(upper),
        p_adjusted=None,
        higher_is_better=better,
        unit=one.units.name,
        n_units=one.units.n,
    )
    return compared, None if lower is None or paired is None else p_of_difference(paired)


def rounded(value: float | None) -> float | None:
    """Return a number at six significant digits, so that files do not differ by the last bits; not a number is null."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.6g}")
