"""Eight orientations: each planted one is found, and only reported."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pandas as pd
import pytest

from aivc_graph import names
from aivc_graph.io.slides import open_slide
from aivc_graph.tissue.frame import native_positions
from aivc_graph.tissue.registration.layer import level_layer, slide_layer
from aivc_graph.tissue.registration.orientation import (
    MIRRORED,
    ORIENTATIONS,
    check_orientation,
    nearest_orientation,
    score_orientations,
)
from aivc_graph.tissue.section import add_level, add_slide, new_section

MPP, SIDE = 20.0, 200


def tissue(x, y):
    """Say where tissue is: an F without any symmetry, in a square of 4 mm."""
    stem = (x > 1200) & (x < 1700) & (y > 700) & (y < 3300)
    arms = (x >= 1700) & (((y > 700) & (y < 1200) & (x < 3200)) | ((y > 1700) & (y < 2100) & (x < 2500)))
    return stem | arms


def planted(turn, shift=(0.0, 0.0), blank=False):
    """Return a slide of the F and spots on it, whose positions are turned about the slide's centre."""
    section = new_section("s1")
    rows, columns = np.mgrid[:SIDE, :SIDE]
    on = tissue((columns + 0.5) * MPP, (rows + 0.5) * MPP) & (not blank)
    image = np.where(on[None], np.array([170, 90, 150])[:, None, None], 240).astype(np.uint8)
    add_slide(section, da.from_array(image), np.diag([MPP, MPP, 1.0]))
    grid = np.stack(np.meshgrid(np.arange(50, 4000, 100.0), np.arange(50, 4000, 100.0)), -1).reshape(-1, 2)
    spots = grid[tissue(*grid.T)]
    xy = (spots - 2000) @ turn.T + 2000 + np.array(shift)
    add_level(section, names.PATCH, [f"p{i}" for i in range(len(xy))], xy, 27.5, np.eye(3))
    return section


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_each_orientation_is_told_from_the_others(name):
    section = planted(ORIENTATIONS[name])
    fits = score_orientations(level_layer(section, names.PATCH), slide_layer(section), 50.0)
    best = max(fits, key=lambda k: fits[k].score)
    np.testing.assert_allclose(ORIENTATIONS[best] @ ORIENTATIONS[name], np.eye(2), atol=1e-12)
    assert fits[best].score > 0.85
    assert fits[best].score > 0.1 + max(f.score for k, f in fits.items() if k != best)


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_the_check_warns_of_what_is_wrong_and_changes_nothing(name):
    section = planted(ORIENTATIONS[name])
    before = native_positions(section, names.PATCH)
    warnings = check_orientation(section)
    np.testing.assert_array_equal(before, native_positions(section, names.PATCH))
    if name == "identity":
        assert warnings == []
    else:
        assert len(warnings) == 1 and "s1 · patch" in warnings[0]
        assert ("mirrored" in warnings[0]) == (name in MIRRORED)


def test_a_shifted_frame_is_reported_with_its_shift():
    (warning,) = check_orientation(planted(np.eye(2), shift=(600.0, -500.0)))
    assert "shifted by (-6" in warning and "check the pixel sizes" in warning


def test_blank_or_absent_slides_are_no_crash():
    assert "no tissue found" in check_orientation(planted(np.eye(2), blank=True))[0]
    section = planted(np.eye(2))
    del section.images[names.SLIDE]
    assert check_orientation(section) == []


def test_nearest_orientation_knows_all_eight_and_is_blind_to_scale():
    for name, turn in ORIENTATIONS.items():
        affine = np.eye(3)
        affine[:2, :2] = 3.7 * turn @ np.array([[0.98, -0.17], [0.17, 0.98]])
        assert nearest_orientation(affine) == name


def test_her2st_c2_all_eight_orientations(data_dir):
    pixels, um_per_px = open_slide(data_dir / "her2st" / "ST-imgs" / "C2_5714_HE_BT_C2.jpg", mpp=0.735)
    image = pixels[:, ::16, ::16].compute()
    table = pd.read_csv(data_dir / "her2st" / "ST-spotfiles" / "C2_selection.tsv", sep="\t")
    centre = np.array(pixels.shape[:0:-1]) / 2
    for name, turn in ORIENTATIONS.items():
        section = new_section("C2")
        xy = (table[["pixel_x", "pixel_y"]].to_numpy() - centre) @ turn.T + centre
        frame = np.diag([um_per_px, um_per_px, 1.0])
        add_level(section, names.PATCH, table.index.astype(str), xy, 68.0, frame)
        add_slide(section, da.from_array(image), np.diag([16 * um_per_px, 16 * um_per_px, 1.0]))
        warnings = check_orientation(section)
        assert bool(warnings) == (name != "identity"), (name, warnings)
