"""Held-out designs label the cells of screens by what was done to each, and folds cut samples of one donor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aivc_graph import names
from aivc_graph.errors import ConfigError, TissueError
from aivc_graph.splits.design import split_design
from aivc_graph.splits.leakage import duplicate_content
from aivc_graph.tissue.intervention import knockout
from aivc_graph.tissue.section import metadata_of
from tests.dissociated import screen_table, screened
from tests.splits.screens import section_of


def lines(**columns: Any) -> list[Any]:
    table = screen_table()
    return [screened(one, table[table.obs["line"] == one].copy(), **columns) for one in ("a", "b")]


def labelled(kind: str, sections: list[Any], column: str = "condition", **options: Any) -> dict[str, set[str]]:
    """Return the labels of the cells by a column."""
    split_design(kind, **options)(sections)
    found: dict[str, set[str]] = {}
    for section in sections:
        cells = section.shapes[names.CELL]
        for value, label in zip(cells[column], cells["split"], strict=True):
            found.setdefault(str(value), set()).add(label)
    return found


def test_a_held_out_gene_is_held_out_alone_and_in_pairs_in_every_line() -> None:
    found = labelled("by_intervention", lines(), test=["TP53"], validation=["CEBPA"])
    assert found == {
        "control": {"train"},
        "KLF1": {"train"},
        "TP53": {"test"},
        "KLF1+TP53": {"test"},
        "CEBPA+KLF1": {"validation"},
    }


def test_a_pair_is_held_out_while_its_parts_train() -> None:
    found = labelled("by_intervention", lines(), hold="combination", seen=2, n_test=1)
    assert found["KLF1+TP53"] == {"test"} and found["KLF1"] == found["TP53"] == {"train"}
    assert labelled("by_intervention", lines(), hold="combination", test=["TP53+KLF1"])["KLF1+TP53"] == {"test"}


def test_a_context_is_held_out_with_its_controls() -> None:
    sections = lines()
    metadata_of(sections[0])["context"] = "hepatocytes"
    found = labelled("by_context", sections, "line", test=["hepatocytes"])
    assert found == {"a": {"test"}, "b": {"train"}}
    with pytest.raises(ConfigError, match="no context named 'a'"):
        split_design("by_context", test=["a"])(sections)
    metadata_of(sections[1])["context"] = "kidney"
    assert labelled("by_group", sections, "line", key="context", test=["kidney"]) == {"a": {"train"}, "b": {"test"}}


def test_a_dose_and_a_time_are_held_out_cell_by_cell() -> None:
    table = screen_table()
    table.obs["dose"] = np.where(np.arange(len(table)) % 2, 1.0, 10.0)
    table.obs["time"] = np.where(np.arange(len(table)) % 4 < 2, 6.0, 24.0)
    section = screened("s", table, dose="dose", hours="time")
    found = labelled("by_dose", [section], "dose", test=["10"])
    assert found["1"] == {"train"} and found["10"] == {"test", "train"} and found["10+10"] == {"test"}
    cells = section.shapes[names.CELL]
    assert set(cells["split"][cells["condition"] == "control"]) == {"train"}
    assert labelled("by_time", [section], "hours", test=["24"])["24"] == {"test"}


def test_a_structure_is_held_out_cell_by_cell() -> None:
    pytest.importorskip("rdkit")
    table = screen_table(lines=("a",))
    rings = {"KLF1": "c1ccccc1O", "TP53+DMSO": "C1CCNCC1", "TP53+KLF1": "C1CCNCC1;c1ccccc1O"}
    table.obs["smiles"] = [rings.get(name, "") for name in table.obs["gene"]]
    section = screened("s", table, kind="drug", smiles="smiles")
    found = labelled("by_scaffold", [section], test=["c1ccccc1"])
    assert found["KLF1"] == found["KLF1+TP53"] == {"test"} and found["TP53"] == found["control"] == {"train"}
    assert found["CEBPA+KLF1"] == {"unused"}  # its molecules are not known


def test_screens_and_treated_tissue_are_split_together() -> None:
    tissue = [section_of("t", knockout("TP53")), section_of("u")]
    sections = [*tissue, *lines()]
    split_design("by_intervention", test=["TP53"])(sections)
    assert [set(s.shapes[names.CELL]["split"]) for s in tissue] == [{"test"}, {"train"}]
    assert set(sections[2].shapes[names.CELL]["split"]) == {"test", "train"}


def test_every_cell_is_tested_once_over_the_folds() -> None:
    sections = lines()
    tested = np.zeros(24, int)
    for fold in range(4):
        counts = split_design("by_cell", folds=4, fold=fold, seed=3)(sections)
        assert counts == {"cell": {"train": 24, "validation": 12, "test": 12}}
        tested += (sections[0].shapes[names.CELL]["split"] == "test").to_numpy()
    assert (tested == 1).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"folds": 3, "fold": 3}, "they are numbered 0–2"),
        ({"folds": 2}, "leave none to train on"),
        ({"folds": 25}, "expected at least one a fold, 25, found 24 cells"),
    ],
)
def test_folds_that_cannot_be_cut_are_named(options: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        split_design("by_cell", **options)(lines())
    with pytest.raises(ConfigError, match="expected dissociated cells, found cells with positions"):
        split_design("by_cell")([section_of("t")])


def test_a_cell_that_is_there_twice_is_found_across_a_screens_sides() -> None:
    table = screen_table(lines=("a",))
    twice = table.obs["gene"] == "TP53+DMSO"
    table.X[twice] = table.X[(table.obs["gene"] == "NTC").to_numpy()]
    section = screened("s", table)
    split_design("by_intervention", test=["TP53"])([section])
    with pytest.raises(TissueError, match=r"the same rows of counts \(4\) as s"):
        duplicate_content([section])
