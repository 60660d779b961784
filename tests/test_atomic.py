"""Files and folders that change as one: what is left after a failure, a kill, or where the system cannot swap."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from aivc_graph import atomic
from aivc_graph.atomic import leftover, locked, recover, staged, write_whole
from aivc_graph.errors import StoreError


def content(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Return a folder of an earlier result with a user's own files in it."""
    for name in ("a", "scores", "own/notes"):
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text(f"old {name}")
    return tmp_path / "out"


def write_new(folder: Path) -> None:
    folder.mkdir()
    (folder / "a").write_text("new a")


NEW = {"a": "new a", "own/notes": "old own/notes"}


def test_a_folder_is_swapped_whole_and_takes_over_what_is_not_its_own(old: Path) -> None:
    before = (old / "own/notes").stat().st_ino
    with staged(old, drop=("scores",)) as folder:
        write_new(folder)
        assert content(old)["a"] == "old a"
    assert content(old) == NEW and os.listdir(old.parent) == ["out"]
    assert (old / "own/notes").stat().st_ino == before  # linked, not copied
    with staged(old) as folder:
        write_new(folder)
    assert content(old) == {"a": "new a"}


def test_a_system_that_cannot_exchange_names_swaps_by_two_renames(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic.ctypes, "CDLL", lambda _: object())
    with staged(old, drop=("scores",)) as folder:
        write_new(folder)
    assert content(old) == NEW and os.listdir(old.parent) == ["out"]


def test_killed_between_the_two_renames(old: Path) -> None:
    before = content(old)
    old.rename(old.with_name(".old-out"))
    recover(old)
    assert content(old) == before
    (old.with_name(".tmp-out")).mkdir()
    with locked(old):
        assert leftover(old) == old.with_name(".tmp-out")


def test_a_reader_waits_for_a_writer_that_lives_between_the_two_renames(old: Path) -> None:
    before, begun = content(old), threading.Event()

    def write() -> None:
        with locked(old):
            old.rename(old.with_name(".old-out"))
            begun.set()
            threading.Event().wait(0.1)
            old.with_name(".old-out").rename(old)

    writer = threading.Thread(target=write)
    writer.start()
    begun.wait()
    recover(old)
    assert content(old) == before
    writer.join()


@pytest.mark.parametrize("why", ["the working folder", "no links"])
def test_a_folder_that_cannot_be_moved_is_changed_in_place(
    old: Path, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why == "no links":

        def refuse(*_: Any, **__: Any) -> None:
            raise OSError(errno.EPERM, "no links here")

        monkeypatch.setattr(os, "link", refuse)
    else:
        monkeypatch.chdir(old)
    place = old.stat().st_ino
    with staged(old, drop=("scores",)) as folder:
        write_new(folder)
    assert content(old) == NEW and old.stat().st_ino == place and os.listdir(old.parent) == ["out"]


def test_what_fails_leaves_the_old_and_nothing_beside_it(old: Path) -> None:
    before = content(old)
    with pytest.raises(RuntimeError), staged(old, drop=()) as folder:
        write_new(folder)
        raise RuntimeError
    with pytest.raises(StoreError, match=r"out: No space.* while writing; what was there before is intact"):  # noqa: SIM117
        with staged(old) as folder:
            write_new(folder)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "a"))
    assert content(old) == before and os.listdir(old.parent) == ["out"]


def test_an_input_that_cannot_be_read_is_not_told_as_a_failure_to_write(old: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), staged(old) as folder:
        write_new(folder)
        (tmp_path / "input.csv").read_text()


def test_a_link_to_a_folder_stays_one(old: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(old)
    with staged(tmp_path / "link") as folder:
        write_new(folder)
    assert (tmp_path / "link").is_symlink() and content(old) == {"a": "new a"}


def test_a_link_to_nothing_is_written_through_and_one_in_circles_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "yet/to/be/made")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with staged(tmp_path / "link") as folder:
        write_new(folder)
    assert (tmp_path / "link").is_symlink() and content(tmp_path / "yet/to/be/made") == {"a": "new a"}
    with pytest.raises(StoreError, match="circle: a link that leads in circles"), staged(tmp_path / "circle") as beside:
        beside.write_text("new")
    assert sorted(os.listdir(tmp_path)) == ["circle", "link", "yet"] and (tmp_path / "circle").is_symlink()


def test_a_lock_of_a_folder_that_was_swapped_away_is_not_taken_from_its_next_owner(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    file = tmp_path / "out/a.csv"
    with pytest.raises(StoreError, match="while writing"), staged(file) as beside:
        beside.write_text("of the old folder")
        (tmp_path / "out").rename(tmp_path / "away")
        (tmp_path / "out").mkdir()
    assert os.listdir(tmp_path / "out") == []


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(tmp_path / "a", "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="full"):
        patch.setattr(os, "fsync", full)
        write_whole(tmp_path / "a", "new")
    assert content(tmp_path) == {"a": "old"}
