"""The registry of methods, the scale, and placing what a method found."""

from __future__ import annotations

import json

import numpy as np
import pytest

from aivc_graph import names
from aivc_graph.errors import ConfigError, RegistrationError
from aivc_graph.tissue.frame import affine_of, positions_um, scale_affine
from aivc_graph.tissue.registration.method import REGISTRATIONS, registration_method
from aivc_graph.tissue.registration.register import register
from aivc_graph.tissue.section import add_level, metadata_of, new_section


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
