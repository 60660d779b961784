"""Which interventions can be compared: those that last until the tissue is measured."""

from __future__ import annotations

import pytest

from aivc_graph.operators.intervention_plan import together


@pytest.mark.parametrize(
    ("arm", "whole"),
    [
        ({"a": (1.0, 24.0, 0.0)}, True),
        ({"a": (1.0, 24.0, 0.0), "b": (1.0, 24.0, 0.0)}, True),
        ({"a": (1.0, 24.0, 0.0), "b": (1.0, 18.0, 6.0)}, True),  # added later, measured together
        ({"a": (1.0, 24.0, 0.0), "b": (1.0, 24.0, 24.0)}, False),  # one after the other
        ({"a": (1.0, 24.0, 0.0), "b": (1.0, 18.0, 0.0)}, False),  # one ended before
    ],
)
def test_parts_act_together_if_they_end_together(arm: dict[str, tuple[float, float, float]], whole: bool) -> None:
    assert together(arm) is whole
