"""Microns a unit from an array: exact however it lies, unbiased under jitter, refused where it is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aivc_graph.errors import ReadError
from aivc_graph.io.lattice import stated_radius, stated_um_per_unit, um_per_unit_of_array, visium_array_um

ROWS, COLUMNS = (v.ravel() for v in np.indices((12, 10)))
ARRAY = visium_array_um(ROWS, 2 * COLUMNS + ROWS % 2)


def test_neighbours_on_the_array_are_100_um_apart() -> None:
    near = np.linalg.norm(ARRAY[:, None] - ARRAY[None], axis=2)
    assert np.sort(near, axis=1)[:, 1] == pytest.approx(100)
    middle = np.sort(near, axis=1)[55]
    assert middle[1:7] == pytest.approx(100) and middle[7] > 170


@given(st.floats(0, 6.3), st.floats(0.05, 5), st.booleans(), st.integers(3, 120))
def test_the_scale_is_exact_however_the_array_lies(angle: float, um_per_unit: float, mirrored: bool, n: int) -> None:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if mirrored:
        turn[:, 0] *= -1
    some = np.random.default_rng(n).permutation(len(ARRAY))[:n]
    found = um_per_unit_of_array(ARRAY[some], ARRAY[some] @ turn.T / um_per_unit + [300, -7], "t")
    assert found is None or found == pytest.approx(um_per_unit, rel=1e-6)


def test_jitter_does_not_bias_the_scale_as_it_does_the_nearest_distance() -> None:
    rng = np.random.default_rng(0)
    array = np.column_stack([v.ravel() for v in np.indices((20, 20))]) * 200.0
    xy = (array + rng.normal(0, 10, array.shape)) / 0.7
    assert um_per_unit_of_array(array, xy, "t") == pytest.approx(0.7, rel=0.005)
    nearest = np.median(np.sort(np.linalg.norm(xy[:, None] - xy[None], axis=2), axis=1)[:, 1])
    assert 200 / nearest > 0.7 * 1.04


def test_axes_that_differ_a_little_give_the_scale_of_areas() -> None:
    assert um_per_unit_of_array(ARRAY, ARRAY * [1.02, 0.99], "t") == pytest.approx(1 / np.sqrt(1.02 * 0.99))


def test_too_few_spots_leave_it_open() -> None:
    assert um_per_unit_of_array(ARRAY[:2], ARRAY[:2], "t") is None
    line = ARRAY[ROWS == 0]
    assert um_per_unit_of_array(line, line, "t") is None


def test_what_is_no_such_array_is_refused() -> None:
    with pytest.raises(ReadError, match=r"t: expected equal axes, found axes of 1.2 and 1 units a micron"):
        um_per_unit_of_array(ARRAY, ARRAY * [1.2, 1.0], "t")
    bent = ARRAY + 60 * np.sin(ARRAY[:, ::-1] / 40)
    with pytest.raises(ReadError, match=r"t: expected at most 25 µm, found spots .* µm off their array"):
        um_per_unit_of_array(ARRAY, bent, "t")


def test_a_stated_scale_is_checked() -> None:
    assert stated_um_per_unit(0.5, ARRAY, "t") == 0.5
    for wrong in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ReadError, match=r"t · um_per_unit: expected a positive number"):
            stated_um_per_unit(wrong, ARRAY, "t")
    with pytest.raises(ReadError, match=r"found none \(neighbours are 100 units apart\)"):
        stated_um_per_unit(None, np.vstack([ARRAY, [[np.nan, 0]]]), "t")


def test_a_size_comes_from_areas_or_one_diameter() -> None:
    assert stated_radius(0.5, 10.0, None, "t") == 10
    assert stated_radius(0.5, None, np.array([np.pi, 4 * np.pi]), "t") == pytest.approx([2, 4])
    for wrong in (np.nan, -1.0):
        with pytest.raises(ReadError, match=r"t · area: expected areas ≥ 0"):
            stated_radius(0.5, None, np.array([1.0, wrong]), "t")
    with pytest.raises(ReadError, match=r"neither `area:` nor `diameter_um:`"):
        stated_radius(0.5, None, None, "t")
