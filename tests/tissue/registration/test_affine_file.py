"""Affines from files: read as written, refused where they are no affine, never mirrored unasked."""

from __future__ import annotations

import json

import numpy as np
import pytest

from aivc_graph.errors import RegistrationError
from aivc_graph.tissue.registration.affine_file import AffineFileRegistration

TURN = np.array([[0.8, -0.6, 120.0], [0.6, 0.8, -35.5], [0.0, 0.0, 1.0]])


def estimate(path, **options):
    """Return the registration that a file states; no section is needed."""
    return AffineFileRegistration(path=path, **options)(None, "slide", "cell")


def test_alignment_csv_ends_in_pixels_of_the_target(tmp_path):
    path = tmp_path / "he_imagealignment.csv"
    np.savetxt(path, TURN, delimiter=",")
    found = estimate(path, um_per_unit=0.2125)
    np.testing.assert_allclose(found.affine @ [10, 20, 1], [*0.2125 * (TURN @ [10, 20, 1])[:2], 1])
    assert found.residual_um is None and found.orientation == "identity" and not found.warnings


def test_inverse_goes_the_other_way(tmp_path):
    path = tmp_path / "m.csv"
    np.savetxt(path, TURN, delimiter=",")
    np.testing.assert_allclose(estimate(path, inverse=True).affine @ TURN, np.eye(3), atol=1e-12)


def test_json_and_npz_hold_one_matrix_or_name_it(tmp_path):
    (tmp_path / "m.json").write_text(json.dumps({"matrix": TURN[:2].tolist()}))
    np.savez(tmp_path / "m.npz", a=np.eye(3), b=TURN)
    np.testing.assert_allclose(estimate(tmp_path / "m.json").affine, TURN)
    np.testing.assert_allclose(estimate(tmp_path / "m.npz", key="b").affine, TURN)
    with pytest.raises(RegistrationError, match=r"2 entries; name one as `key:` \(known: a, b\)"):
        estimate(tmp_path / "m.npz")
    with pytest.raises(RegistrationError, match="no entry 'c'"):
        estimate(tmp_path / "m.npz", key="c")


def test_mirror_is_refused_unless_allowed(tmp_path):
    path = tmp_path / "swapped.csv"
    np.savetxt(path, np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]]), delimiter=",")
    with pytest.raises(
        RegistrationError, match=r"swapped.csv: expected .*found a mirrored map \(swap_xy\).*allow_mirror"
    ):
        estimate(path)
    found = estimate(path, allow_mirror=True)
    assert found.orientation == "swap_xy" and "mirrors the tissue" in found.warnings[0]


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(4), r"found \(4, 4\)"),
        (TURN.T, "is it transposed"),
        (np.full((3, 3), np.nan), "last row"),
        (np.diag([1.0, 0.0, 1.0]), "cannot be inverted"),
    ],
)
def test_what_is_no_affine_is_refused(tmp_path, matrix, message):
    np.savetxt(tmp_path / "m.csv", matrix, delimiter=",")
    with pytest.raises(RegistrationError, match=message):
        estimate(tmp_path / "m.csv")


def test_pickles_text_and_absent_files_are_refused(tmp_path):
    np.savez(tmp_path / "object.npz", m=np.array([{"a": 1}], dtype=object))
    (tmp_path / "text.csv").write_text("not,a\nmatrix,here\n")
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04torn")
    (tmp_path / "torn.json").write_text("{")
    (tmp_path / "empty.csv").write_text("\n")
    for name in ("object.npz", "text.csv", "torn.npz", "torn.json", "empty.csv"):
        with pytest.raises(RegistrationError, match=f"{name}: .*what is no matrix"):
            estimate(tmp_path / name)
    for number, text in enumerate(("[]", "5", "[[[1]]]", "[[]]")):
        (tmp_path / f"odd{number}.json").write_text(text)
        with pytest.raises(RegistrationError, match=rf"odd{number}\.json: expected a \(3, 3\)"):
            estimate(tmp_path / f"odd{number}.json")
    with pytest.raises(RegistrationError, match=r"absent\.csv: no such file"):
        estimate(tmp_path / "absent.csv")
