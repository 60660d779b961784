"""Doses and durations with their units: one unit a column, and what cannot be one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aivc_graph.errors import TissueError
from aivc_graph.tissue.amounts import in_one_unit, unit_of
from aivc_graph.tissue.applied import conditions_of_nodes
from tests.dissociated import screen_table, screened


def _doses(*values: Any, unit: str | None = None) -> tuple[list[Any], str | None]:
    return in_one_unit(values, "dose", unit, "+", "s")


def _hours(*values: Any) -> list[Any]:
    return in_one_unit(values, "hours", "h", "+", "s")[0]


@pytest.mark.parametrize(
    ("text", "micromolar"),
    [("10 uM", 10), ("10um", 10), ("1 µM", 1), ("1 μM", 1), ("100 nM", 0.1), ("0.04 uM", 0.04), ("2mM", 2000),
     ("1e-3 mM", 1), ("500 pM", 5e-4), ("1.5e+1 nM", 0.015), ("3 micromolar", None), ("1 M", 1e6)],
)  # fmt: skip
def test_concentrations_are_micromolar(text: str, micromolar: float | None) -> None:
    if micromolar is None:
        with pytest.raises(TissueError, match=r"a number, or one with its unit, found dose '3 micromolar'"):
            _doses(text)
        return
    values, unit = _doses(text)
    assert values == [pytest.approx(micromolar)] and unit == "µM"


def test_the_unit_asked_for_is_kept() -> None:
    assert _doses("1 uM", "50 nM", unit="nM") == ([pytest.approx(1000), 50], "nM")
    assert _doses("1 ug/ml", "5 ng/mL") == ([1000, 5], "ng/mL")
    assert _doses(1.0, 0.5, unit="Gy") == ([1.0, 0.5], "Gy")
    assert _doses("1", "0.5") == ([1.0, 0.5], None)
    with pytest.raises(TissueError, match=r"expected ng/mL, as `unit:` says, found amounts in µM"):
        _doses("1 uM", unit="ng/mL")


def test_parts_of_a_combination_have_one_each() -> None:
    assert _doses("10 uM+100 nM")[0] == [(10, pytest.approx(0.1))]
    assert _doses("1+0.5 uM", "3 uM")[0] == [(1, 0.5), 3]
    assert _doses("1e+3+2", "1e+1")[0] == [(1000, 2), 10]
    assert _doses("1|2")[0] == [(1, 2)]


def test_durations_are_hours() -> None:
    assert _hours("6 h", "24hr", "2 days", "30 min", "1 wk", "3 hours") == [6, 24, 48, 0.5, 168, 3]
    assert _hours(6, 24.0) == [6, 24.0]
    with pytest.raises(TissueError, match=r"hours: expected durations, found units µM"):
        _hours("6 uM")
    with pytest.raises(TissueError, match=r"dose: expected one kind of amount, found units h"):
        _doses("6 h")


def test_what_cannot_be_one_unit_is_refused() -> None:
    with pytest.raises(TissueError, match=r"found units ng/mL, µM; part the column"):
        _doses("1 uM", "1 ng/mL")
    with pytest.raises(TissueError, match=r"'5' without a unit beside others with one"):
        _doses("1 uM", "5")
    with pytest.raises(TissueError, match=r"'5.0' without a unit"):
        _doses("1 uM", 5.0)
    for text in ("ten uM", "1,5 uM", "10 apples", "uM", "1 2"):
        with pytest.raises(TissueError, match=r"expected a number, or one with its unit"):
            _doses(text)


def test_nothing_given_needs_no_unit() -> None:
    values, unit = _doses("10 uM", "0", None, np.nan, "", 0)
    assert unit == "µM" and values[:2] == [10, 0] and np.isnan(values[2:5]).all() and values[5] == 0


def test_units_are_told_apart_by_case_where_it_matters() -> None:
    assert (unit_of("M"), unit_of("m"), unit_of("H"), unit_of("MG/KG")) == ("M", None, "h", "mg/kg")


def test_a_screen_with_units_in_text_is_in_one() -> None:
    table = screen_table()
    table.obs["dose"] = ["1 µM+500 nM" if name == "TP53+KLF1" else "2 uM" for name in table.obs["gene"]]
    table.obs.loc[table.obs["gene"] == "NTC", "dose"] = None
    table.obs["time"] = "2 d"
    section = screened("s", table, dose="dose", hours="time")
    found = conditions_of_nodes(section)
    assert found is not None and section.attrs["aivc"]["applied"]["unit"] == "µM"
    by = found.groupby("condition")[["dose", "hours"]].first()
    # Parts are in alphabetical order, and each keeps its own.
    assert by.loc["KLF1+TP53", "dose"] == (0.5, 1.0) and by.loc["KLF1", "dose"] == (2.0,)
    assert by.loc["control", "hours"] == (48.0,) and by.loc["KLF1+TP53", "hours"] == (48.0, 48.0)
