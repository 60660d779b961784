"""What was done to a section: defaults, places, combinations, and how faults are said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from aivc_graph.errors import TissueError
from aivc_graph.tissue.frame import positions_um
from aivc_graph.tissue.intervention import (
    Intervention,
    Where,
    activation,
    drug,
    interventions_of,
    knockout,
    ligand,
    set_interventions,
    treated,
)


def test_targets_follow_from_the_kind() -> None:
    assert knockout("TGFB1").targets == {"TGFB1": -1.0}
    assert activation("STAT1").targets == {"STAT1": 1.0} and ligand("IFNG").targets == {"IFNG": 1.0}
    assert drug("X").targets == {} and drug("X", targets={"JAK1": -1}).targets == {"JAK1": -1.0}


def test_combination_keeps_its_parts_in_order() -> None:
    a, b, c = knockout("A"), drug("B"), ligand("C", onset_hours=6)
    assert [part.key for part in (a + b + c).parts] == ["knockout:A", "drug:B", "ligand:C"]
    assert (a + (b + c)).parts == ((a + b) + c).parts


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "knockin", "name": "A"},
        {"kind": "knockout", "name": ""},
        {"kind": "knockout", "name": "A", "dose": -1},
        {"kind": "knockout", "name": "A", "dose": float("nan")},
        {"kind": "knockout", "name": "A", "where": {}},
        {"kind": "knockout", "name": "A", "where": {"disc_um": [0, 0, 0]}},
        {"kind": "knockout", "name": "A", "where": {"column": "type"}},
        {"kind": "knockout", "name": "A", "where": {"disc_um": [0, 0, 9], "column": "type", "equals": "B"}},
    ],
)
def test_faulty_interventions_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Intervention(**given)


def test_place_is_a_disc_an_annotation_or_all(striped_section: Callable[..., Any]) -> None:
    section = striped_section(levels=("cell", "patch"))
    everywhere = treated(section, knockout("G0"))
    assert all(mask.all() for mask in everywhere.values()) and set(everywhere) == {"cell", "patch"}
    disc = treated(section, knockout("G0", where=Where(disc_um=(100, 100, 60))))
    far = np.hypot(*(positions_um(section, "cell") - 100).T) > 60
    np.testing.assert_array_equal(disc["cell"], ~far)
    stripe = treated(section, knockout("G0", where=Where(column="label", equals="stripe 1")))
    np.testing.assert_array_equal(stripe["cell"], section.shapes["cell"]["label"] == "stripe 1")


def test_what_was_done_travels_on_the_section(striped_section: Callable[..., Any]) -> None:
    section = striped_section()
    assert interventions_of(section) == ()
    given = (knockout("G0", where=Where(disc_um=(100, 100, 60))), drug("X", dose=0.3, unit="uM"))
    set_interventions(section, given)
    assert interventions_of(section) == given


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"disc_um": (9e6, 0, 10)}, "no node within 10 µm"),
        ({"column": "lable", "equals": "stripe 1"}, "did you mean 'label'"),
        ({"column": "label", "equals": "stripe 7"}, "no label named 'stripe 7'"),
    ],
)
def test_a_place_that_is_not_there_is_named(
    striped_section: Callable[..., Any], where: dict[str, Any], said: str
) -> None:
    with pytest.raises(TissueError, match=said):
        set_interventions(striped_section(), (knockout("G0", where=Where(**where)),))
