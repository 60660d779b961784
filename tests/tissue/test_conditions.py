"""One reader of conditions: order, quotes, separators, vehicles, names of controls."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aivc_graph.errors import TissueError
from aivc_graph.tissue.condition_table import as_conditions
from aivc_graph.tissue.conditions import CONTROL, canonical, is_control, parts_of, read_condition, read_conditions

# Names that hold what joins, quotes or stands for a control.
awkward = st.lists(st.text(alphabet='AB+"(-)_ ', min_size=1, max_size=6).map(str.strip).filter(bool), max_size=4)


@given(awkward)
@settings(max_examples=300, deadline=None)
def test_a_canonical_text_reads_back_as_the_parts_it_names(parts: list[str]) -> None:
    assert parts_of(canonical(parts)) == tuple(sorted(set(parts)))


def test_order_and_spaces_have_no_meaning() -> None:
    assert parts_of("B+A") == parts_of(" A + B ") == parts_of("A+B+A") == ("A", "B")
    assert canonical(["B", "A"]) == canonical(["A", "B", "A"]) == "A+B"


SPELLINGS = """ctrl control NTC non-targeting nontargeting Non_Targeting safe-targeting DMSO vehicle PBS mock
untreated WT"""


@pytest.mark.parametrize("name", SPELLINGS.split())
def test_vehicles_and_controls_are_nothing_alone_or_as_a_part(name: str) -> None:
    assert parts_of(name) == parts_of(name.upper()) == ()
    assert parts_of(f"KLF1+{name}") == parts_of(f"{name}+KLF1") == ("KLF1",)
    assert parts_of(f"{name}+{name}") == ()
    assert parts_of(f'"{name}"') == (name,)


def test_a_gene_that_only_begins_like_a_control_is_a_gene() -> None:
    assert not any(map(is_control, ("WT1", "CTRB1", "DMSO2", "NTRK1", "MOCKX", "NCR1")))


def test_a_plus_inside_brackets_or_quotes_is_part_of_a_name() -> None:
    assert parts_of("(+)-JQ1") == ("(+)-JQ1",)
    assert parts_of("(+)-JQ1+KLF1") == ("(+)-JQ1", "KLF1")
    assert parts_of('"NAD+"+NAD') == ("NAD", "NAD+")
    assert parts_of("NAD+ | NAD", "|") == ("NAD", "NAD+")
    assert canonical(["NAD+", "NAD"]) == 'NAD+"NAD+"'
    assert parts_of("A+B", None) == ("A+B",)
    with pytest.raises(TissueError, match=r"'NAD\+': expected names joined by '\+', found an empty part"):
        parts_of("NAD+")


def test_every_name_with_an_empty_part_is_told_at_once() -> None:
    with pytest.raises(TissueError) as error:
        read_conditions(["NAD+", "A", "A++B", "ctrl"], where="screen")
    assert "NAD+" in str(error.value) and "A++B" in str(error.value) and "double quotes" in str(error.value)


def test_pairs_joined_by_an_underscore_are_refused_until_the_separator_is_declared() -> None:
    column = ["G0", "G1", "G0_G1", "control", "G2_KO"]
    with pytest.raises(TissueError, match=r"'G0_G1', which reads as a pair of two conditions that are there.*'_'"):
        read_conditions(column)
    found = read_conditions(column, separator="_")
    assert found.name.tolist() == ["G0", "G1", "G0+G1", "control", "G2+KO"]
    assert read_conditions(["G0", "G1", '"G0_G1"', "ctrl"]).name.tolist() == ["G0", "G1", "G0_G1", CONTROL]
    with pytest.raises(TissueError, match="'G0_ctrl'"):
        read_conditions(["G0", "G0_ctrl", "ctrl"])


def test_which_spellings_were_taken_for_controls_is_told_and_counted() -> None:
    found = read_conditions(["NTC", "NTC", "safe-targeting", "KLF1+DMSO", "AAVS1", "KLF1"], control="AAVS1")
    assert found.name.tolist() == [CONTROL, CONTROL, CONTROL, "KLF1", CONTROL, "KLF1"]
    assert found.controls == {"AAVS1": 1, "DMSO": 1, "NTC": 2, "safe-targeting": 1}
    assert found.told() == (
        "taken for nothing done: 'AAVS1' (1 rows), 'DMSO' (1 rows), 'NTC' (2 rows), 'safe-targeting' (1 rows)"
    )
    assert read_conditions(["control", "A"]).told() == ""


def test_a_declared_control_may_hold_the_separator_and_must_be_there() -> None:
    assert read_conditions(["no+drug", "A"], control=["no+drug"]).name.tolist() == [CONTROL, "A"]
    with pytest.raises(TissueError, match="no control named 'Vehikel'; did you mean 'Vehicle'"):
        read_conditions(["Vehicle", "A"], control="Vehikel")


def test_a_row_without_a_condition_is_counted_and_refused() -> None:
    with pytest.raises(TissueError, match="2 of 4 rows without a condition"):
        read_conditions(["A", None, "", "ctrl"])


def test_a_part_knows_its_place_among_those_written() -> None:
    found = read_condition("KLF1+DMSO+CEBPA")
    assert (found.parts, found.places, found.n_written) == (("CEBPA", "KLF1"), (2, 0), 3)


def test_a_dose_goes_with_its_part_whatever_the_order_and_the_vehicles() -> None:
    table = pd.DataFrame(
        {
            "condition": ["B+A", "A+DMSO+B", "DMSO+A", "A+B", "A", "DMSO", "A+B"],
            "dose": ["2+1", "1+0+2", "0.5", (1, 2), "1e+3", 0, "0+2"],
            "hours": [6, 6, "24", 6, 6, 3, 6],
        }
    )
    found = as_conditions(table)
    assert found["condition"].tolist() == ["A+B", "A+B", "A", "A+B", "A", "control", "B"]
    assert found["dose"].tolist() == [(1, 2), (1, 2), (0.5,), (1, 2), (1000,), (0,), (2,)]
    assert found["hours"].tolist() == [(6, 6), (6, 6), (24,), (6, 6), (6,), (3,), (6,)]
    found = as_conditions(pd.DataFrame({"condition": ["B_A"], "dose": ["2_1"]}), separator="_")
    assert found.iloc[0].tolist() == ["A+B", ("A", "B"), (1, 2)]
    with pytest.raises(TissueError, match=r"A\+B: expected one a part, or one for all, found 3 values of dose"):
        as_conditions(pd.DataFrame({"condition": ["A+B"], "dose": ["1+2+3"]}))


NUMBERED = ["non-targeting_12", "NegCtrl0", "Control_1", "NO_SITE_3", "sgNT", "DMSO_0.1%", "no treatment"]


@pytest.mark.parametrize("name", NUMBERED)
def test_numbered_controls_and_shares_of_vehicles_are_nothing(name: str) -> None:
    assert is_control(name) and parts_of(f"KLF1+{name}") == ("KLF1",)


@pytest.mark.parametrize("name", ["WT1", "NT5E", "NTC1A", "medium", "AAVS1_1", "PBS2X", "CTRL1B"])
def test_genes_and_doses_that_look_like_controls_are_none(name: str) -> None:
    assert not is_control(name) and parts_of(name) == (name,)


@pytest.mark.parametrize("join", ["-", ":", ".", "--", " and ", " x ", "~"])
def test_pairs_that_anything_joins_are_refused_and_read_as_advised(join: str) -> None:
    column = pd.Series(["A", "B", f"A{join}B", "ctrl"])
    with pytest.raises(TissueError, match=r"reads as a pair of two conditions.*declare `separator: ") as told:
        read_conditions(column)
    separator = str(told.value).partition("`separator: '")[2].partition("'`")[0]
    assert read_conditions(column, separator=separator).name.tolist()[2] == "A+B"
