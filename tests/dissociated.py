"""Small dissociated samples: a screen in two lines as an AnnData, and sections of it."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from aivc_graph import names
from aivc_graph.tissue.applied import InterventionColumns, set_conditions
from aivc_graph.tissue.section import add_cells, add_observation, new_section

CONDITIONS = ("NTC", "safe-targeting", "KLF1", "TP53+DMSO", "TP53+KLF1", "KLF1+CEBPA")


def screen_table(n: int = 4, lines: tuple[str, ...] = ("a", "b"), seed: int = 0) -> Any:
    """Return counts (cell, gene): `n` cells of every condition in every line, with what was done in columns."""
    rng = np.random.default_rng(seed)
    rows = [(line, one) for line in lines for one in CONDITIONS for _ in range(n)]
    obs = pd.DataFrame(rows, columns=["line", "gene"], index=[f"c{i}" for i in range(len(rows))])
    obs["dose"] = ["2+1" if name == "TP53+KLF1" else "1" for name in obs["gene"]]
    obs["time"] = 48.0
    obs["batch"] = ["d1" if line == lines[0] else "d2" for line in obs["line"]]
    var = pd.DataFrame(index=["KLF1", "TP53", "CEBPA", *(f"G{i}" for i in range(12))])
    return ad.AnnData(rng.poisson(3.0, (len(obs), len(var))).astype(np.float32), obs=obs, var=var)


def screened(name: str, table: Any, **columns: Any) -> Any:
    """Return a dissociated section of a table of counts with what was done to its cells."""
    section = new_section(name)
    add_cells(section, table.obs_names, table.obs)
    add_observation(section, names.CELL, names.RNA, table)
    set_conditions(section, InterventionColumns(**{"column": "gene", "kind": "knockout", **columns}))
    return section
