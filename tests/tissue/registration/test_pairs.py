"""Pairs stay with the section that they placed: where each was put, how far off, thinned and moved on purpose."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from aivc_graph import names
from aivc_graph.errors import RegistrationError
from aivc_graph.tissue.doubt import doubts_heard
from aivc_graph.tissue.frame import apply_affine, positions_um
from aivc_graph.tissue.registration.landmarks import fit_landmarks
from aivc_graph.tissue.registration.method import registration_method
from aivc_graph.tissue.registration.pairs import move_pairs
from aivc_graph.tissue.registration.register import register
from aivc_graph.tissue.section import add_level, metadata_of, new_section

RNG = np.random.default_rng(0)
TURN = np.array([[0.8, -0.6, 300.0], [0.6, 0.8, -50.0], [0.0, 0.0, 1.0]])
OWN = RNG.uniform(0, 2000, (40, 2))
TRUE = apply_affine(OWN, TURN) + RNG.normal(0, 4, OWN.shape)


def section_of_two():
    """Return cells in a frame of their own, and spots in microns."""
    section = new_section("s1")
    add_level(section, names.CELL, [f"c{i}" for i in range(40)], OWN, 5.0, np.eye(3))
    add_level(section, names.PATCH, [f"p{i}" for i in range(40)], TRUE, 27.5, np.eye(3))
    return section


def registered(fixed=TRUE, n=12, section=None, **options):
    """Return the section whose cells were placed by the first `n` of their true places, and its pairs."""
    section = section_of_two() if section is None else section
    points = np.hstack([OWN, fixed])[:n].tolist()
    register(section, names.CELL, names.PATCH, registration_method("landmarks", points=points, **options))
    return section, pd.DataFrame(metadata_of(section)[names.PAIRS])


def test_each_pair_is_kept_with_where_the_map_puts_it_and_how_far_off_that_is():
    section, pairs = registered()
    assert list(pairs["name"]) == [str(i + 1) for i in range(12)]
    assert set(pairs["kind"]) == {"landmark"} and set(pairs["fine"] + pairs["coarse"]) == {"cellpatch"}
    placed = pairs[["fine_x_um", "fine_y_um"]].to_numpy()
    np.testing.assert_allclose(placed, positions_um(section, names.CELL)[:12], atol=1e-6)
    np.testing.assert_allclose(pairs[["coarse_x_um", "coarse_y_um"]], TRUE[:12])
    np.testing.assert_allclose(pairs["residual_um"], np.linalg.norm(placed - TRUE[:12], axis=1))
    np.testing.assert_allclose(pairs["sigma_um"], section.shapes["cell"]["registration_sigma_um"][:12], rtol=1e-6)
    assert pairs["fitted"].all() and not pairs["doubtful"].any()
    json.dumps(metadata_of(section))


def test_a_bent_map_puts_pairs_where_it_bends_to():
    bend = 60 * np.column_stack([np.sin(OWN[:, 1] / 900), np.cos(OWN[:, 0] / 900)])
    section, pairs = registered(TRUE + bend, n=40, fit="bent", coarse=True)
    placed = pairs[["fine_x_um", "fine_y_um"]].to_numpy()
    np.testing.assert_allclose(placed, positions_um(section, names.CELL), atol=1e-6)
    assert set(pairs["kind"]) == {"position"} and pairs["residual_um"].median() < 15


def test_placing_an_element_anew_forgets_its_pairs_and_no_others():
    section, _ = registered()
    pairs = registered(n=9, section=section)[1]
    assert len(pairs) == 9
    points = np.hstack([TRUE, TRUE])[:4].tolist()
    register(section, names.PATCH, names.CELL, registration_method("landmarks", points=points))
    assert pd.DataFrame(metadata_of(section)[names.PAIRS])["fine"].tolist() == ["cell"] * 9 + ["patch"] * 4
    for level in (names.CELL, names.PATCH):
        register(section, level, names.CELL, registration_method("scale", um_per_unit=1.0))
    assert names.PAIRS not in metadata_of(section)


def test_what_is_left_out_of_the_fit_shows_how_far_off_the_map_is():
    with doubts_heard() as heard:
        _, pairs = registered(n=40, share=0.2, seed=1)
    assert any("8 of 40 points fit the map, drawn by `share`" in one for one in heard)
    assert pairs["fitted"].sum() == 8
    more = registered(n=40, share=0.5, seed=1)[1]["fitted"]
    assert (more | ~pairs["fitted"]).all() and more.sum() == 20
    alone = fit_landmarks(OWN[pairs["fitted"]], TRUE[pairs["fitted"]])
    np.testing.assert_allclose(pairs[["fine_x_um", "fine_y_um"]], apply_affine(OWN, alone.affine), atol=1e-6)
    off = pairs.loc[~pairs["fitted"], "residual_um"]
    assert 3 < np.sqrt((off**2).mean()) < 12  # each point is off by 4 µm along each axis


def test_a_map_that_is_moved_on_purpose_is_off_by_as_much():
    with doubts_heard() as heard:
        section, pairs = registered(n=40, shift_um=90.0, seed=2)
    assert any("the map is moved off by 90 µm, by `shift_um`" in one for one in heard)
    straight, _ = registered(n=40)
    moved = positions_um(section, names.CELL) - positions_um(straight, names.CELL)
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 90.0, rtol=1e-6)
    np.testing.assert_allclose(pairs[["coarse_x_um", "coarse_y_um"]], TRUE)  # what is known stays as it is told
    assert 75 < pairs["residual_um"].median() < 105 and not pairs["doubtful"].any()


def test_too_small_a_share_says_so():
    with pytest.raises(
        RegistrationError, match=r"landmarks · cell: .*at least 3, found 2 of 12 points by `share: 0.1`"
    ):
        registered(fit="affine", share=0.1)


@pytest.mark.parametrize("coarse", [False, True])
def test_a_pair_far_from_the_others_is_told_by_name(coarse):
    off = TRUE.copy()
    off[4] += [0.0, 120.0]
    with doubts_heard() as heard:
        _, pairs = registered(off, coarse=coarse)
    assert pairs["name"][pairs["doubtful"]].tolist() == ["5"]
    (said,) = [one for one in heard if "farther" in one]
    assert said.startswith("s1 · cell: landmarks: ") and "'5' by " in said and said.endswith("or leave it out")


def test_among_hundreds_of_positions_a_far_one_is_told_too():
    rng = np.random.default_rng(1)
    own = rng.uniform(0, 2000, (260, 2))
    true = apply_affine(own, TURN) + rng.normal(0, 4, own.shape)
    true[7] += 100.0
    method = registration_method("landmarks", points=np.hstack([own, true]).tolist(), coarse=True)
    found = method(section_of_two(), names.CELL, names.PATCH)
    assert np.flatnonzero(found.pairs["doubtful"]).tolist() == [7]
    assert any("RMS residual" in one for one in found.warnings) and not any("in turn" in one for one in found.warnings)


def test_two_names_that_were_exchanged_are_told_and_places_of_a_coarse_map_have_none():
    swapped = TRUE.copy()
    swapped[[0, 1]] = TRUE[[1, 0]]
    with doubts_heard() as heard:
        pairs = registered(swapped)[1]
    assert pairs["name"][pairs["doubtful"]].tolist() == ["1", "2"]
    (said,) = [one for one in heard if "exchanged" in one]
    assert "'1' and '2' look exchanged" in said and said.endswith("swap their names in one file")
    with doubts_heard() as heard:
        registered(swapped, coarse=True)
    assert not any("exchanged" in one for one in heard)


def test_faults_of_points_are_told_together_by_name():
    bad = TRUE.copy()
    bad[2, 0] = np.nan
    points = np.vstack([np.hstack([OWN, bad])[:6], np.hstack([OWN, bad])[4]])
    with pytest.raises(
        RegistrationError, match=r"(?s)NaN or infinite, at '3'; mend.*'7' in the places of other points"
    ):
        registration_method("landmarks", points=points.tolist())(section_of_two(), names.CELL, names.PATCH)


def test_tissue_that_bends_smoothly_is_said_to_of_nodes_that_may_bend():
    bend = 80 * np.column_stack([np.sin(OWN[:, 1] / 600), np.cos(OWN[:, 0] / 600)])
    hints = []
    for fixed, options in ((TRUE + bend, {}), (TRUE, {}), (TRUE + bend, {"fit": "bent"})):
        with doubts_heard() as heard:
            registered(fixed, n=20, **options)
        hints.append([one for one in heard if "`fit: bent` follows it" in one])
    assert [len(one) for one in hints] == [1, 0, 0]


def test_pairs_go_along_with_a_section_that_is_placed_elsewhere():
    section, before = registered()
    move_pairs(section, TURN)
    after = pd.DataFrame(metadata_of(section)[names.PAIRS])
    for end in ("fine", "coarse"):
        places = [f"{end}_x_um", f"{end}_y_um"]
        np.testing.assert_allclose(after[places], apply_affine(before[places], TURN))
    assert after.drop(columns=[one for one in after if one.endswith(("x_um", "y_um"))]).equals(
        before.drop(columns=[one for one in before if one.endswith(("x_um", "y_um"))])
    )
    bare = section_of_two()
    move_pairs(bare, TURN)
    assert names.PAIRS not in metadata_of(bare)
