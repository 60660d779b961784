"""Writing beside the final name: nothing that was there is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from aivc_graph.atomic import staged
from aivc_graph.errors import StoreError
from aivc_graph.io.staging import check_place, file_names


def test_a_file_never_takes_the_place_of_a_folder(tmp_path: Path) -> None:
    theirs = tmp_path / "out.graphml/notes.txt"
    theirs.parent.mkdir()
    theirs.write_text("mine")
    with (
        pytest.raises(StoreError, match="expected a file, or nothing yet, found a folder"),
        staged(theirs.parent) as beside,
    ):
        beside.write_text("new")
    assert theirs.read_text() == "mine" and [p.name for p in tmp_path.iterdir()] == ["out.graphml"]


def test_a_file_where_a_folder_is_due_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(StoreError, match="while writing; what was there before is intact"),
        staged(tmp_path / "file/a.csv") as beside,
    ):
        beside.write_text("new")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_place_is_tried_before_the_work_and_left_as_it_was(tmp_path: Path) -> None:
    check_place(tmp_path / "new/deeper/a.csv")
    check_place(tmp_path / "new", folder=True)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.csv").mkdir()
    check_place(tmp_path / "file")  # to be replaced when the new one is complete
    for place, said in (
        (tmp_path / "file/a.csv", "Not a directory: nothing can be written there"),
        (Path("/proc/nowhere/a.csv"), "nothing can be written there; free space, or choose another place"),
        (tmp_path / "folder.csv", "expected a file, or nothing yet, found a folder"),
    ):
        with pytest.raises(StoreError, match=said):
            check_place(place)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.csv"]


def test_sections_whose_names_differ_never_share_a_file() -> None:
    assert file_names(["A/1", "A_1", "a_1", "B", "A_1-2"]) == ["A_1", "A_1-2", "a_1-3", "B", "A_1-2-2"]
    assert file_names(["../<b>", "..", ""]) == ["__b_", "_", "_-2"]


def test_a_link_to_what_is_yet_to_be_made_is_a_place_and_one_in_circles_is_none(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "yet")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    check_place(tmp_path / "link", folder=True)
    check_place(tmp_path / "link/a.csv")
    with pytest.raises(StoreError, match="circle: Too many levels of symbolic links: nothing can be written there"):
        check_place(tmp_path / "circle", folder=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["circle", "link"]
