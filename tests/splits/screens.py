"""Small screens with known structure, as tables and as sections."""

from __future__ import annotations

import itertools
from pathlib import Path
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


def plate(path: Path) -> pd.DataFrame:
    """Return the conditions of a plate in GCT 1.3, a row a well: compound, dose, hours, and its SMILES if given."""
    with path.open() as lines:
        next(lines)
        n_rows_before, n_fields = (int(part) for part in next(lines).split("\t")[2:4])
        rows = [next(lines).rstrip("\n").split("\t") for _ in range(1 + n_fields)]
    fields = {row[0]: row[1 + n_rows_before :] for row in rows}
    table = pd.DataFrame({"condition": fields["pert_iname"]})
    table["dose"] = [0.0 if value == "-666" else float(value) for value in fields["pert_dose"]]
    table["hours"] = [float(value) for value in fields["pert_time"]]
    if "isomeric_smiles" in fields:
        table["smiles"] = [None if value == "-666" else value for value in fields["isomeric_smiles"]]
    return table
