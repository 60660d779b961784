"""Outlines go from a section through the graph and its store to QuPath."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shapely import MultiPolygon, box
from shapely.geometry import shape

from aivc_graph.graph.build import build_graph
from aivc_graph.graph.store import read_store, write_store
from aivc_graph.io.writers.geojson import write_geojson
from aivc_graph.tissue.frame import positions_um, scale_affine
from aivc_graph.tissue.section import add_outlines


@pytest.fixture
def outlined(striped_section: Callable[..., Any]) -> Any:
    """Cells of which all but one in five have an outline: squares of 8 units of 0.5 µm, one of them in two pieces."""
    section = striped_section(n=60)
    xy, names = positions_um(section, "cell") / 0.5, section.shapes["cell"].index
    squares = np.array([box(x - 4, y - 4, x + 4, y + 4) for x, y in xy], dtype=object)
    squares[1] = MultiPolygon([squares[1], box(0, 0, 1, 1)])
    known = np.arange(len(xy)) % 5 > 0
    order = np.random.default_rng(0).permutation(np.flatnonzero(known))
    add_outlines(section, "cell", names[order], squares[order], scale_affine(0.5))
    return section


def test_outlines_reach_qupath_in_the_pixels_of_the_slide(outlined: Any, tmp_path: Path) -> None:
    write_store(build_graph([outlined]), tmp_path / "g.zarr", {})
    graph = read_store(tmp_path / "g.zarr")
    file = write_geojson(graph, tmp_path / "s1.geojson", um_per_pixel=0.25)
    cells = [f for f in json.loads(file.read_text())["features"] if f["properties"]["metadata"]["level"] == "cell"]
    assert len(cells) == 60
    place = dict(zip(outlined.shapes["cell"].index, positions_um(outlined, "cell"), strict=True))
    for feature in cells:
        name, found = feature["properties"]["name"], shape(feature["geometry"])
        assert found.geom_type == ("Polygon" if int(name.removeprefix("cell")) % 5 else "Point")
        np.testing.assert_allclose([found.centroid.x, found.centroid.y], place[name] / 0.25, atol=0.01)
        assert found.area == pytest.approx(256 if found.geom_type == "Polygon" else 0, rel=1e-3)


def test_outlines_of_two_sections_keep_to_their_own_nodes(outlined: Any, striped_section: Callable[..., Any]) -> None:
    graph = build_graph([striped_section("s0", n=40, donor="d0"), outlined])
    starts, corners = graph["cell"].outline_starts.numpy(), graph["cell"].outline_corners.numpy()
    sizes = np.diff(starts)
    assert (sizes[graph["cell"].section_index.numpy() == 0] == 0).all() and (sizes > 0).sum() == 48
    for row in np.flatnonzero(sizes):
        centre = corners[starts[row] : starts[row + 1]].reshape(-1, 2)
        np.testing.assert_allclose((centre.min(axis=0) + centre.max(axis=0)) / 2, graph["cell"].pos[row], atol=0.01)


def test_a_graph_without_outlines_holds_nothing_of_them(striped_section: Callable[..., Any]) -> None:
    assert "outline_starts" not in build_graph([striped_section(n=40)])["cell"]
