"""Edges at which a layer was cut: found where straight, taken for cut where tissue goes on, and no longer outline."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aivc_graph.errors import RegistrationError
from aivc_graph.tissue.frame import apply_affine
from aivc_graph.tissue.registration.agreement import Samples
from aivc_graph.tissue.registration.cut_edges import Edge, straight_edges
from aivc_graph.tissue.registration.intensity import IntensityRegistration, _apart
from aivc_graph.tissue.registration.intensity import _Fit as Fit
from aivc_graph.tissue.registration.layer import Layer
from aivc_graph.tissue.registration.maps import draw_map
from aivc_graph.tissue.registration.orientation import OrientationFit

PITCH_UM, RADIUS_UM = 200.0, 1500.0
RIGHT = np.array([1.0, 0.0, -900.0])  # beyond x = 900 µm


def grid(step, half=2600.0):
    at = np.arange(-half, half + step, step)
    return np.stack(np.meshgrid(at, at), -1).reshape(-1, 2)


def tissue(xy):
    """Say where tissue is: a shape without any symmetry."""
    x, y = xy.T / RADIUS_UM
    angle = np.arctan2(y / 0.8, x)
    bumps = 0.2 * np.cos(angle + 1) + 0.25 * np.cos(2 * angle + 0.5) + 0.2 * np.cos(3 * angle + 2.5)
    return np.hypot(x, y / 0.8) < np.exp(bumps)


def spots(kept=None, angle=0.05, pitch=PITCH_UM):
    """Return spots of an array that lies on the tissue at `angle`, those which `kept` leaves."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    xy = grid(pitch) @ turn.T
    xy = xy[tissue(xy)]
    return xy if kept is None else xy[kept(xy)]


def dots(xy, affine=None):
    """Return points of a density whose frame is off by the inverse of `affine`."""
    moved = xy if affine is None else apply_affine(xy, np.linalg.inv(affine))
    return Layer(moved, np.ones((len(xy), 1)), np.eye(3))


def slide(step=50.0):
    pixels = grid(step)
    return Layer(pixels, tissue(pixels)[:, None].astype(float), np.eye(3), framed=True)


def rotation(deg, x=0.0, y=0.0):
    c, s = np.cos(np.radians(deg)), np.sin(np.radians(deg))
    return np.array([[c, -s, x], [s, c, y], [0.0, 0.0, 1.0]])


def left_of(share):
    return lambda xy: xy[:, 0] < np.quantile(xy[:, 0], 1 - share)


def rms(found, layer, truth):
    return np.sqrt(((apply_affine(layer.xy, found.affine) - truth) ** 2).sum(axis=1).mean())


# Layers and maps that are cut


def test_a_cut_goes_with_its_layer_whatever_the_units_and_the_frame():
    layer = replace(dots(grid(PITCH_UM)), to_um=np.diag([2.0, 2.0, 1.0])).cut_at(RIGHT)
    line = layer.cuts_um()[0]
    np.testing.assert_allclose(line, RIGHT)
    turn = rotation(70, 300, -100)
    placed = apply_affine(np.array([[890.0, 40.0], [910.0, 40.0]]), turn)
    moved = layer.moved(turn).cuts_um()[0]
    assert (placed @ moved[:2] + moved[2]).tolist() == pytest.approx([-10.0, 10.0])


def test_a_map_is_unknown_beyond_a_cut_and_full_up_to_it():
    xy = grid(50.0, 1000.0)
    xy = xy[xy[:, 0] < 900]
    inside, edge, beyond = np.array([[0.0, 0.0], [860.0, 0.0], [1500.0, 0.0]])
    line = np.array([1.0, 0.0, -875.0])  # half a pitch beyond the last of them
    whole, cut = (draw_map(layer, 50.0, 50.0) for layer in (dots(xy), dots(xy).cut_at(line)))
    assert whole.at(np.array([beyond]))[1].all() and not cut.at(np.array([beyond]))[1].any()
    told = {name: drawn.at(np.array([inside, edge]))[0][:, 0] for name, drawn in (("whole", whole), ("cut", cut))}
    assert told["whole"][1] < 0.8 * told["whole"][0]
    assert told["cut"][1] == pytest.approx(told["cut"][0], rel=0.05)


def test_cuts_leave_the_rest_of_a_map_as_it_is():
    plain, cut = dots(spots()), dots(spots()).cut_at(np.array([1.0, 0.0, -1e5]))
    one, other = (draw_map(layer, PITCH_UM, PITCH_UM) for layer in (plain, cut))
    middle = np.array([[0.0, 0.0], [300.0, -200.0]])
    np.testing.assert_allclose(one.at(middle)[0], other.at(middle)[0], rtol=1e-3)


# Straight edges


@pytest.mark.parametrize("angle", [0, 20, 65])
def test_a_rectangle_has_four_straight_edges_and_they_lie_on_its_sides(angle):
    turn = rotation(angle)
    xy = apply_affine(grid(50.0)[(np.abs(grid(50.0)) < [1500, 1000]).all(axis=1)], turn)
    edges = straight_edges((dots(xy), slide()), 50.0)
    assert len(edges) == 4 and {edge.layer for edge in edges} == {0}
    for edge in edges:
        normal, reach = edge.line_um[:2] @ turn[:2, :2], -edge.line_um[2]
        assert np.abs(normal).max() > np.cos(np.radians(3))
        assert reach == pytest.approx(1475 if abs(normal[0]) > 0.5 else 975, abs=50)


def test_a_disc_has_none_until_it_is_cut():
    xy = np.random.default_rng(0).uniform(-1500, 1500, (20_000, 2))
    disc = xy[np.hypot(*xy.T) < 1500]
    assert not straight_edges((dots(disc), slide()), 60.0)
    (edge,) = straight_edges((slide(), dots(disc[disc[:, 0] < 900])), 60.0)
    assert edge.layer == 1 and edge.line_um == pytest.approx(RIGHT, abs=60)
    assert edge.line_um[0] > 0.99


def test_profiles_and_slides_have_no_outline():
    square = grid(100.0, 1000.0)
    framed = Layer(square, np.ones((len(square), 1)), np.eye(3), framed=True)
    assert not straight_edges((framed, replace(framed, profile=True)), 100.0)


@pytest.mark.parametrize("layer", [0, 1])
def test_tissue_goes_on_beyond_a_cut_and_not_beyond_an_edge_of_its_own(layer):
    affine = rotation(30, 200, 100)
    half, whole = spots(lambda xy: xy[:, 0] < 900, pitch=50.0), spots(pitch=50.0)
    last = whole[:, 0].max()
    for line, xy, goes_on in ((RIGHT, half, True), (np.array([1.0, 0.0, -last]), whole, False)):
        pair = (dots(xy), dots(whole).moved(affine))
        way = affine if layer == 0 else np.linalg.inv(affine)
        told = Edge(layer, line).goes_on(pair if layer == 0 else pair[::-1], way, 50.0)
        assert told == goes_on


def test_an_edge_is_cut_in_its_own_layer_alone():
    one, other = Edge(1, RIGHT).cut((dots(spots()), dots(spots())))
    assert len(one.cuts) == 0 and len(other.cuts) == 1


# Registration


def test_spots_that_were_cut_are_placed_by_the_rest_of_their_outline():
    truth, off = spots(left_of(0.3)), rotation(4, 300, -250)
    found = IntensityRegistration().align(dots(truth, off), slide())
    assert rms(found, dots(truth, off), truth) < 0.4 * PITCH_UM
    assert found.residual_um > 0.5 * rms(found, dots(truth, off), truth)
    assert any("the moving layer ends straight where the other goes on, at 1 of its edges" in w for w in found.warnings)


def test_cut_spots_would_be_dragged_to_the_middle_were_their_edge_outline(monkeypatch):
    truth, off = spots(left_of(0.3)), rotation(4, 300, -250)
    monkeypatch.setattr("aivc_graph.tissue.registration.intensity.straight_edges", lambda *_: [])
    found = IntensityRegistration(allow_mirror=True).align(dots(truth, off), slide())
    assert rms(found, dots(truth, off), truth) > PITCH_UM


def test_the_fixed_layer_may_be_the_one_that_was_cut():
    whole, half = spots(pitch=150.0), spots(left_of(0.2), angle=0.4, pitch=150.0)
    off = rotation(4, 300, -250)
    found = IntensityRegistration().align(dots(whole, off), dots(half))
    assert rms(found, dots(whole, off), whole) < 75
    assert any("the fixed layer ends straight" in w for w in found.warnings)


def test_whole_spots_are_placed_as_if_no_edge_was_ever_looked_at(monkeypatch):
    truth, off = spots(), rotation(-5, 300, -250)
    looked = IntensityRegistration().align(dots(truth, off), slide())
    monkeypatch.setattr("aivc_graph.tissue.registration.intensity.AMISS", 0.0)
    pressed = IntensityRegistration().align(dots(truth, off), slide())
    for found in (looked, pressed):
        assert not any("ends straight" in w for w in found.warnings)
    np.testing.assert_array_equal(looked.affine, pressed.affine)
    assert looked.residual_um == pressed.residual_um


def test_a_corner_of_tissue_is_placed_within_a_spot_or_doubted():
    truth, off = spots(lambda xy: (xy[:, 0] < 800) & (xy[:, 1] > -1000)), rotation(4, 300, -250)
    found = IntensityRegistration().align(dots(truth, off), slide())
    assert any("the moving layer ends straight" in w for w in found.warnings)
    assert rms(found, dots(truth, off), truth) < PITCH_UM or any("fits as well" in w for w in found.warnings)


@pytest.mark.parametrize(("cuts", "refused"), [(0, True), (1, False)])
def test_a_mirror_that_needs_a_cut_to_fit_is_doubted_and_not_refused(cuts, refused):
    flip, pixel = np.diag([-1.0, 1.0, 1.0]), PITCH_UM
    whole = (replace(dots(spots()), to_um=flip), slide())
    far = np.array([1.0, 0.0, -1e5])
    seen = (whole[0].cut_at(far), whole[1]) if cuts else whole
    fits = [
        Fit(Samples.of(*layers, pixel).agreement(affine), affine, layers)
        for affine, layers in ((np.eye(3), whole), (flip, seen))
    ]
    assert fits[1].mirrored and fits[1].cuts == cuts and fits[1].amiss < 0.2 * fits[0].amiss
    if refused:
        with pytest.raises(RegistrationError, match="a mirrored frame fits best"):
            IntensityRegistration()._judge(*fits, pixel)
    else:
        best, (warning,) = IntensityRegistration()._judge(*fits, pixel)
        assert best is fits[0] and "a mirrored frame fits as well" in warning


def test_two_orientations_that_found_the_same_turn_are_told_once():
    near = {"identity": rotation(44), "rotate90": rotation(47), "rotate180": rotation(181), "mirror_x": rotation(0)}
    fits = {
        name: OrientationFit(score, 0.0, near[name]) for name, score in zip(near, (0.8, 0.9, 0.7, 1.0), strict=True)
    }
    assert [fit.score for fit in _apart(fits, mirrored=False)] == [0.9, 0.7]
