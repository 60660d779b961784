"""GeoJSON for QuPath: pixels where the pixel size is known, classes, measurements, one file a section."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from shapely.geometry import shape

from aivc_graph.errors import ConfigError
from aivc_graph.graph.build import build_graph
from aivc_graph.graph.store import read_store, write_store
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.io.writers.geojson import write_geojson
from aivc_graph.io.writing import write
from aivc_graph.plot.palette import nth_colour
from aivc_graph.tissue.frame import note_slide_frame, positions_um
from aivc_graph.tissue.section import add_slide


def test_one_collection_a_section_in_pixels_or_microns(graph: TissueGraph, tmp_path: Path) -> None:
    out = write(graph, tmp_path / "out", to="geojson")
    assert sorted(p.name for p in out.iterdir()) == ["A_1.geojson", "B2.geojson"]
    for row, (file, mpp) in enumerate([("A_1.geojson", 0.5), ("B2.geojson", 1.0)]):
        for level in graph.levels:
            features = _features(out / file, level)
            mine = graph[level].section_index.numpy() == row
            centres = np.array([shape(f["geometry"]).centroid.coords[0] for f in features]) * mpp
            np.testing.assert_allclose(centres, graph[level].pos.numpy()[mine], atol=0.01)
            assert [f["properties"]["name"] for f in features] == list(graph.obs(level)["barcode"][mine])


def test_outlines_have_the_size_of_their_nodes(graph: TissueGraph, tmp_path: Path) -> None:
    out = write_geojson(graph, tmp_path, um_per_pixel=0.25)
    patch = shape(_features(out / "B2.geojson", "patch")[0]["geometry"])
    assert patch.is_valid and patch.area == pytest.approx(np.pi * 110**2, rel=0.02)
    region = shape(_features(out / "B2.geojson", "region")[0]["geometry"])
    assert region.area == pytest.approx(1600**2, rel=1e-4)
    assert region.bounds[2] - region.bounds[0] == pytest.approx(1600, abs=0.01)


def test_niche_is_the_class_and_columns_are_kept(graph: TissueGraph, tmp_path: Path) -> None:
    features = _features(write(graph, tmp_path, to="geojson") / "A_1.geojson", "cell")
    first, second = features[0]["properties"], features[1]["properties"]
    assert first["objectType"] == "detection"
    assert (first["classification"]["name"], second["classification"]["name"]) == ("tumour", "stroma")
    assert first["classification"]["color"] != second["classification"]["color"]
    assert first["measurements"]["score"] == graph.obs("cell")["score"].iloc[0]
    assert second["metadata"]["label"] == "T" and "label" not in first["metadata"]
    assert len({f["id"] for f in features}) == len(features)


def test_writing_twice_gives_the_same_bytes(graph: TissueGraph, tmp_path: Path) -> None:
    one, two = (write(graph, tmp_path / str(i), to="geojson") / "B2.geojson" for i in range(2))
    assert one.read_bytes() == two.read_bytes()


def test_one_file_for_two_sections_is_refused(graph: TissueGraph, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected one file a section.*found one file for 2 sections; give a folder"):
        write(graph, tmp_path / "all.geojson", to="geojson")


def _features(path: Path, level: str) -> list[dict]:
    collection = json.loads(path.read_text())
    assert collection["type"] == "FeatureCollection"
    return [f for f in collection["features"] if f["properties"]["metadata"]["level"] == level]


def test_nodes_lie_on_the_pixels_of_their_own_slide(graph: TissueGraph, tmp_path: Path) -> None:
    turned = np.array([[0.0, -0.5, 300.0], [0.5, 0.0, -20.0]])
    graph["section"].obs = graph["section"].obs.assign(slide_affine=json.dumps(turned.ravel().tolist()))
    features = _features(write(graph, tmp_path, to="geojson") / "B2.geojson", "cell")
    pixel = np.array([shape(f["geometry"]).centroid.coords[0] for f in features])
    mine = graph["cell"].section_index.numpy() == 1
    back = pixel @ turned[:, :2].T + turned[:, 2]
    np.testing.assert_allclose(back, graph["cell"].pos.numpy()[mine], atol=0.01)
    patch = shape(_features(tmp_path / "B2.geojson", "patch")[0]["geometry"])
    assert patch.area == pytest.approx(np.pi * 55**2, rel=0.02)


def test_niches_keep_the_colours_of_the_report_whichever_of_them_there_are(graph: TissueGraph, tmp_path: Path) -> None:
    """As text they sort 1, 10, 12, 2; and of tissue that lacks some niches the others keep their own."""
    kinds = np.array(["2", "10", "12", "1", "3"])
    for values in (kinds[np.arange(30) % 5], pd.Categorical(kinds[np.arange(30) % 5]), np.full(30, "12")):
        graph["cell"].obs["niche"] = values
        features = _features(write(graph, tmp_path, to="geojson") / "A_1.geojson", "cell")
        told = {f["properties"]["classification"]["name"]: f["properties"]["classification"]["color"] for f in features}
        for name, colour in told.items():
            assert "#" + "".join(f"{part:02X}" for part in colour) == nth_colour(int(name) - 1)


def test_cells_lie_on_the_slide_that_was_delivered_with_them(
    striped_section: Callable[..., Any], tmp_path: Path
) -> None:
    """A slide of 0.25 µm a pixel, cut out of a larger one, from the section through the store to the file."""
    section = striped_section(n=60)
    to_um = np.array([[0.25, 0.0, 30.0], [0.0, 0.25, -12.0], [0.0, 0.0, 1.0]])
    add_slide(section, np.zeros((3, 40, 40), np.uint8), to_um)
    note_slide_frame(section)
    write_store(build_graph([section]), tmp_path / "g.zarr", {})
    features = _features(write_geojson(read_store(tmp_path / "g.zarr"), tmp_path / "s1.geojson"), "cell")
    place = dict(zip(section.shapes["cell"].index, positions_um(section, "cell"), strict=True))
    for feature in features:
        pixel = np.array(shape(feature["geometry"]).centroid.coords[0])
        np.testing.assert_allclose(0.25 * pixel + (30, -12), place[feature["properties"]["name"]], atol=0.01)
    assert len(features) == 60
