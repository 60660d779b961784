"""The error of a truth of a neighbouring section: what circles of a spot's size hold about its place."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
AT = np.array([[200.0, 200.0], [600.0, 200.0], [5000.0, 0.0]])


@pytest.fixture(scope="module")
def truths() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("deconvolution_truth")


def cells(parted: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return places and types of cells 15 µm apart: the one type left of 400 µm and the other right of it, or mixed."""
    pos = 15.0 * np.array([(i, j) for i in range(54) for j in range(27)], float)
    return pos, (pos[:, 0] > 400).astype(int) if parted else np.random.default_rng(0).integers(0, 2, len(pos))


def test_a_circle_holds_what_lies_about_its_place(truths: Any) -> None:
    held = truths.circles(*cells(parted=True), AT, 27.5, 0.0, 2)
    assert (held[0, 0] == 1).all() and (held[1, 1] == 1).all() and np.isnan(held[2]).all()
    moved = truths.circles(*cells(parted=True), np.array([[400.0, 200.0]] * 5), 27.5, 60.0, 2)
    assert 0.3 < np.nanmean(moved[:, 0]) < 0.7 and np.nanmean(moved[:, 0] * moved[:, 1] == 0) > 0.4
    unknown = truths.circles(cells(True)[0], np.full(54 * 27, -1), AT, 27.5, 0.0, 2)
    assert np.isnan(unknown).all()


def test_few_cells_of_mixed_tissue_err_and_intervals_widen_by_as_much(truths: Any) -> None:
    pos, kind = cells(parted=False)
    held = truths.circles(pos, kind, np.tile(AT[:2], (30, 1)), 27.5, 40.0, 2)
    true = np.full((60, 2), 0.5)
    told = np.array([held[i, :, i % truths.DRAWS] for i in range(60)])
    exact = truths.doubted(told, told, told, true, held)
    assert exact["rmse_of_truth"] == pytest.approx(0.5 / np.sqrt(10), rel=0.25)  # ten cells and more in a circle
    assert exact["coverage_90"] > 0.8 > 0.5 > exact["coverage_90_of_these"]
    wrong = truths.doubted(told + 1, told + 1, told + 1, true, held)
    assert wrong["coverage_90"] == 0
    wide = truths.doubted(told - 0.3, told, told + 0.3, true, held)
    assert wide["coverage_90_of_these"] > 0.85


def test_a_truth_without_error_leaves_coverage_as_it_is(truths: Any) -> None:
    random = np.random.default_rng(1)
    told, true = random.random((50, 3)), random.random((50, 3))
    found = truths.doubted(told - 0.2, told, told + 0.2, true, np.repeat(true[:, :, None], 4, axis=2))
    assert found["coverage_90"] == round(float((abs(told - true) <= 0.2).mean()), 3)
    assert found["rmse_of_truth"] == 0 and found["coverage_90_of_these"] == 1
