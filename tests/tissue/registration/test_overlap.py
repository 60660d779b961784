"""Cells, spots and a slide that do not share ground are refused; sound ones raise no alarm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
import pytest

from aivc_graph import names
from aivc_graph.errors import TissueError
from aivc_graph.tissue.frame import place
from aivc_graph.tissue.registration.orientation import ORIENTATIONS, check_orientation
from aivc_graph.tissue.registration.overlap import check_overlap, shared_ground
from aivc_graph.tissue.section import add_slide


@pytest.fixture
def section(striped_section: Callable[..., Any]) -> Any:
    """Return 800 cells and 100 spots over 340 µm."""
    return striped_section("s1", n=800, levels=("cell", "patch"))


def moved(
    turn: np.ndarray = ORIENTATIONS["identity"], shift: tuple[float, float] = (0.0, 0.0), about: float = 0.0
) -> np.ndarray:
    affine = np.eye(3)
    affine[:2, :2] = turn
    affine[:2, 2] = np.array([about, about]) - turn @ [about, about] + np.array(shift)
    return affine


def test_one_frame_is_no_doubt(section: Any) -> None:
    assert check_overlap(section) == [] and check_orientation(section) == []


@pytest.mark.parametrize("axis", ["mirror_x", "mirror_y", "rotate180"])
def test_cells_mirrored_about_the_origin_are_refused(section: Any, axis: str) -> None:
    place(section, names.CELL, moved(ORIENTATIONS[axis]))
    with pytest.raises(TissueError, match=r"s1 · cell and patch: expected ≥ 50% in one frame, found \d% of either"):
        check_overlap(section)


def test_a_shift_is_doubted_and_then_refused(section: Any) -> None:
    place(section, names.CELL, moved(shift=(240.0, 0.0)))
    (doubt,) = check_overlap(section)
    assert "s1 · cell and patch" in doubt and "else register one" in doubt
    place(section, names.CELL, moved(shift=(5000.0, 0.0)))
    with pytest.raises(TissueError, match="found 0% of either near the other"):
        check_overlap(section)


def test_a_small_piece_on_a_large_one_shares_all_its_ground() -> None:
    rng = np.random.default_rng(0)
    large, small = rng.random((5000, 2)) * 2000, 500 + rng.random((300, 2)) * 200
    assert shared_ground(large, small) == shared_ground(small, large) > 0.8
    assert shared_ground(large, small + np.array([0, 4000])) == 0.0
    turned = rng.random((300, 2)) @ [[0, 1], [1, 0]] * 200
    assert shared_ground(turned, turned[:1]) == 1.0 and shared_ground(turned[:1], turned[:1]) == 1.0


@pytest.mark.parametrize("orientation", [name for name in ORIENTATIONS if name not in ("identity", "mirror_y")])
def test_cells_turned_in_place_are_told_by_their_genes(section: Any, orientation: str) -> None:
    """The stripes run along y, so that only a mirror of y leaves them as they are."""
    place(section, names.CELL, moved(ORIENTATIONS[orientation], about=170.0))
    assert check_overlap(section) == []
    found = check_orientation(section)
    if orientation == "rotate180" or orientation.startswith("mirror"):
        assert "s' genes fit those of the " in found[0]
    else:
        assert len(found) == 1


def test_cells_in_another_unit_that_cover_more_than_the_spots_are_told_by_their_genes(section: Any) -> None:
    place(section, names.CELL, moved(np.eye(2) / 0.2125))
    assert check_overlap(section) == []  # spots may well lie over a part of the cells
    (found,) = check_orientation(section)
    assert "the spots' genes fit those of the cells better" in found


def test_cells_that_lie_off_by_more_than_a_spot_are_told(section: Any) -> None:
    place(section, names.CELL, moved(shift=(70.0, 0.0)))
    (found,) = check_orientation(section)
    assert "better shifted by" in found and "check the pixel sizes and origins" in found


@pytest.mark.parametrize("level", ["cell", "patch"])
def test_what_was_not_counted_or_is_too_little_is_not_compared(
    striped_section: Callable[..., Any], section: Any, level: str
) -> None:
    section.tables[f"{level}_rna"].X = section.tables[f"{level}_rna"].X * 0
    assert check_orientation(section) == []
    one = striped_section("s1", n=2, levels=("cell", "patch"))
    assert check_orientation(one) == [] and check_overlap(one) == []


def test_cells_beside_their_slide_are_refused(section: Any) -> None:
    image = np.random.default_rng(0).integers(0, 255, (3, 60, 60)).astype(np.uint8)
    add_slide(section, da.from_array(image), moved(np.eye(2) * 6, shift=(0.0, 0.0)))
    assert check_overlap(section) == []
    add_slide(section, da.from_array(image), moved(np.eye(2) * 6, shift=(900.0, 0.0)))
    with pytest.raises(TissueError) as caught:
        check_overlap(section)
    assert [line for line in ("cell and slide", "patch and slide") if line in str(caught.value)] == [
        "cell and slide",
        "patch and slide",
    ]
    assert str(caught.value).count("found 0% of the nodes on the slide") == 2
