"""How often stated intervals hold on each donor and each kind of node, and the band that a new unit would need."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aivc_graph.evaluation.conformal import INSUFFICIENT, left_out_coverage, units_needed
from aivc_graph.evaluation.metrics.distribution import LEVELS, central
from aivc_graph.evaluation.metrics.metric import Array
from aivc_graph.evaluation.responses.views import Measured, Predicted
from aivc_graph.evaluation.scoring import Scored, rounded
from aivc_graph.evaluation.selective import risk_coverage

ALPHA = 0.1
Names = NDArray[np.str_]


def calibration_of(scored: Scored, *, trained_on: bool) -> dict[str, Any]:
    """Return coverage of the model's own 90 % intervals by donor and kind, and after conformal calibration.

    Each held-out donor is covered by a band from all the others: the stated interval moved outward or inward by the
    same amount at both ends, gene by gene. ``by_group`` does the same within each kind of node, so that no kind is paid
    for by another. Where donors are too few it says so, and gives no band.

    Parameters
    ----------
    scored
        A task whose answers are draws (row, draw, target), with the donor of each row, and its kind where it has one.
    trained_on
        Whether the model was fitted on these donors, so that they can calibrate nothing.

    References
    ----------
    Romano, Patterson & Candès 2019, doi:10.48550/arXiv.1905.03222 (conformalised quantile regression).
    """
    assert scored.donor is not None and scored.model is not None
    bounds, donor = central(scored.model, 1 - ALPHA), scored.donor.astype(str)
    missed = np.maximum(bounds[:, 0] - scored.measured, scored.measured - bounds[:, 1])
    middle, unsure = np.median(scored.model, axis=1), scored.model.std(axis=1)
    curve = risk_coverage(np.abs(middle - scored.measured), unsure)
    found = _facts(scored, "donor", donor) | {
        "coverage": {f"{level:.0%}": _covered(scored.model, scored.measured, level) for level in LEVELS},
        "stated": _summary({str(one): _held(missed[donor == one]) for one in np.unique(donor)}),
        "withheld": {key: rounded(getattr(curve, key)) for key in ("area", "best", "chance")},
    }
    if trained_on:
        return found | {"conformal": None, "reason": "the donors asked were trained on: they calibrate nothing"}
    return found | _band(missed, donor, "donor", scored.group, stated=True)


def bands_of(scored: Scored) -> dict[str, Any] | None:
    """Return how often a band around a model's profiles of a screen holds, calibrated on the other units.

    The unit is what the question holds out: a condition, or a context where whole contexts are asked. The band is
    ``|measured - predicted|`` gene by gene; ``by_group`` is of each context. ``None`` where it is no such task.
    """
    if not isinstance(scored.model, Predicted) or not isinstance(scored.measured, Measured):
        return None
    across = scored.axis == "context" and scored.group is not None
    kind = "context" if across else scored.units.name
    unit = np.asarray(scored.group if across else np.array(scored.units.labels)[scored.units.code]).astype(str)
    missed = np.abs(scored.measured.profile - scored.model.profile)
    group = None if across else scored.group
    return _facts(scored, kind, unit) | {"stated": None} | _band(missed, unit, kind, group, stated=False)


def _facts(scored: Scored, kind: str, unit: Names) -> dict[str, Any]:
    named = {"task": scored.task, "split": scored.split, "readout": scored.readout, "unit": kind}
    return named | {"level": 1 - ALPHA, "n_units": len(np.unique(unit)), "units_needed": units_needed(ALPHA)}


def _band(missed: Array, unit: Names, kind: str, group: Names | None, *, stated: bool) -> dict[str, Any]:
    """Return coverage of each unit by the band of the others, or why there is none; and the same within each kind."""
    found: dict[str, Any] = {"conformal": None}
    if reason := _too_few(unit, kind):
        found["reason"] = reason
    else:
        found["conformal"] = _summary(left_out_coverage(missed, unit, ALPHA))
    if group is not None and len(kinds := np.unique(group)) > 1:
        parts = {str(one): _within(missed[group == one], unit[group == one], kind, stated=stated) for one in kinds}
        found["by_group"] = parts
        found["worst_group"] = {
            key: None if not known else {"group": min(known, key=known.__getitem__), "coverage": min(known.values())}
            for key in (("stated", "conformal") if stated else ("conformal",))
            for known in [{name: part[key] for name, part in parts.items() if part[key] is not None}]
        }
    return found


def _within(missed: Array, unit: Names, kind: str, *, stated: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"n_units": len(np.unique(unit)), "conformal": None}
    if stated:
        found["stated"] = rounded(_held(missed))
    if reason := _too_few(unit, kind):
        return found | {"reason": reason}
    known = [value for value in left_out_coverage(missed, unit, ALPHA).values() if value is not None]
    return found | {"conformal": rounded(float(np.mean(known)))}


def _too_few(unit: Names, kind: str) -> str:
    """Return why units give no band that can be looked at, empty where they do."""
    n, needed = len(np.unique(unit)), units_needed(ALPHA)
    if n < needed:
        return f"{INSUFFICIENT}: {n} of {needed} {kind}s"
    return "" if n > needed else f"{INSUFFICIENT}: {n} {kind}s give a band, one more is needed to look at it"


def _held(missed: Array) -> float:
    return float((missed <= 1e-6).mean())


def _covered(draws: Array, measured: Array, level: float) -> float | None:
    """Return the share of values inside the central interval of the draws, over all donors."""
    low, high = np.moveaxis(central(draws, level), 1, 0)
    return rounded(float(((low <= measured + 1e-6) & (measured <= high + 1e-6)).mean()))


def _summary(by_unit: dict[str, float | None]) -> dict[str, Any]:
    known = {name: value for name, value in by_unit.items() if value is not None}
    worst = min(known, key=known.__getitem__)
    mean = float(np.mean(list(known.values())))
    return {"coverage": rounded(mean), "worst": {"unit": worst, "coverage": rounded(known[worst])}}
