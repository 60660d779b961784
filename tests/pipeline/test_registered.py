"""Registration from a configuration to the graph: what moves together, landmarks from QuPath, errors in microns."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from skimage.io import imsave

from aivc_graph import names
from aivc_graph.config import load_config
from aivc_graph.graph.anchors import AnchorConfig, anchor_table
from aivc_graph.graph.store import read_store
from aivc_graph.pipeline.build import build, read_section
from aivc_graph.pipeline.card import registration_told
from aivc_graph.pipeline.inspect import inspect
from aivc_graph.tissue.frame import apply_affine, positions_um
from aivc_graph.tissue.registration.method import registration_method
from aivc_graph.tissue.section import metadata_of

N, SIDE_UM, MPP = 144, 1200.0, 2.0
TURN = np.array([[0.96, -0.28, 150.0], [0.28, 0.96, -60.0], [0.0, 0.0, 1.0]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write spots and cells in a frame that lies turned on that of a slide, the slide, and points on both."""
    folder = tmp_path_factory.mktemp("registered")
    rng = np.random.default_rng(0)
    true = np.stack(np.meshgrid(*[np.arange(50, SIDE_UM, 100.0)] * 2), -1).reshape(-1, 2)
    cells = rng.uniform(50, SIDE_UM - 50, (300, 2))
    imsave(folder / "he.png", rng.integers(90, 200, (600, 600, 3), dtype=np.uint8))
    for name, xy in (("spots", true), ("cells", cells)):
        own = apply_affine(xy, np.linalg.inv(TURN))
        table = pd.DataFrame(
            rng.poisson(3, (len(own), 4)), columns=list("ABCD"), index=[f"{name}{i}" for i in range(len(own))]
        )
        table.assign(x=own[:, 0], y=own[:, 1]).to_csv(folder / f"{name}.csv")
    marks = {f"m{i}": true[i] for i in (0, 11, 66, 132, 143)}
    for name, points in (
        ("spots", {key: apply_affine(xy, np.linalg.inv(TURN)) + rng.normal(0, 4, 2) for key, xy in marks.items()}),
        ("he", {key: xy / MPP for key, xy in marks.items()}),
    ):
        features = [
            {
                "type": "Feature",
                "geometry": {"type": "Point", "coordinates": np.ravel(xy).tolist()},
                "properties": {"name": key},
            }
            for key, xy in points.items()
        ]
        (folder / f"{name}.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    np.savez(folder / "true.npz", spots=true, cells=cells)
    return folder


def configured(folder, also="[cell]"):
    """Return the configuration of a section whose spots and cells are placed on its slide."""
    (folder / "config.yaml").write_text(
        f"""
task:
  name: registered
  sections:
    - name: s1
      donor: d1
      sources:
        - {{path: ./he.png, reader: slide, mpp: {MPP}}}
        - {{path: ./spots.csv, reader: plain_table, level: patch, x: x, y: y, um_per_unit: 1, diameter_um: 55}}
        - {{path: ./cells.csv, reader: plain_table, level: cell, x: x, y: y, um_per_unit: 1, diameter_um: 10}}
      registration:
        - {{kind: landmarks, path: ./spots.geojson, fixed_path: ./he.geojson, fit: rigid,
            moving: patch, fixed: slide, also: {also}}}
"""
    )
    return load_config(folder / "config.yaml")


def test_what_shares_the_frame_moves_along_and_what_is_not_named_stays(folder):
    held = np.load(folder / "true.npz")
    section = read_section(configured(folder).task.sections[0])
    assert np.linalg.norm(positions_um(section, names.PATCH) - held["spots"], axis=1).max() < 15
    assert np.linalg.norm(positions_um(section, names.CELL) - held["cells"], axis=1).max() < 15
    alone = read_section(configured(folder, also="[]").task.sections[0])
    assert np.linalg.norm(positions_um(alone, names.PATCH) - held["spots"], axis=1).max() < 15
    assert np.linalg.norm(positions_um(alone, names.CELL) - held["cells"], axis=1).mean() > 50


def test_the_graph_and_the_card_tell_the_error_in_microns(folder):
    graph = read_store(build(configured(folder), folder / "graph.zarr"))
    section = read_section(configured(folder).task.sections[0])
    for level in (names.PATCH, names.CELL):
        told = graph[level][names.REGISTRATION_SIGMA_UM.name].numpy()
        assert told.dtype == np.float32 and 0 < told.min() < told.max() < 10
        rows = section.shapes[level].index.get_indexer(graph.obs(level)[names.BARCODE])
        np.testing.assert_allclose(told, section.shapes[level]["registration_sigma_um"].to_numpy()[rows], rtol=1e-5)
        assert names.REGISTRATION_SIGMA_UM.name not in graph.obs(level)
    residual = float(graph.obs(names.SECTION)["residual_um_patch"].iloc[0])
    said, pairs = (one["says"] for one in registration_told(graph))
    assert (
        said == f"Where the patch lies was found by registration, and is likely off by {residual:.0f} µm in 1 section."
    )
    assert re.fullmatch(r"5 landmarks placed the patch on the slide in 1 section, \d µm off\.", pairs)


def test_landmarks_are_listed_counted_and_those_that_are_wrong_are_doubted(folder, tmp_path):
    wrong = json.loads((folder / "spots.geojson").read_text())
    shutil.copytree(folder, tmp_path / "wrong")
    wrong["features"][2]["geometry"]["coordinates"][0] += 500.0
    (tmp_path / "wrong" / "spots.geojson").write_text(json.dumps(wrong))
    store = build(configured(tmp_path / "wrong"), tmp_path / "graph.zarr")
    told = inspect(store)
    assert told["anchors"]["patch+slide landmark"] == 5
    assert any("'m66' by " in one and "mark it again" in one for one in told["doubts"])
    graph = read_store(store)
    table = anchor_table(graph)
    assert table["coarse_barcode"][table["doubtful"]].tolist() == ["m66"]
    assert registration_told(graph)[-1]["says"].endswith("; doubtful is 1, such as 'm66' of s1.")


def test_what_moved_together_is_no_farther_apart_for_it(folder):
    anchors = AnchorConfig()
    for also, told in (("[cell]", False), ("[]", True)):
        section = read_section(configured(folder, also=also).task.sections[0])
        facts = pd.DataFrame([{k: v for k, v in metadata_of(section).items() if k != names.PAIRS}])
        sigma = anchors.sigmas(facts)[0]
        assert sigma == pytest.approx(facts["residual_um_patch"][0] / np.sqrt(2)) if told else np.isnan(sigma)


def test_a_graph_without_registration_tells_none(folder):
    config = configured(folder)
    bare = config.task.sections[0].model_copy(update={"registration": ()})
    config = config.model_copy(update={"task": config.task.model_copy(update={"sections": (bare,)})})
    graph = read_store(build(config, folder / "bare.zarr"))
    assert names.REGISTRATION_SIGMA_UM.name not in graph[names.PATCH] and registration_told(graph) == []


def test_the_walk_of_the_documentation_is_a_configuration(tmp_path):
    page = (Path(__file__).resolve().parents[2] / "docs" / "landmarks.md").read_text()
    told = page.split("```yaml\n")[1].split("```")[0]
    (tmp_path / "walk.yaml").write_text("task:\n  name: walk\n" + told.removeprefix("task:\n"))
    (one,) = load_config(tmp_path / "walk.yaml").task.sections[0].registration
    method = registration_method(one.kind, **one.options)
    assert (one.moving, one.fixed, method.fit, method.fixed_mpp) == (names.SLIDE, names.CELL, "rigid", 0.2125)
