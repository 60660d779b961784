"""Boxes are painted with the background, lazily, and nothing else is touched."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest

from aivc_graph.errors import ReadError
from aivc_graph.io.painting import paint_boxes


def test_only_the_boxes_change_and_take_the_background() -> None:
    pixels = np.full((3, 60, 80), 230, np.uint8)
    pixels[:, 20:40, 20:40] = 90
    pixels[:, 0:12, 60:80] = 7
    lazy = paint_boxes(da.from_array(pixels, chunks=(3, 32, 32)), [(60, 0, 80, 12)], "t")
    painted = lazy.compute()
    assert lazy.chunks[1:] == ((32, 28), (32, 32, 16)) and painted.dtype == np.uint8
    assert (painted[:, :12, 60:] == 230).all()
    painted[:, :12, 60:] = 7
    assert (painted == pixels).all()


def test_without_boxes_nothing_is_done() -> None:
    pixels = da.zeros((3, 4, 4), dtype=np.uint8)
    assert paint_boxes(pixels, (), "t") is pixels


@pytest.mark.parametrize("box", [(0, 0, 9, 4), (2, 0, 2, 4), (-1, 0, 2, 2)])
def test_a_box_beside_the_picture_is_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(ReadError, match=r"t: expected \[x0, y0, x1, y1\] within 8 × 4 px"):
        paint_boxes(da.zeros((3, 4, 8), dtype=np.uint8), [box], "t")


def test_some_background_must_be_left() -> None:
    with pytest.raises(ReadError, match=r"found boxes over the whole rim"):
        paint_boxes(da.zeros((3, 4, 8), dtype=np.uint8), [(0, 0, 8, 4)], "t")
