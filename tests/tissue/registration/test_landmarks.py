"""Landmarks: known maps come back, errors are honest, what cannot be fitted is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aivc_graph.errors import ConfigError, RegistrationError
from aivc_graph.tissue.frame import apply_affine
from aivc_graph.tissue.registration.landmarks import fit_landmarks
from aivc_graph.tissue.registration.method import registration_method

POINTS = np.array([[0.0, 0.0], [1000.0, 50.0], [300.0, 800.0], [900.0, 700.0], [100.0, 400.0]])
MIRROR = np.diag([-1.0, 1.0, 1.0])


def similarity(angle_deg, scale, x, y):
    c, s = scale * np.cos(np.radians(angle_deg)), scale * np.sin(np.radians(angle_deg))
    return np.array([[c, -s, x], [s, c, y], [0, 0, 1]])


@given(st.floats(-180, 180), st.floats(0.1, 10), st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.integers(2, 5))
@settings(max_examples=50, deadline=None)
def test_a_similarity_comes_back(angle, scale, x, y, n):
    truth = similarity(angle, scale, x, y)
    found = fit_landmarks(POINTS[:n], apply_affine(POINTS[:n], truth))
    np.testing.assert_allclose(apply_affine(POINTS, found.affine), apply_affine(POINTS, truth), atol=1e-6)
    assert found.n_points == n and (found.residual_um is None if n == 2 else found.residual_um < 1e-6)


def test_an_affine_comes_back_and_a_similarity_cannot_hold_it():
    truth = np.array([[1.2, 0.3, 10], [-0.1, 0.7, 5], [0, 0, 1]])
    target = apply_affine(POINTS, truth)
    np.testing.assert_allclose(fit_landmarks(POINTS, target, "affine").affine, truth, atol=1e-9)
    assert fit_landmarks(POINTS, target).residual_um > 50


def test_the_residual_is_how_far_the_map_is_off_and_not_the_clicks():
    grid, ratio = np.stack(np.meshgrid(*[np.linspace(0, 5000, 9)] * 2), -1).reshape(-1, 2), []
    truth = similarity(12, 1, 300, -80)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        source = rng.uniform(0, 5000, (12, 2))
        target = apply_affine(source, truth) + rng.normal(0, 20, source.shape)
        found = fit_landmarks(source, target)
        off = apply_affine(grid, found.affine) - apply_affine(grid, truth)
        ratio.append(found.residual_um / np.sqrt((off**2).sum(1).mean()))
        fit = np.sqrt(((apply_affine(source, found.affine) - target) ** 2).sum(1).mean())
        assert f"RMS residual {fit:.3g} µm, each point left out in turn" in found.warnings[-1]
    assert 0.5 < np.median(ratio) < 2


def test_points_near_a_line_do_not_pass_for_a_mirror():
    rng, refused, doubted = np.random.default_rng(0), 0, 0
    for _ in range(40):
        source = np.column_stack([rng.uniform(0, 5000, 4), rng.normal(0, 20, 4)])
        target = apply_affine(source, similarity(30, 1, 0, 0)) + rng.normal(0, 20, source.shape)
        try:
            said = fit_landmarks(source, target).warnings
            doubted += any("a mirrored map fits the points as well" in one for one in said)
        except RegistrationError:
            refused += 1
    assert refused <= 2 and doubted >= 20


def test_a_fit_without_a_spare_point_says_so():
    assert "too few to measure the error" in fit_landmarks(POINTS[:3], POINTS[:3] + 5, "affine").warnings[0]
    assert fit_landmarks(POINTS[:2], POINTS[:2] + 5).residual_um is None


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        (POINTS[:1], "similarity", "expected at least 2 for a similarity, found 1 points"),
        (POINTS[:2], "affine", "expected at least 3 for a affine, found 2 points"),
        (np.array([[0.0, 0], [1, 1], [2, 2], [5, 5]]), "affine", "landmarks · moving: .*found collinear points"),
        (np.ones((3, 2)), "similarity", "landmarks · moving: .*found points that coincide"),
        (np.array([[0.0, 0], [np.nan, 1]]), "similarity", "NaN or infinite"),
    ],
)
def test_points_that_determine_nothing_are_refused(source, kind, message):
    with pytest.raises(RegistrationError, match=message):
        fit_landmarks(source, POINTS[: len(source)], kind)


@pytest.mark.parametrize("kind", ["similarity", "affine"])
def test_a_mirror_is_reported_and_never_applied_unasked(kind):
    target = apply_affine(POINTS, MIRROR)
    with pytest.raises(RegistrationError, match=r"a mirrored map explains best \(mirror_x.*allow_mirror: true"):
        fit_landmarks(POINTS, target, kind)
    found = fit_landmarks(POINTS, target, kind, allow_mirror=True)
    np.testing.assert_allclose(found.affine, MIRROR, atol=1e-9)
    assert found.orientation == "mirror_x" and "mirrors the tissue" in found.warnings[0]


def test_allowing_a_mirror_does_not_force_one():
    assert fit_landmarks(POINTS, POINTS + 3, allow_mirror=True).orientation == "identity"


def test_points_come_inline_or_from_a_file(tmp_path):
    rows = np.hstack([POINTS, POINTS * 2])
    columns = ["moving_x", "moving_y", "fixed_x", "fixed_y"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "marks.csv", index=False)
    inline = registration_method("landmarks", points=rows.tolist())(None, "slide", "cell")
    filed = registration_method("landmarks", path=tmp_path / "marks.csv")(None, "slide", "cell")
    np.testing.assert_allclose(inline.affine, filed.affine)
    with pytest.raises(ConfigError, match="give either `points` or `path`"):
        registration_method("landmarks")
    pd.DataFrame(rows).to_csv(tmp_path / "marks.csv", index=False)
    with pytest.raises(RegistrationError, match=r"marks\.csv: expected columns moving_x"):
        registration_method("landmarks", path=tmp_path / "marks.csv")(None, "slide", "cell")


def test_two_xenium_replicates_by_their_three_landmarks(data_dir):
    table = pd.read_csv(data_dir / "xenium-visium-breast" / "registration" / "landmarks.csv")
    one, two = (table.loc[table["slice"] == name, ["x", "y"]].to_numpy() for name in ("Rep1", "Rep2"))
    found = fit_landmarks(one, two)
    shift = apply_affine(one.mean(0)[None], found.affine)[0] - one.mean(0)
    np.testing.assert_allclose(shift, [320, -1910], atol=20)
    assert 10 < found.residual_um < 120  # the fit itself leaves 20 µm, each point left out 69 µm


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no table"),
        (b"\xff\xfe\x00", "no table"),
        (b'moving_x,moving_y,fixed_x,fixed_y\n"1,2,3,4\n', "no table|points that are no numbers"),
        (b"moving_x,moving_y,fixed_x,fixed_y\n1,2,3,here\n", "points that are no numbers"),
    ],
)
def test_a_damaged_file_of_points_is_named(tmp_path, content, said):
    (tmp_path / "p.csv").write_bytes(content)
    with pytest.raises(RegistrationError, match=rf"p\.csv: .*({said})"):
        registration_method("landmarks", path=tmp_path / "p.csv")(None, "slide", "patch")
