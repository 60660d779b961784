"""Pairs that disagree with the others: found, also where one hides another or two were exchanged; rarely by chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aivc_graph.tissue.frame import apply_affine
from aivc_graph.tissue.registration import departure, landmarks
from aivc_graph.tissue.registration.departure import fit_departure
from aivc_graph.tissue.registration.doubtful import exchanged, far_off, outlying
from aivc_graph.tissue.registration.landmarks import fit_landmarks

CLICK_UM = 10.0


def marked(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points in two frames that are the same but for how exactly they were put."""
    rng = np.random.default_rng(seed)
    moving = rng.uniform(0, 5000, (n, 2))
    return moving, moving + rng.normal(0, CLICK_UM, moving.shape)


def found(moving: np.ndarray, fixed: np.ndarray) -> list[int]:
    placed = apply_affine(moving, fit_landmarks(moving, fixed, allow_mirror=True).affine)
    return sorted(outlying(placed, fixed - placed, affine=False).tolist())


def left_over(moving: np.ndarray, fixed: np.ndarray) -> float:
    placed = apply_affine(moving, landmarks._fit(moving, fixed, "similarity", False, None))
    return float(np.sqrt(((placed - fixed) ** 2).sum(axis=1).mean()))


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_each_left_out_in_closed_form_is_each_left_out_by_hand(share: float) -> None:
    from scipy.stats import f

    rng, n = np.random.default_rng(0), 9
    places, left = rng.uniform(-0.5, 0.5, (n, 2)), rng.normal(0, 30, (n, 2))
    _, whole = departure._fit(places, left, (share, 0.6), False, 0.0)
    base = fit_departure(places, left, affine=False)
    assert base is not None
    expected = []
    for i in range(n):
        rest = np.arange(n) != i
        _, fit = departure._fit(places[rest], left[rest], (share, 0.6), False, 0.0)
        one = replace(base, places=places[rest], fits=(fit,), centre_um=np.zeros(2), extent_um=1.0)
        mean, variance = one._told(places[[i]], fit)
        alone = fit.variance * (1 - share)
        freedom = 2 * (n - 1) - 4
        scatter = fit.variance * (freedom - 2) / freedom  # what is told is wider, for the scatter is unsure
        square = ((left[i] - mean[0]) ** 2).sum() / ((variance[0] + alone) / fit.variance)
        expected.append(f.sf(square / 2 / scatter, 2, freedom))
    np.testing.assert_allclose(whole.left_out(0.0), expected, rtol=1e-6)


def test_good_points_are_rarely_doubted_and_exact_ones_never() -> None:
    doubted = sum(bool(found(*marked(n, seed))) for n in (6, 14) for seed in range(12))
    assert doubted <= 2
    moving, _ = marked(8, 0)
    assert found(moving, moving + np.array([300.0, -20.0])) == []


def test_one_that_is_off_is_named_and_two_do_not_hide_each_other() -> None:
    one = two = 0
    for seed in range(8):
        moving, fixed = marked(10, seed)
        fixed[3] += [150.0, 0.0]
        one += found(moving, fixed) == [3]
        fixed[6] += [0.0, -200.0]
        two += found(moving, fixed) == [3, 6]
    assert one >= 7 and two >= 7


def test_too_few_points_say_nothing_of_each_other() -> None:
    moving, fixed = marked(3, 0)
    fixed[0] += 500.0
    assert found(moving, fixed) == []


@pytest.mark.parametrize("n", [4, 6, 12])
def test_two_that_were_exchanged_are_named_and_none_that_were_not(n: int) -> None:
    for seed in range(4):
        moving, fixed = marked(n, seed)
        assert exchanged(moving, fixed, left_over) is None
        right = left_over(moving, fixed)
        fixed[[1, 2]] = fixed[[2, 1]]
        swap = exchanged(moving, fixed, left_over)
        assert swap is not None and swap[:2] == (1, 2)
        assert swap[2] > 20 * swap[3] and swap[3] == pytest.approx(right)


def test_many_points_were_not_named_by_hand() -> None:
    moving, fixed = marked(41, 0)
    fixed[[1, 2]] = fixed[[2, 1]]
    assert exchanged(moving, fixed, left_over) is None


def test_those_that_did_not_fit_are_judged_by_what_each_is_off_alone() -> None:
    moving, fixed = marked(30, 0)
    for coarse in (False, True):
        fit = fit_departure(moving, fixed - moving, affine=False, coarse=coarse)
        assert fit is not None
        more, there = marked(400, 1)
        sigma, off = fit(more), there - more
        assert far_off(fit, sigma, off).sum() <= 1
        off[5] += [80.0, 0.0]
        assert far_off(fit, sigma, off)[5]
