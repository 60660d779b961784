"""Small pictures of large slides: same pixels as plain striding, in little memory, upright in microns."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import dask.array as da
import imagecodecs
import numpy as np
import pytest
import tifffile

from aivc_graph.io.slides import open_slide
from aivc_graph.tissue import thumbnail as module
from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.section import add_slide, new_section
from aivc_graph.tissue.thumbnail import thumbnail


def _section(pixels: Any, affine: np.ndarray) -> Any:
    section = new_section("s1")
    add_slide(section, pixels, affine)
    return section


@pytest.mark.parametrize("budget", [1, 2**13, 2**27])
def test_regions_join_to_what_one_stride_over_the_slide_gives(monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    monkeypatch.setattr(module, "REGION_BYTES", budget)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (3, 211, 333)).astype(np.uint8)
    lazy = da.from_array(pixels, chunks=(3, 64, 50))
    small = thumbnail(_section(lazy, scale_affine(0.5)), max_pixels=50)
    assert small is not None
    stride = 7
    assert small.um_per_pixel == pytest.approx(0.5 * stride)
    expected = pixels[:, ::stride, ::stride].transpose(1, 2, 0)[:30, :47]
    np.testing.assert_array_equal(small.image[:30, :47], expected)


def test_a_mirrored_slide_is_set_upright() -> None:
    pixels = np.zeros((3, 40, 80), np.uint8)
    pixels[:, :, :40] = 200
    affine = scale_affine(2.0)
    affine[0, 0], affine[0, 2] = -2.0, 160.0
    small = thumbnail(_section(da.from_array(pixels, chunks=(3, 16, 16)), affine), max_pixels=80)
    assert small is not None
    assert small.image.shape == (40, 80, 3) and small.origin_um == (0.0, 0.0)
    assert (small.image[:, 42:78] == 200).all() and (small.image[:, 2:38] == 0).all()


def test_a_slide_that_is_not_there_has_no_picture() -> None:
    assert thumbnail(new_section("s1")) is None


def test_a_gigapixel_slide_is_never_whole_in_memory(tmp_path: Path) -> None:
    edge, tile = 20_480, 512
    grey = [imagecodecs.jpeg_encode(np.full((tile, tile, 3), value, np.uint8)) for value in (60, 200)]
    across = edge // tile
    path = tmp_path / "large.tif"
    tifffile.imwrite(
        path,
        (grey[(i // across + i % across) % 2] for i in range(across * across)),
        shape=(edge, edge, 3),
        dtype=np.uint8,
        tile=(tile, tile),
        compression="jpeg",
        photometric="rgb",
    )
    pixels, um_per_pixel = open_slide(path, mpp=0.25)
    assert um_per_pixel is not None
    section = _section(pixels, scale_affine(um_per_pixel))
    tracemalloc.start()
    try:
        small = thumbnail(section)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert small is not None and {60, 200} <= set(small.image[::9, ::9, 0].ravel().tolist())
    assert peak < 250e6 < 3 * edge * edge, f"{peak / 1e6:.0f} MB"
