"""What was done to each cell is read from columns, canonical, with doses that follow their parts."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from aivc_graph import names
from aivc_graph.errors import TissueError
from aivc_graph.tissue.applied import InterventionColumns, applied_parts, conditions_of_nodes, set_conditions
from aivc_graph.tissue.frame import diameters_um, positions_um
from aivc_graph.tissue.schema import check_section, describe_section
from aivc_graph.tissue.section import (
    add_cells,
    add_level,
    add_observation,
    merge_sections,
    metadata_of,
    new_section,
    only_value,
)
from tests.dissociated import screen_table, screened


def test_conditions_are_canonical_and_controls_told() -> None:
    section = screened("s", screen_table(lines=("a",)), dose="dose", hours="time", unit="copies")
    cells = section.shapes[names.CELL]
    assert cells["condition"].iloc[::4].tolist() == ["control", "control", "KLF1", "TP53", "KLF1+TP53", "CEBPA+KLF1"]
    assert cells["dose"].iloc[::4].tolist() == ["1", "1", "1", "1", "1+2", "1+1"]
    read = set_conditions(section, InterventionColumns(column="gene", kind="knockout"))
    assert read.controls == {"DMSO": 4, "NTC": 4, "safe-targeting": 4}
    table, given = applied_parts(screened("s", screen_table(lines=("a",)), dose="dose", hours="time"))
    pair = table[table["node"] == 16].set_index("key")
    assert pair["dose"].to_dict() == {"knockout:KLF1": 1.0, "knockout:TP53": 2.0}
    assert set(pair["hours"]) == {48.0} and given["knockout:TP53"].targets == {"TP53": -1.0}
    assert len(table) == 4 * (1 + 1 + 2 + 2) and not set(table["node"]) & set(range(8))


def test_doses_and_hours_that_no_column_states_are_not_known() -> None:
    table, given = applied_parts(screened("s", screen_table(lines=("a",)), hours="time"))
    assert table["dose"].isna().all() and set(table["hours"]) == {48.0}
    assert given["knockout:TP53"].dose == 1.0  # what is done at no stated dose is done once
    assert applied_parts(screened("s", screen_table(lines=("a",))))[0]["hours"].isna().all()


def test_the_kind_may_differ_between_rows() -> None:
    table = screen_table()
    kind = {"column": "line", "values": {"a": "activation", "b": "knockout"}}
    section = screened("s", table, kind=kind)
    genes = ("KLF1", "TP53", "CEBPA")
    assert set(applied_parts(section)[1]) == {f"{kind}:{gene}" for kind in ("activation", "knockout") for gene in genes}
    with pytest.raises(TissueError, match="no value in 'line' named 'b'"):
        screened("s", table, kind={"column": "line", "values": {"a": "activation"}})


def test_structures_of_a_combination_are_its_parts_own() -> None:
    table = screen_table(n=1, lines=("a",))
    table.obs["smiles"] = ["", None, "C[NH3+]", "CCO;CS(C)=O", "CCO;C[NH3+]", "C[NH3+];"]
    found = conditions_of_nodes(screened("s", table, kind="drug", smiles="smiles"))["smiles"].tolist()
    assert found[2:] == [("C[NH3+]",), ("CCO",), ("C[NH3+]", "CCO"), (None, "C[NH3+]")]
    genes = conditions_of_nodes(screened("s", table, smiles="smiles"))["smiles"].tolist()
    assert genes[2] == ("",)  # a gene has no structure


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("gene", None, "1 of 48 rows without a condition"),
        ("dose", "much", "dose 'much'"),
        ("dose", "-1", "1 treated cells without one, or with one below 0, first 'c8'"),
        ("time", np.nan, "1 treated cells without one"),
    ],
)
def test_what_is_missing_is_counted_and_never_guessed(column: str, value: object, said: str) -> None:
    table = screen_table()
    table.obs[column] = table.obs[column].astype(object)
    table.obs.loc["c8", column] = value
    with pytest.raises(TissueError, match=said):
        screened("s", table, dose="dose", hours="time")
    with pytest.raises(TissueError, match="no column named 'doses'; did you mean 'dose'"):
        screened("s", screen_table(), dose="doses")


def test_a_dissociated_section_has_no_places() -> None:
    section = screened("s", screen_table())
    check_section(section)
    assert np.isnan(positions_um(section, names.CELL)).all() and np.isnan(diameters_um(section, names.CELL)).all()
    assert describe_section(section)["levels"]["cell"] == {"nodes": 48, "placed": "dissociated, no positions"}
    add_level(section, names.PATCH, ["p"], [[0, 0]], 5.0, np.eye(3))
    with pytest.raises(TissueError, match="expected cells alone, found 'patch' in a dissociated section"):
        check_section(section)


def test_modalities_of_the_same_cells_are_joined_by_barcode() -> None:
    rna, protein = screen_table(), screen_table(seed=1)[1:, :5].copy()
    other = new_section("s")
    add_cells(other, protein.obs_names[::-1], protein.obs[["batch"]][::-1])
    add_observation(other, names.CELL, names.ADT, protein)
    section = merge_sections("s", [screened("s", rna), other])
    check_section(section)
    assert len(section.shapes[names.CELL]) == 48 and set(section.tables) == {"cell_rna", "cell_protein"}
    assert section.shapes[names.CELL].loc["c9", "condition"] == "KLF1"
    renamed = new_section("s")
    add_cells(renamed, [f"{one}-1" for one in rna.obs_names])
    with pytest.raises(TissueError, match=r"≥ 95% to match, found 0.0% of 48 barcodes of one source in the other"):
        merge_sections("s", [screened("s", rna), renamed])


def test_a_section_has_one_donor() -> None:
    section = screened("s", screen_table())
    with pytest.raises(TissueError, match="one for the section, found 2 values"):
        only_value(section, "batch")
    assert only_value(screened("s", screen_table(lines=("a",))), "batch") == "d1"
    assert metadata_of(section)["dissociated"]


def test_kinds_are_those_of_interventions() -> None:
    with pytest.raises(
        ValidationError, match=r"no kind of intervention named 'CRISPRi' \(known: activation, drug, kno"
    ):
        InterventionColumns(column="gene", kind="CRISPRi")
