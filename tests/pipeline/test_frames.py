"""A delivered section whose parts do not belong together: what the build says, and what `inspect` repeats."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from aivc_graph.simulate.simulate import simulate

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate("tiny", tmp_path_factory.mktemp("frames") / "tissue")


@pytest.fixture
def study(tissue: Path, tmp_path: Path) -> Path:
    """Return a copy of two sections of one donor that a test may spoil, with their configuration."""
    for name in ("D1_untreated", "D1_knockout_tgfb1"):
        shutil.copytree(tissue / name, tmp_path / name)
    source = "{{path: ./{0}/spaceranger, reader: spaceranger}}, {{path: ./{0}/xenium, reader: xenium{1}}}"
    labelled = source.format("D1_untreated", ", labels: cell_types.csv")
    other = source.format("D1_knockout_tgfb1", "")
    sections = [f"{{name: a, donor: D1, sources: [{labelled}]}}", f"{{name: b, donor: D1, sources: [{other}]}}"]
    (tmp_path / "study.yaml").write_text(f"task: {{name: t, sections: [{', '.join(sections)}]}}\n")
    return tmp_path


def build(say: Say, study: Path, *more: object) -> tuple[int, str]:
    code, _, err = say("build", study / "study.yaml", "--out", study / "graph.zarr", *more)
    return code, err


def doubts(say: Say, path: Path) -> list[str]:
    found: list[str] = json.loads(say("inspect", path, "--json")[1])["doubts"]
    return found


def move_cells(study: Path, x: float = 1.0, shift: float = 0.0, swap: bool = False) -> None:
    path = study / "D1_untreated/xenium/cells.parquet"
    cells = pd.read_parquet(path)
    place = cells[["x_centroid", "y_centroid"]].to_numpy()
    place = (place[:, ::-1] if swap else place) * [x, 1.0] + [shift, 0.0]
    cells.assign(x_centroid=place[:, 0], y_centroid=place[:, 1]).to_parquet(path, index=False)


def test_sound_sections_raise_no_doubt(study: Path, say: Say) -> None:
    code, err = build(say, study)
    assert code == 0 and "357 cells with a label, 0 without; 0 labels at no cell" in err
    assert doubts(say, study / "graph.zarr") == []


def test_cells_of_another_frame_are_refused(study: Path, say: Say) -> None:
    move_cells(study, x=-1.0)
    code, err = build(say, study)
    assert code == 2 and "a · cell and patch: expected ≥ 50% in one frame, found" in err
    assert "and the origin of both the same" in err and not (study / "graph.zarr").exists()


def test_shifted_or_swapped_cells_are_doubted_and_inspect_remembers(study: Path, say: Say) -> None:
    move_cells(study, shift=200.0)
    code, err = build(say, study, "--quiet")
    assert code == 0 and "a · cell" in err
    assert [line for line in err.splitlines() if line] == doubts(say, study / "graph.zarr")
    move_cells(study, shift=-200.0)
    move_cells(study, swap=True)
    code, err = build(say, study, "--quiet")
    assert code == 0 and "the spots' genes fit those of the cells better mirrored by 'swap_xy'" in err


def test_labels_of_another_section_are_doubted(study: Path, say: Say) -> None:
    shutil.copy(study / "D1_knockout_tgfb1/xenium/cell_types.csv", study / "D1_untreated/xenium/cell_types.csv")
    code, err = build(say, study, "--set", "task.sections[0].sources[1].labels=cell_types.csv")
    assert code == 2 and "of 384 labels at no cell, first" in err and "do both files belong together?" in err
    labels = pd.read_csv(study / "D1_knockout_tgfb1/xenium/cell_types.csv")
    labels.iloc[:350].to_csv(study / "D1_untreated/xenium/cell_types.csv", index=False)
    code, err = build(say, study)
    assert code == 0 and "350 cells with a label, 7 without; 0 labels at no cell" in err
    assert "a · cell · label: genes differ" in err and "are they of this section?" in err
    labels.iloc[:100].to_csv(study / "D1_untreated/xenium/cell_types.csv", index=False)
    code, err = build(say, study, "--quiet")
    assert code == 0 and "100 cells with a label, 257 without" in err
    labels.iloc[:10].to_csv(study / "D1_untreated/xenium/cell_types.csv", index=False)
    code, err = build(say, study)
    assert code == 2 and "expected those of ≥ 5%, found labels of 10 of 357 cells" in err


def test_a_held_out_donor_that_is_nobodys_is_told_before_reading(study: Path, say: Say) -> None:
    shutil.rmtree(study / "D1_untreated")
    code, err = build(say, study, "--set", "task.split={kind: by_group, key: donor, test: [D9]}")
    assert code == 2 and "split · test: no donor named 'D9'" in err and "reading" not in err


def test_a_held_out_intervention_that_nobody_was_given_is_told_before_reading(study: Path, say: Say) -> None:
    shutil.rmtree(study / "D1_untreated")
    code, err = build(say, study, "--set", "task.split={kind: by_intervention, test: [TGFB1]}")
    assert code == 2 and "no target named 'TGFB1'" in err and "reading" not in err


def test_where_nothing_can_be_written_is_told_before_reading(study: Path, say: Say) -> None:
    code, _, err = say("build", study / "study.yaml", "--out", "/proc/nowhere/graph.zarr")
    assert code == 2 and "/proc/nowhere: " in err and "nothing can be written there" in err and "reading" not in err


def test_one_folder_under_two_names_is_told(study: Path, say: Say) -> None:
    code, err = build(say, study, "--set", "task.sections[1].sources[1].path=./D1_untreated/xenium")
    path = (study / "D1_untreated/xenium").resolve()
    assert code == 0 and f"a and b: expected each piece of tissue once, found the same source {path}" in err
    assert "a · table 'cell_rna': " in err and "the same rows of counts" in err and "as b · table 'cell_rna'" in err
    assert len([one for one in doubts(say, study / "graph.zarr") if "each piece of tissue once" in one]) == 2
    code, err = build(say, study)
    assert code == 0 and "each piece of tissue once" not in err
    split = "task.split={kind: by_group, key: section, test: [b], share_donors: true}"
    assert build(say, study, "--quiet", "--set", split)[0] == 0
    assert len(json.loads(say("inspect", study / "graph.zarr", "--json")[1])["leaks"]) == 1
