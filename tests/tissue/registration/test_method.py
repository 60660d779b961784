"""The registry of methods, the scale, and placing what a method found."""

from __future__ import annotations

import json

import dask.array as da
import numpy as np
import pytest

from aivc_graph import names
from aivc_graph.errors import ConfigError, RegistrationError
from aivc_graph.tissue.frame import affine_of, positions_um, scale_affine
from aivc_graph.tissue.registration.method import REGISTRATIONS, registration_method
from aivc_graph.tissue.registration.register import register
from aivc_graph.tissue.section import add_level, add_slide, metadata_of, new_section


def section_of_two(placed: bool = True):
    """Return cells in microns, if placed, and spots in array steps without a frame."""
    section = new_section("s1")
    xy = np.random.default_rng(0).uniform(0, 1000, (50, 2))
    add_level(section, names.CELL, [f"c{i}" for i in range(50)], xy, 5.0, np.eye(3) if placed else None)
    steps = np.array([(x, y) for x in range(4) for y in range(4)], float)
    add_level(section, names.PATCH, [f"p{i}" for i in range(16)], steps, 0.25, None)
    return section


def test_four_methods_are_known():
    registration_method("scale", um_per_unit=1.0)
    assert {"scale", "affine_file", "landmarks", "intensity"} <= set(REGISTRATIONS)


def test_scale_places_the_moving_element_only():
    section = section_of_two()
    found = register(section, names.PATCH, names.CELL, registration_method("scale", um_per_unit=200))
    assert np.ptp(positions_um(section, names.PATCH)[:, 0]) == pytest.approx(600)
    np.testing.assert_allclose(affine_of(section, names.CELL), np.eye(3))
    assert found.residual_um is None and f"residual_um_{names.PATCH}" not in metadata_of(section)


def test_residual_is_kept_for_anchors_and_metadata_stays_plain():
    section = section_of_two()
    points = [(0, 0, 10, 10), (3, 0, 310, 12), (0, 3, 9, 311), (3, 3, 309, 308)]
    found = register(section, names.PATCH, names.CELL, registration_method("landmarks", points=points))
    assert metadata_of(section)["residual_um_patch"] == pytest.approx(found.residual_um, abs=0.01)
    json.dumps(metadata_of(section))


def test_each_node_is_told_how_far_off_it_may_be():
    section = section_of_two()
    points = [(0, 0, 10, 10), (1, 0, 112, 8), (0, 1, 9, 111), (1, 1, 109, 108)]
    found = register(section, names.PATCH, names.CELL, registration_method("landmarks", points=points))
    sigma = section.shapes[names.PATCH]["registration_sigma_um"].to_numpy()
    assert sigma[0] < sigma[-1]  # the last lies far from the points
    assert metadata_of(section)["residual_um_patch"] == pytest.approx(np.sqrt(2 * (sigma**2).mean()), abs=0.01)
    assert found.residual_um > found.n_points and "registration_sigma_um" not in section.shapes[names.CELL]


def bent_by(points, moving, also=()):
    section = section_of_two()
    add_level(section, names.REGION, ["r"], [[1.5, 1.5]], 1.0, None)
    add_slide(section, da.zeros((3, 4, 4), dtype=np.uint8), None)
    register(section, moving, names.CELL, registration_method("landmarks", points=points, fit="bent"), also=also)
    return section


def test_nodes_are_bent_to_where_they_are_known_to_be_and_pictures_are_not():
    steps = np.array([(x, y) for x in range(4) for y in range(4)], float)
    truth = 200 * steps + np.column_stack([30 * np.sin(steps[:, 1]), 20 * np.cos(steps[:, 0])])
    points = np.hstack([steps, truth])[[0, 1, 2, 3, 4, 7, 8, 9, 11, 12, 13, 15]].tolist()
    section = bent_by(points, names.PATCH, also=[names.REGION])
    off = np.linalg.norm(positions_um(section, names.PATCH) - truth, axis=1)
    straight = section_of_two()
    register(straight, names.PATCH, names.CELL, registration_method("landmarks", points=points))
    before = np.linalg.norm(positions_um(straight, names.PATCH) - truth, axis=1)
    assert off[[5, 6, 10, 14]].mean() < 0.5 * before[[5, 6, 10, 14]].mean() and off[[0, 3, 15]].max() < 5
    between = positions_um(section, names.PATCH)[[5, 6, 9, 10]].mean(axis=0)
    assert np.linalg.norm(positions_um(section, names.REGION)[0] - between) < 10
    with pytest.raises(RegistrationError, match=r"s1 · slide: expected nodes to bend, found 'slide', which is no set"):
        bent_by(points, names.SLIDE)


def test_elements_of_the_same_frame_move_together():
    section = section_of_two()
    add_level(section, names.REGION, ["r"], [[1.0, 1.0]], 1.0, None)
    method = registration_method("scale", um_per_unit=50)
    register(section, names.PATCH, names.CELL, method, also=[names.REGION])
    np.testing.assert_allclose(affine_of(section, names.REGION), scale_affine(50))


def test_unknown_method_names_the_nearest():
    with pytest.raises(ConfigError, match=r"no registration method named 'landmark'; did you mean 'landmarks'"):
        registration_method("landmark")


@pytest.mark.parametrize("options", [{"um_per_unit": 0}, {"um_per_unit": float("nan")}, {"mpp": 0.5}, {}])
def test_bad_options_name_the_method_and_what_it_takes(options):
    with pytest.raises(ConfigError, match=r"registration · scale: .*this method takes: um_per_unit"):
        registration_method("scale", **options)


def test_absent_element_is_named():
    with pytest.raises(RegistrationError, match=r"s1: no element 'slide'; known: cell, patch"):
        register(section_of_two(), names.SLIDE, names.CELL, registration_method("scale", um_per_unit=1))


def test_fixed_element_must_be_placed():
    with pytest.raises(RegistrationError, match=r"s1 · cell: expected a placed element, found no transform to microns"):
        register(section_of_two(placed=False), names.PATCH, names.CELL, registration_method("scale", um_per_unit=1))
