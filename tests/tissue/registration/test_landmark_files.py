"""Points from QuPath: matched by name or class, in pixels, and refused with the file and the point at fault."""

from __future__ import annotations

import json

import dask.array as da
import numpy as np
import pytest

from aivc_graph import names
from aivc_graph.errors import ConfigError, RegistrationError
from aivc_graph.tissue.doubt import doubts_heard
from aivc_graph.tissue.frame import affine_of, apply_affine
from aivc_graph.tissue.registration.landmark_files import pairs_of_csv, pairs_of_geojson, points_of
from aivc_graph.tissue.registration.method import registration_method
from aivc_graph.tissue.registration.register import register
from aivc_graph.tissue.section import add_level, add_slide, metadata_of, new_section

PLACES = {"a": (10.0, 20.0), "b": (180.0, 30.0), "c": (40.0, 150.0), "d": (160.0, 140.0), "e": (100.0, 90.0)}


def point(xy, name=None, group=None):
    """Return a feature as QuPath writes it."""
    told = {"objectType": "annotation"}
    if name is not None:
        told["name"] = name
    if group is not None:
        told["classification"] = {"name": group, "color": [200, 0, 0]}
    geometry = {"type": "Point", "coordinates": list(xy)}
    return {"type": "Feature", "id": "0", "geometry": geometry, "properties": told}


def clicks(name):
    """Return three points in one annotation, as QuPath's multipoint tool makes them."""
    return point((0, 0), name) | {"geometry": {"type": "MultiPoint", "coordinates": [[1, 2], [3, 4], [5, 6]]}}


def write(path, features):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def named(path, places):
    return write(path, [point(xy, name) for name, xy in places.items()])


def test_names_come_before_classes_and_outlines_are_passed_over(tmp_path):
    outline = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
    features = [
        point((1, 2), "a", "Tumor"),
        point((3, 4), group="Vessel"),
        point((5, 6)) | {"properties": {"classification": {"names": ["Fold", "left"]}}},
        {"type": "Feature", "geometry": outline, "properties": {"name": "a"}},
    ]
    expected = {"a": (1, 2), "Vessel": (3, 4), "Fold: left": (5, 6)}
    assert points_of(write(tmp_path / "a.geojson", features)) == expected
    (tmp_path / "bare.json").write_text(json.dumps(features))
    assert points_of(tmp_path / "bare.json") == expected
    one = {"type": "Feature", "geometry": {"type": "MultiPoint", "coordinates": [[7, 8]]}, "properties": {"name": "m"}}
    (tmp_path / "one.json").write_text(json.dumps(one))
    assert points_of(tmp_path / "one.json") == {"m": (7, 8)}


def test_points_are_paired_by_name_in_any_order(tmp_path):
    moved = {name: (x + 5, y - 2) for name, (x, y) in reversed(PLACES.items())}
    pairs = pairs_of_geojson(named(tmp_path / "m.geojson", PLACES), named(tmp_path / "f.geojson", moved))
    assert pairs.names == tuple(PLACES)
    np.testing.assert_allclose(pairs.fixed - pairs.moving, [[5, -2]] * 5)


@pytest.mark.parametrize(
    ("moving", "fixed", "said"),
    [
        (
            PLACES,
            {k: v for k, v in PLACES.items() if k != "c"},
            r"found 'c' in m\.geojson alone; give it the same name",
        ),
        (
            PLACES | {"Vessel 1": (5, 5)},
            PLACES | {"vessel_1 ": (6, 6)},
            r"'Vessel 1' in m\.geojson alone; are 'Vessel 1' and 'vessel_1 ' the same\? spell them alike",
        ),
        ({k: PLACES[k] for k in "ab"}, PLACES, r"(?s)'c', 'd', 'e' in f\.geojson alone.*at least 3, found 2 points"),
        (PLACES, {k: (10 * i, 20 * i) for i, k in enumerate("abcde")}, r"f\.geojson: .*found collinear points"),
    ],
)
def test_pairs_that_determine_nothing_are_refused(tmp_path, moving, fixed, said):
    with pytest.raises(RegistrationError, match=said):
        pairs_of_geojson(named(tmp_path / "m.geojson", moving), named(tmp_path / "f.geojson", fixed))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "what is no JSON|no JSON"),
        ("5", "no GeoJSON features"),
        ('{"type": "FeatureCollection", "features": []}', "no point; put points on the picture"),
        (json.dumps([point((1, 2), "a"), point((3, 4), "a")]), "2 points called 'a'; name each point"),
        (json.dumps([point((1, 2)), point((3, 4), "a")]), "1 points without name or class"),
        (json.dumps([clicks("v")]), "3 points in one annotation 'v'; start a new annotation for each"),
        (json.dumps([clicks(None), point((3, 4), "a")]), "3 points in one annotation; start a new annotation"),
        (json.dumps([point(("x", 2), "a")]), "a Point without x and y"),
        (json.dumps([point((1,), "a")]), "a Point without x and y"),
        (json.dumps([point((float("nan"), 1), "a")]), "NaN or infinite"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content, said):
    (tmp_path / "p.geojson").write_text(content)
    with pytest.raises(RegistrationError, match=rf"p\.geojson: .*({said})"):
        points_of(tmp_path / "p.geojson")
    with pytest.raises(RegistrationError, match=r"absent\.geojson: no such file"):
        points_of(tmp_path / "absent.geojson")


def test_one_picture_alone_is_no_pair(tmp_path):
    method = registration_method("landmarks", path=named(tmp_path / "he.geojson", PLACES))
    with pytest.raises(RegistrationError, match=r"found GeoJSON of one picture; give .* as `fixed_path`"):
        method(None, names.SLIDE, names.PATCH)


def test_points_of_a_table_have_names_or_are_numbered(tmp_path):
    rows = "moving_x,moving_y,fixed_x,fixed_y,name\n0,0,1,1,007\n5,0,6,1,\n0,5,1,6,duct\n"
    (tmp_path / "p.csv").write_text(rows)
    assert pairs_of_csv(tmp_path / "p.csv").names == ("007", "2", "duct")
    (tmp_path / "p.csv").write_text("\n".join(row.rpartition(",")[0] for row in rows.splitlines()))
    assert pairs_of_csv(tmp_path / "p.csv").names == ("1", "2", "3")


def test_pairs_of_two_pictures_are_kept_by_their_names(tmp_path):
    section, (options, turn) = two_pictures(), files(tmp_path, click_px=2.0)
    register(section, names.SLIDE, "dapi", registration_method("landmarks", fit="rigid", **options))
    kept = metadata_of(section)[names.PAIRS]
    assert [one["name"] for one in kept] == list(PLACES) and {one["fine"] for one in kept} == {names.SLIDE}
    there = np.array(list(PLACES.values())) @ turn.T + [75, 20]
    np.testing.assert_allclose([[one["coarse_x_um"], one["coarse_y_um"]] for one in kept], there, atol=4)


def two_pictures(own_um=2.0):
    """Return a section with a slide of 2 µm a pixel that is to be placed on a picture of 0.5 µm a pixel, and spots."""
    section = new_section("s1")
    add_slide(section, da.zeros((3, 200, 200), dtype=np.uint8), np.diag([own_um, own_um, 1.0]))
    add_slide(section, da.zeros((1, 900, 900), dtype=np.uint8), np.diag([0.5, 0.5, 1.0]), name="dapi")
    add_level(section, names.PATCH, ["p", "q", "r"], [[20.0, 30], [300, 60], [90, 310]], 5.0, np.eye(3))
    return section


def files(folder, click_px=0.0, seed=0):
    """Return points on both pictures: the second is turned by 10°, four times as fine, and shifted."""
    c, s = np.cos(np.radians(10)), np.sin(np.radians(10))
    turn = 4 * np.array([[c, -s], [s, c]])
    rng = np.random.default_rng(seed)
    fixed = {name: turn @ xy + [150, 40] + rng.normal(0, click_px, 2) for name, xy in PLACES.items()}
    return {"path": named(folder / "he.geojson", PLACES), "fixed_path": named(folder / "dapi.geojson", fixed)}, turn / 2


@pytest.mark.parametrize("fit", ["rigid", "similarity", "affine"])
def test_a_slide_lands_where_its_points_do_in_the_pixels_of_the_other(tmp_path, fit):
    section, (options, turn) = two_pictures(), files(tmp_path)
    register(section, names.SLIDE, "dapi", registration_method("landmarks", fit=fit, **options))
    np.testing.assert_allclose(affine_of(section, names.SLIDE)[:2, :2], turn, atol=1e-9)
    np.testing.assert_allclose(apply_affine([[0, 0]], affine_of(section, names.SLIDE)), [[75, 20]], atol=1e-6)


def test_the_fixed_picture_may_be_one_that_the_section_does_not_hold(tmp_path):
    section, (options, turn) = two_pictures(), files(tmp_path)
    register(section, names.SLIDE, names.PATCH, registration_method("landmarks", fixed_mpp=0.5, **options))
    np.testing.assert_allclose(affine_of(section, names.SLIDE)[:2, :2], turn, atol=1e-9)
    with pytest.raises(ConfigError, match="`fixed_mpp` goes with `fixed_path`"):
        registration_method("landmarks", points=[(0, 0, 1, 1)], fixed_mpp=0.5)


def test_clicks_that_are_off_are_told_in_microns(tmp_path):
    told, true = [], []
    for seed in range(6):
        section, (options, turn) = two_pictures(), files(tmp_path, click_px=8.0, seed=seed)
        found = register(section, names.SLIDE, "dapi", registration_method("landmarks", fit="rigid", **options))
        assert metadata_of(section)["residual_um_slide"] == pytest.approx(found.residual_um, abs=0.01)
        places = np.array(list(PLACES.values()))
        true.append(apply_affine(places, found.affine) - (places @ turn.T + [75, 20]))
        told.append(found.residual_um)
    assert 0.5 < np.sqrt(np.mean(np.square(told)) / np.square(true).sum(axis=-1).mean()) < 2


def test_another_resolution_is_refused_or_doubted(tmp_path):
    options, _ = files(tmp_path)
    far = {name: (4 * x, 4 * y) for name, (x, y) in PLACES.items()}
    with pytest.raises(
        RegistrationError, match=r"far\.geojson: expected pixels of 'slide': 200 × 200, found points at"
    ):
        method = registration_method("landmarks", **options | {"path": named(tmp_path / "far.geojson", far)})
        register(two_pictures(), names.SLIDE, "dapi", method)
    with doubts_heard() as heard:
        register(two_pictures(own_um=1.0), names.SLIDE, "dapi", registration_method("landmarks", **options))
    assert any("2 µm a unit by the points, 1 by its own pixel size" in one for one in heard)


def test_what_goes_together_is_said(tmp_path):
    options, _ = files(tmp_path)
    with pytest.raises(ConfigError, match="`fixed_path` goes with `path`"):
        registration_method("landmarks", points=[(0, 0, 1, 1)], fixed_path=options["fixed_path"])
    section = two_pictures()
    add_slide(section, da.zeros((3, 200, 200), dtype=np.uint8), None)
    with pytest.raises(RegistrationError, match="landmarks · slide: expected one that the map keeps, found no pixel"):
        register(section, names.SLIDE, "dapi", registration_method("landmarks", fit="rigid", **options))
