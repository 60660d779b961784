"""Small screens with known structure, as tables and as sections."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd

from aivc_graph import names
from aivc_graph.tissue.intervention import Intervention, set_interventions
from aivc_graph.tissue.section import add_level, new_section


def screen(targets: str = "ABCDEFGH", contexts: str = "xy", seed: int = 0, doubles: float = 0.6) -> pd.DataFrame:
    """Return a screen: a control, most singles and some doubles in every context, in shuffled order."""
    rng = np.random.default_rng(seed)
    given = ["control", *(t for t in targets if rng.random() < 0.8)]
    given += ["+".join(rng.permutation(pair)) for pair in itertools.combinations(targets, 2) if rng.random() < doubles]
    rows = [{"condition": one, "context": where} for one in given for where in contexts]
    return pd.DataFrame(rows).sample(frac=1, random_state=seed).reset_index(drop=True)


def doses(agents: str = "ABCD", levels: tuple[float, ...] = (0.1, 1.0, 3.3, 10.0)) -> pd.DataFrame:
    """Return agents at all levels, one at the lowest only, another at no middle one; and a vehicle."""
    rows = [{"condition": a, "dose": d, "hours": 2 * d} for a in agents for d in levels]
    rows += [{"condition": "low", "dose": levels[0], "hours": 2 * levels[0]}]
    rows += [{"condition": "ends", "dose": d, "hours": 2 * d} for d in (levels[0], levels[-1])]
    return pd.DataFrame([*rows, {"condition": "DMSO", "dose": 0.0, "hours": 2.0}])


def section_of(name: str, *given: Intervention, donor: str = "d") -> Any:
    """Return a section of six cells to which this was done."""
    section = new_section(name, donor=donor)
    xy = np.random.default_rng(0).uniform(0, 100, (6, 2))
    add_level(section, names.CELL, [f"c{i}" for i in range(6)], xy, 5.0, np.eye(3))
    set_interventions(section, given)
    return section


def parts_of(condition: str) -> set[str]:
    """Return the parts of a condition, none of a control."""
    return set() if condition == "control" else set(condition.split("+"))
