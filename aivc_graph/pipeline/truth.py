"""What is known of a simulated tissue and of no other: the tables in its ``truth`` folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from aivc_graph import names
from aivc_graph.config import Config
from aivc_graph.errors import ReadError
from aivc_graph.graph.tissue_graph import TissueGraph

TRUTH = "truth"
KEYS = {"cells": "cell_id", "cell_rates": "cell_id", "spots": names.BARCODE}


@dataclass(frozen=True)
class Truth:
    """The truth of the sections of a run.

    Parameters
    ----------
    folder
        With a folder a section.
    """

    folder: Path

    def table(self, section: str, name: str) -> pd.DataFrame | None:
        """Return one table of a section by identifier, ``None`` where it is not there.

        Raises
        ------
        ReadError
            If it cannot be read, or lacks its identifiers.
        """
        path = self.folder / section / f"{name}.parquet"
        if not path.is_file():
            return None
        try:
            found = pd.read_parquet(path).reset_index()
        except Exception as error:  # pyarrow raises whatever the damage leads to
            raise ReadError(str(path), f"a table that cannot be read ({error})", mend="simulate again") from error
        key = KEYS.get(name, "cell_id")
        if key not in found:
            raise ReadError(str(path), f"columns {', '.join(found.columns[:8])}", f"a column {key!r}", "simulate again")
        return found.set_index(found.pop(key).astype(str))

    def of_nodes(self, graph: TissueGraph, level: str, name: str) -> pd.DataFrame | None:
        """Return one table of all sections in the order of a level's nodes; NaN where a node has no row there."""
        obs = graph.obs(level)
        parts = []
        for section in graph.obs(names.SECTION).index.astype(str):
            found = self.table(section, name)
            if found is not None:
                found.index = f"{section}:" + found.index
                parts.append(found)
        if not parts:
            return None
        whole = pd.concat(parts).reindex(obs.index)
        return whole if whole.notna().any(axis=None) else None


def find_truth(config: Config, given: Path | None) -> Truth | None:
    """Return the truth that was `given`, or that lies beside a simulated tissue of the configuration.

    Raises
    ------
    ReadError
        If the given folder holds no truth of a section.
    """
    if given is not None:
        if not any(given.glob("*/cells.parquet")) and not any(given.glob("*/spots.parquet")):
            found = "no such folder" if not given.is_dir() else "no <section>/cells.parquet"
            raise ReadError(str(given), found, "the truth folder of a simulated tissue", "name OUT/truth")
        return Truth(given)
    for section in config.task.sections:
        for source in section.sources:
            for parent in list(source.path.absolute().parents)[:3]:
                if any((parent / TRUTH).glob("*/cells.parquet")):
                    return Truth(parent / TRUTH)
    return None


def known_rows(table: pd.DataFrame | None, column: str) -> np.ndarray | None:
    """Return who has a value in `column` (node,), ``None`` without such a column."""
    return None if table is None or column not in table else table[column].notna().to_numpy()
