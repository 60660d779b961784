"""Agreement of a layer with a map: highest in place, told without each block, and sure only of what blocks bear out."""

from __future__ import annotations

import numpy as np
import pytest

from aivc_graph.tissue.frame import apply_affine
from aivc_graph.tissue.registration.agreement import BLOCKS, SURE, Samples
from aivc_graph.tissue.registration.certainty import RigidError, rigid_error, stepped
from aivc_graph.tissue.registration.layer import Layer
from aivc_graph.tissue.registration.method import rms_um

SIDE_UM, PIXEL_UM = 2000.0, 60.0
MIRROR = np.array([[-1.0, 0.0, SIDE_UM], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def profiles(seed, n=900, symmetric=False):
    """Return cells of a smooth tissue, which may look the same in a mirror."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(0, SIDE_UM, (n, 2))
    x = np.abs(xy[:, 0] - SIDE_UM / 2) if symmetric else xy[:, 0]
    rates = np.column_stack([np.sin(x / 150) + 2, np.cos((x + 2 * xy[:, 1]) / 200) + 2])
    return Layer(xy, rng.poisson(4 * rates).astype(float), np.eye(3), profile=True, framed=True)


def shifted(x=0.0, y=0.0, turn=0.0):
    return stepped(np.array([x, y, turn]), np.full(2, SIDE_UM / 2))


def test_agreement_is_highest_in_place_and_nothing_off_the_tissue():
    samples = Samples.of(profiles(0), profiles(0), PIXEL_UM)
    scores = [samples.agreement(shifted(x)) for x in (0.0, 50.0, 150.0)]
    assert scores[0] == pytest.approx(1.0) and scores[0] > scores[1] > scores[2]
    assert samples.agreement(shifted(1500.0)) == -1.0


def test_agreement_is_the_mean_correlation_of_what_both_show():
    samples = Samples.of(profiles(0), profiles(1), PIXEL_UM)
    other, known = samples.fixed.at(samples.points_um)
    pairs = zip(samples.values[known].T, other[known].T, strict=True)
    expected = np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]) * np.sqrt(known.mean())
    assert samples.agreement(np.eye(3)) == pytest.approx(expected, abs=1e-9)


def test_without_a_block_it_is_the_agreement_of_the_others():
    samples = Samples.of(profiles(0), profiles(1), PIXEL_UM)
    told = samples.without_blocks(shifted(20.0))
    assert len(told) == BLOCKS**2
    inside = np.asarray(samples.blocks.todense()).astype(bool)
    for block in (0, 7):
        rest = ~inside[block]
        alone = Samples(
            samples.points_um[rest], samples.values[rest], samples.mass[rest], samples.blocks[:, rest], samples.fixed
        )
        assert told[block] == pytest.approx(alone.agreement(shifted(20.0)), abs=1e-9)


def test_the_loss_of_a_block_is_no_fall_where_hardly_more_than_half_is_known():
    samples = Samples.of(profiles(0), profiles(1), PIXEL_UM)
    known = [samples.fixed.at(apply_affine(samples.points_um, shifted(0.48 * SIDE_UM)))[1].mean()]
    assert 0.5 < known[0] < 0.56
    assert (samples.without_blocks(shifted(0.48 * SIDE_UM)) > -0.9).all()
    assert (samples.without_blocks(shifted(0.6 * SIDE_UM)) == -1.0).all()
    gain, sure = samples.gain(np.eye(3), shifted(0.48 * SIDE_UM))
    assert gain > 0.3 and sure > SURE


def test_a_constant_channel_says_nothing():
    layer = Layer(profiles(0).xy, np.ones((900, 2)), np.eye(3), profile=True, framed=True)
    assert Samples.of(layer, layer, PIXEL_UM).agreement(np.eye(3)) == 0.0


def test_an_empty_corner_of_a_slide_does_not_count_against_a_turn():
    # Spots that are turned on their slide reach beyond it with the empty corners of their box alone.
    xy = np.stack(np.meshgrid(np.arange(500, 1500, 50.0), np.arange(800, 1200, 50.0)), -1).reshape(-1, 2)
    pixels = np.stack(np.meshgrid(np.arange(0, 2000, 25.0), np.arange(700, 1300, 25.0)), -1).reshape(-1, 2)
    inside = (np.abs(pixels - [1000, 1000]) < [500, 200]).all(axis=1)
    slide = Layer(pixels, inside[:, None].astype(float), np.eye(3), framed=True)
    turn = shifted(turn=np.pi / 4)
    spots = Layer(apply_affine(xy, np.linalg.inv(turn)), np.ones((len(xy), 1)), np.eye(3))
    upright = Samples.of(Layer(xy, np.ones((len(xy), 1)), np.eye(3)), slide, 50.0).agreement(np.eye(3))
    assert Samples.of(spots, slide, 50.0).agreement(turn) == pytest.approx(upright, abs=0.03)


def test_a_mirror_that_does_not_fit_is_surely_worse_and_one_that_does_is_not():
    plain = Samples.of(profiles(0), profiles(1), PIXEL_UM).gain(MIRROR, np.eye(3))
    same = Samples.of(profiles(0, symmetric=True), profiles(1, symmetric=True), PIXEL_UM).gain(MIRROR, np.eye(3))
    assert plain[0] < -0.2 and plain[1] < -SURE
    assert same[0] > plain[0] + 0.2
    assert Samples.of(profiles(0), profiles(1), PIXEL_UM).gain(np.eye(3), np.eye(3)) == (0.0, 0.0)


def test_the_error_of_a_map_is_that_of_maps_of_other_cells_of_the_tissue():
    told, true = [], []
    for seed in range(6):
        samples = Samples.of(profiles(2 * seed), profiles(2 * seed + 1), PIXEL_UM)
        best = max(
            (shifted(x, y) for x in np.arange(-30, 31, 6.0) for y in np.arange(-30, 31, 6.0)), key=samples.agreement
        )
        told.append(rms_um(rigid_error(samples, best, PIXEL_UM)(samples.points_um)))
        true.append(np.hypot(*best[:2, 2]))
    assert 0.4 < np.sqrt(np.mean(np.square(told))) / np.sqrt(np.mean(np.square(true))) < 2.5
    few = [
        rms_um(
            rigid_error(Samples.of(profiles(s, 120), profiles(s + 50, 120), 120.0), np.eye(3), 120.0)(
                np.full((1, 2), SIDE_UM / 2)
            )
        )
        for s in range(4)
    ]
    assert np.median(few) > 1.5 * np.median(told)


def test_an_error_grows_away_from_the_centre_by_the_turn_alone():
    error = RigidError(np.diag([4.0, 4.0, 1e-4]), np.zeros(2))
    np.testing.assert_allclose(error(np.array([[0.0, 0.0], [300.0, 400.0]])), [2.0, np.sqrt((8 + 25) / 2)])
    both = np.array([[4.0, 0.0, 0.0], [0.0, 4.0, 0.015], [0.0, 0.015, 1e-4]])
    right, left = RigidError(both, np.zeros(2))(np.array([[100.0, 0.0], [-100.0, 0.0]]))
    drawn = np.random.default_rng(0).multivariate_normal(np.zeros(3), both, 40_000)
    shift = np.column_stack([drawn[:, 0], drawn[:, 1] + 100 * drawn[:, 2]])
    assert right == pytest.approx(np.sqrt((shift**2).sum(axis=1).mean() / 2), rel=0.02) and right > left


def test_an_outline_of_one_side_adds_its_own_error_across_the_cut_alone():
    error = RigidError(np.zeros((3, 3)), np.zeros(2))
    across = np.array([[0.6, 0.8]])
    wider = error.one_sided(across, 120.0)
    half_a_pitch = np.random.default_rng(0).uniform(-60, 60, 100_000)[:, None] * across
    np.testing.assert_allclose(wider.covariance[:2, :2], np.cov(half_a_pitch.T), rtol=0.02)
    assert not wider.covariance[2].any() and not error.covariance.any()
    np.testing.assert_array_equal(error.one_sided(np.zeros((0, 2)), 120.0).covariance, error.covariance)
