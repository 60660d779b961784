"""Sections that lie on top of each other are doubted, whatever tells them apart; those side by side are not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from aivc_graph.io.ground import check_one_ground, section_column
from aivc_graph.tissue.doubt import doubts_heard

N = 72
ROWS, COLUMNS = np.divmod(np.arange(N), 9)
LATTICE = 10.0 * np.column_stack([COLUMNS, ROWS])
OVERLAID, BESIDE = np.concatenate([LATTICE, LATTICE + 3]), np.concatenate([LATTICE, LATTICE + 500])


def _barcodes() -> list[str]:
    rng = np.random.default_rng(0)
    return ["".join(rng.choice(list("ACGT"), 16)) for _ in range(2 * N)]


def _doubts(rows: list[str], columns: pd.DataFrame, xy: np.ndarray) -> str:
    with doubts_heard() as doubts:
        check_one_ground(pd.Index(rows), columns, xy, "t")
    return "\n".join(doubts)


@pytest.mark.parametrize(
    "name",
    ["library_id", "puck", "section_label", "slice_id", "Run_Tissue_name", "TMA_core", "sampleID", "ROI", "tissue_id"],
)
def test_a_column_tells_sections_apart_whatever_it_is_called(name: str) -> None:
    columns = pd.DataFrame({name: np.repeat(["A", "B"], N)})
    rows = [f"c{i}x" for i in range(2 * N)]
    assert f"all by `sections_by: {name}`" in _doubts(rows, columns, OVERLAID)
    assert not _doubts(rows, columns, BESIDE)


@pytest.mark.parametrize("name", ["cell_type", "leiden", "tissue", "condition"])
def test_groups_that_share_their_ground_by_nature_are_no_sections(name: str) -> None:
    columns = pd.DataFrame({name: np.array(["A", "B"])[np.arange(2 * N) % 2]})
    assert not _doubts([f"c{i}x" for i in range(2 * N)], columns, OVERLAID)


@pytest.mark.parametrize(
    "named",
    ["{code}-1-{part}", "Patient_{part}_{code}-1", "{code}#S{part}", "sample.{part}.{code}", "GSM{part}_{code}-1"],
)
def test_names_tell_sections_apart_however_they_are_put_together(named: str) -> None:
    rows = [named.format(code=code, part=1 + i // N) for i, code in enumerate(_barcodes())]
    assert "lie on the same ground" in _doubts(rows, pd.DataFrame(index=range(2 * N)), OVERLAID)
    assert not _doubts(rows, pd.DataFrame(index=range(2 * N)), BESIDE)


def test_places_of_the_array_that_repeat_are_doubted() -> None:
    array = pd.DataFrame({"array_row": np.tile(ROWS, 2), "array_col": np.tile(COLUMNS, 2)})
    rows = [f"c{i}x" for i in range(2 * N)]
    assert "72 of 144 nodes on a place of the array" in _doubts(rows, array, BESIDE)
    assert not _doubts(rows, array.assign(array_row=np.arange(2 * N)), BESIDE)


def test_the_column_is_named_within_which_names_do_not_repeat() -> None:
    rows = pd.Index([f"c{i % N}" for i in range(2 * N)])
    columns = pd.DataFrame({"batch": "one", "section": np.repeat(["A", "B"], N)})
    assert section_column(rows, columns) == "section"
    assert section_column(rows, columns[["batch"]]) is None
