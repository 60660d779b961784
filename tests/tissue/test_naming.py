"""Numbers that are names keep every digit and gain no ``.0``, wherever a column is read as names."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from aivc_graph.errors import ReadError
from aivc_graph.tissue.conditions import read_conditions
from aivc_graph.tissue.intervention import Intervention, set_interventions
from aivc_graph.tissue.naming import name_of, names_of
from aivc_graph.tissue.section import add_cells, new_section, only_value

LONG = 1234567890123456789


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3.0, np.nan, 4.0], ["3", None, "4"]),
        ([LONG, LONG + 1], [str(LONG), str(LONG + 1)]),
        (pd.Categorical([3.0, 4.0]), ["3", "4"]),
        (["3.0", "4.0"], ["3", "4"]),
        (["3.0", "x"], ["3.0", "x"]),
    ],
)
def test_columns_of_names(values: list[object], expected: list[str | None]) -> None:
    assert names_of(pd.Series(values)).tolist() == expected and name_of(12345678.0) == "12345678"


def test_digits_that_are_lost_already_are_refused() -> None:
    with pytest.raises(ReadError, match="their last digits are lost"):
        names_of(pd.Series([float(LONG)]))


def test_donors_and_conditions_that_are_floats() -> None:
    section = new_section("s")
    add_cells(section, ["a", "b"], pd.DataFrame({"donor": [12345678.0, 12345678.0], "plate": [1.0, 2.0]}))
    assert only_value(section, "donor") == "12345678"
    read = read_conditions(pd.Series([0.0, 7.0]), control="0")
    assert read.name.tolist()[1] == "7" and list(read.controls) == ["0"]
    set_interventions(section, [Intervention(name="G1", kind="knockout", where={"column": "plate", "equals": "2"})])
