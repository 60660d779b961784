"""How often stated intervals hold on each donor, and the band a new donor would need."""

from __future__ import annotations

from typing import Any

import numpy as np

from aivc_graph.evaluation.conformal import INSUFFICIENT, left_out_coverage, units_needed
from aivc_graph.evaluation.metrics.distribution import LEVELS, central, held
from aivc_graph.evaluation.scoring import Scored, rounded
from aivc_graph.evaluation.selective import risk_coverage

ALPHA = 0.1


def calibration_of(scored: Scored, *, trained_on: bool) -> dict[str, Any]:
    """Return coverage of the model's own 90 % intervals by donor, and after conformal calibration.

    Coverage is that of `held`, exact for counts too. The calibrated band is made of values, ends included, so of counts
    it holds rather more than it says.

    Each held-out donor is covered by a band from all the others: the stated interval moved outward or inward by the
    same amount at both ends, gene by gene. Where they are too few it says so, and gives no band.

    Parameters
    ----------
    scored
        A task whose answers are draws (row, draw, target), with the donor of each row.
    trained_on
        Whether the model was fitted on these donors, so that they can calibrate nothing.

    References
    ----------
    Romano, Patterson & Candès 2019, doi:10.48550/arXiv.1905.03222 (conformalised quantile regression).
    """
    assert scored.donor is not None and scored.model is not None
    bounds, donor = central(scored.model, 1 - ALPHA), scored.donor.astype(str)
    missed = np.maximum(bounds[:, 0] - scored.measured, scored.measured - bounds[:, 1])
    names = np.unique(donor)
    inside = held(scored.model, scored.measured, 1 - ALPHA)
    stated: dict[str, float | None] = {str(name): float(inside[donor == name].mean()) for name in names}
    middle, unsure = np.median(scored.model, axis=1), scored.model.std(axis=1)
    curve = risk_coverage(np.abs(middle - scored.measured), unsure)
    needed = units_needed(ALPHA) + 1
    found: dict[str, Any] = {
        "task": scored.task,
        "split": scored.split,
        "readout": scored.readout,
        "unit": "donor",
        "level": 1 - ALPHA,
        "n_units": len(names),
        "units_needed": needed,
        "coverage": {
            f"{level:.0%}": rounded(float(held(scored.model, scored.measured, level).mean())) for level in LEVELS
        },
        "stated": _summary(stated),
        "conformal": None,
        "withheld": {key: rounded(getattr(curve, key)) for key in ("area", "best", "chance")},
    }
    if trained_on:
        return found | {"reason": "the donors asked were trained on: they calibrate nothing"}
    if len(names) < needed:
        return found | {"reason": f"{INSUFFICIENT}: {len(names)} held-out donors, {needed} needed"}
    return found | {"conformal": _summary(left_out_coverage(missed, donor, ALPHA))}


def _summary(by_unit: dict[str, float | None]) -> dict[str, Any]:
    known = {name: value for name, value in by_unit.items() if value is not None}
    worst = min(known, key=known.__getitem__)
    mean = float(np.mean(list(known.values())))
    return {"coverage": rounded(mean), "worst": {"unit": worst, "coverage": rounded(known[worst])}}
