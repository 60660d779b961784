"""Of a delivery of several sections each keeps its own part of pictures and transcripts."""

from __future__ import annotations

from typing import Any

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd

from aivc_graph.tissue.doubt import doubts_heard
from aivc_graph.tissue.frame import affine_of, apply_affine, scale_affine
from aivc_graph.tissue.parting import MARGIN_UM, cut_to_nodes
from aivc_graph.tissue.section import add_level, add_slide, add_transcripts, new_section

MPP = 2.0


def _section(x_um: float, placed: bool = True) -> Any:
    """Return 25 cells from x on, over a slide of 1,000 × 800 pixels whose value is their column."""
    section = new_section("s")
    xy = x_um + 10.0 * np.stack(np.meshgrid(np.arange(5), np.arange(5)), -1).reshape(-1, 2)
    add_level(section, "cell", [f"c{i}" for i in range(25)], xy, 4.0, np.eye(3))
    image = da.from_array(np.tile((np.arange(1000) // 4).astype(np.uint8), (1, 800, 1)))
    add_slide(section, image, scale_affine(MPP) if placed else None)
    molecules = pd.DataFrame({"x": [x_um, x_um + 5, 1900.0, x_um + 9], "y": [x_um, x_um, 10.0, x_um], "gene": "G"})
    table = dd.from_pandas(molecules.assign(cell=["c0", "other", "", ""]), npartitions=1)
    add_transcripts(section, table, np.eye(3))
    return section


def test_a_slide_is_cut_and_each_pixel_stays_where_it_was() -> None:
    section = _section(600.0)
    cut_to_nodes(section)
    pixels, affine = section.images["slide"].data.compute(), affine_of(section, "slide")
    assert affine is not None and pixels.shape[2] == (40 + 2 * MARGIN_UM) / MPP
    first = apply_affine(np.zeros((1, 2)), affine)[0]
    assert first.tolist() == [600 - MARGIN_UM, 600 - MARGIN_UM]
    np.testing.assert_array_equal(pixels[0, 0], (np.arange(250, 250 + pixels.shape[2]) // 4).astype(np.uint8))


def test_transcripts_of_other_cells_and_far_from_all_are_left_to_others() -> None:
    section = _section(600.0)
    cut_to_nodes(section)
    assert sorted(section.points["transcripts"]["cell"].compute().astype(str)) == ["", "c0"]


def test_a_slide_without_a_place_goes_whole_and_that_is_told() -> None:
    section = _section(600.0, placed=False)
    with doubts_heard() as doubts:
        cut_to_nodes(section)
    assert section.images["slide"].shape == (1, 800, 1000) and "goes whole with each section" in doubts[0]
