"""Answers of costly baselines are remembered by content, and never believed where the file is not whole."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aivc_graph.evaluation.baselines import remembered
from aivc_graph.evaluation.baselines.baseline import BASELINES, Scene, run_baselines
from tests.suites.test_baselines_are_blind import READOUTS, scene

COSTLY = {
    *("kernel_ridge_of_features", "knn_of_features", "logistic_of_features", "nearest_type_mean"),
    *("neighbour_mean_mixture", "nnls", "own_mixture", "ridge"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "aivc-graph" / "baselines"


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*")) if folder.exists() else []


@pytest.mark.parametrize("readout", READOUTS)
def test_a_remembered_answer_is_the_same_to_the_last_bit(readout: str, folder: Path) -> None:
    first = run_baselines(scene(readout), readout)
    kept = files(folder)
    assert {path.name.rsplit("-", 1)[0] for path in kept} == COSTLY & set(first)
    again = run_baselines(scene(readout), readout)
    assert files(folder) == kept and list(again) == list(first)
    for name, answer in first.items():
        assert answer.dtype == again[name].dtype and answer.tobytes() == again[name].tobytes(), name


def test_what_is_remembered_is_what_is_answered(folder: Path) -> None:
    run_baselines(scene("modality"), "modality")
    (path,) = folder.glob("ridge-*.npz")
    with np.load(path) as found:
        answer = found["answer"]
    np.savez(path, answer=answer + 1.0)
    np.testing.assert_array_equal(run_baselines(scene("modality"), "modality")["ridge"], answer + 1.0)


def changed(one: Scene, what: str) -> Scene:
    values = np.array(getattr(one, what))
    at = int(np.flatnonzero(one.train)[0])
    values[at] = ~values[at] if values.dtype == bool else values[at] + 1
    return replace(one, **{what: values})


@pytest.mark.parametrize("what", ["target", "features", "train", "visible", "section", "pos_um"])
def test_any_other_value_of_the_scene_is_another_answer(what: str, folder: Path) -> None:
    run_baselines(scene("modality"), "modality")
    before = files(folder)
    run_baselines(changed(scene("modality"), what), "modality")
    assert len(files(folder)) == 2 * len(before) == 6


def test_another_source_or_library_is_another_answer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = remembered.RememberedAnswers(folder, scene("modality"))
    kept.put("ridge", BASELINES["ridge"], np.ones((20, 4)))
    assert kept.get("ridge", BASELINES["ridge"]) is not None
    # A rule of the same name written elsewhere, such as in this file, is another rule.
    assert kept.get("ridge", changed) is None
    monkeypatch.setattr(remembered, "_libraries", lambda: "numpy 0")
    assert kept.get("ridge", BASELINES["ridge"]) is None


@pytest.mark.parametrize("damage", ["half", "empty", "flipped", "pickle", "other"])
def test_a_damaged_file_is_worked_out_anew_and_mended(
    damage: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    true = run_baselines(scene("modality"), "modality")["ridge"]
    (path,) = folder.glob("ridge-*.npz")
    whole = path.read_bytes()
    if damage == "pickle":
        np.savez(path, answer=np.array([{"a": 1}] * 20, object))
    elif damage == "other":
        np.savez(path, answer=true[1:])
    else:
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        path.write_bytes({"half": whole[:middle], "empty": b"", "flipped": flipped}[damage])
    with caplog.at_level(logging.WARNING, logger="aivc_graph"):
        told = run_baselines(scene("modality"), "modality")["ridge"]
    assert told.tobytes() == true.tobytes() and "set aside" in caplog.text
    with np.load(path) as found:
        assert found["answer"].tobytes() == true.tobytes()


def test_what_was_not_used_for_longest_goes_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = [replace(scene("modality"), pos_um=np.full((120, 2), float(i))) for i in range(3)]
    kept = [remembered.RememberedAnswers(folder, one) for one in scenes]
    answer, rule = np.ones((20, 4)), BASELINES["ridge"]
    kept[0].put("ridge", rule, answer)
    size = next((folder / "baselines").glob("*.npz")).stat().st_size
    monkeypatch.setattr(remembered, "MOST_BYTES", 2 * size)
    kept[1].put("ridge", rule, answer)
    assert kept[0].get("ridge", rule) is not None
    kept[2].put("ridge", rule, answer)
    assert [one.get("ridge", rule) is not None for one in kept] == [True, False, True]
    monkeypatch.setattr(remembered, "MOST_OF_ONE", answer.nbytes - 1)
    kept[1].put("ridge", rule, answer)
    assert kept[1].get("ridge", rule) is None


def test_where_nothing_can_be_written_it_is_worked_out_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert set(run_baselines(scene("modality"), "modality")) >= {"ridge", "global_mean"}
