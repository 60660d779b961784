"""The card of a run says in one line what its intervals resample."""

from __future__ import annotations

import numpy as np

from aivc_graph.evaluation.intervals import Units
from aivc_graph.pipeline.card import units_told


def test_each_kind_of_unit_is_named_once() -> None:
    units = [Units(np.arange(n), name, np.zeros(n, int)) for name, n in (("block", 9), ("block", 4), ("section", 1))]
    said = [one["says"] for one in units_told([*units, Units(np.arange(25), "block", np.zeros(25, int))])]
    assert said[0] == "Intervals resample 4 to 25 blocks, 1 section, as if these had been drawn at random."
    assert "nothing about another donor" in said[1] and len(units_told(units[2:])) == 1
