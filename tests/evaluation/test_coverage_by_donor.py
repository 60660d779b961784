"""Intervals that are too narrow are found so donor by donor, and mended only where there are donors to mend them by."""

from __future__ import annotations

import numpy as np
import pytest

from aivc_graph.evaluation.calibration import calibration_of
from aivc_graph.evaluation.intervals import units_of
from aivc_graph.evaluation.scoring import Scored


def task(n_donors: int, spread: float, rare: float = 1.0) -> Scored:
    """Return normal values of donors, 30 nodes each, every tenth `rare` times as wide, and draws of a spread."""
    rng = np.random.default_rng(0)
    donor = np.repeat([f"d{i:02d}" for i in range(n_donors)], 30)
    measured = rng.normal(size=(len(donor), 4))
    kind = np.where(np.arange(len(donor)) % 10 == 0, "rare", "common")
    measured[kind == "rare"] *= rare
    return Scored(
        task="t",
        axis="context",
        split="test",
        scale="cell",
        modality="rna",
        readout="genes, distribution",
        measured=measured,
        model=spread * rng.normal(size=(len(donor), 99, 4)),
        baselines={},
        metrics=("crps",),
        units=units_of(donor, donor),
        leakage=0.0,
        donor=donor,
        group=kind,
    )


@pytest.mark.parametrize("spread", [0.4, 1.0, 3.0])
def test_a_band_from_other_donors_holds_what_the_stated_interval_does_not(spread: float) -> None:
    found = calibration_of(task(30, spread), trained_on=False)
    stated = {0.4: (0.4, 0.6), 1.0: (0.86, 0.92), 3.0: (0.99, 1.0)}[spread]
    assert stated[0] < found["stated"]["coverage"] <= stated[1]
    assert found["coverage"]["90%"] == pytest.approx(found["stated"]["coverage"], abs=1e-4)
    assert 0.89 < found["conformal"]["coverage"] < 0.96
    assert found["conformal"]["worst"]["coverage"] < found["conformal"]["coverage"]


def test_few_donors_or_donors_that_were_trained_on_mend_nothing() -> None:
    found = calibration_of(task(9, 0.4), trained_on=False)
    assert found["conformal"] is None and found["reason"].startswith("insufficient groups: 9 donors give a band")
    assert calibration_of(task(1, 0.4), trained_on=False)["reason"] == "insufficient groups: 1 of 9 donors"
    assert calibration_of(task(10, 0.4), trained_on=False)["conformal"] is not None
    assert "trained on" in calibration_of(task(30, 0.4), trained_on=True)["reason"]


def test_a_rare_kind_is_not_paid_for_by_the_common_one() -> None:
    found = calibration_of(task(30, 1.0, rare=4.0), trained_on=False)
    assert found["by_group"]["rare"]["stated"] < 0.45 and found["worst_group"]["stated"]["group"] == "rare"
    assert found["conformal"]["coverage"] > 0.89  # over all nodes alike the band seems to hold
    for kind in ("rare", "common"):
        assert 0.89 < found["by_group"][kind]["conformal"] < 0.97
    assert found["worst_group"]["conformal"]["coverage"] > 0.89
    few = calibration_of(task(5, 1.0, rare=4.0), trained_on=False)
    assert few["by_group"]["rare"] == {
        "n_units": 5,
        "conformal": None,
        "stated": few["by_group"]["rare"]["stated"],
        "reason": "insufficient groups: 5 of 9 donors",
    }
    assert few["worst_group"]["conformal"] is None
