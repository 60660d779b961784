"""What is known of a simulated tissue and of no other: the tables in its ``truth`` folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from aivc_graph import names
from aivc_graph.config import Config
from aivc_graph.errors import Faults, ReadError
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.simulate.truth import DELIVERED
from aivc_graph.tissue.section import MIN_OVERLAP

TRUTH = "truth"
KEYS = {"cells": "cell_id", "cell_rates": "cell_id", "spots": names.BARCODE}
OF_LEVEL = {"cells": names.CELL, "spots": names.PATCH}
# A registered section may lie some tens of microns from where it was cut; another one's cells lie anywhere.
ELSEWHERE_UM = 50.0


@dataclass(frozen=True)
class Truth:
    """The truth of the sections of a run.

    Parameters
    ----------
    folder
        With a folder a section.
    """

    folder: Path
    _read: dict[Path, pd.DataFrame] = field(default_factory=dict, repr=False, compare=False)

    def table(self, section: str, name: str) -> pd.DataFrame | None:
        """Return one table of a section by identifier, ``None`` where it is not there; those of nodes are read once.

        Raises
        ------
        ReadError
            If it cannot be read, or lacks its identifiers.
        """
        path = self.folder / section / f"{name}.parquet"
        if path in self._read:
            return self._read[path]
        if not path.is_file():
            return None
        try:
            found = pd.read_parquet(path).reset_index()
        except Exception as error:  # pyarrow raises whatever the damage leads to
            raise ReadError(str(path), f"a table that cannot be read ({error})", mend="simulate again") from error
        key = KEYS.get(name, "cell_id")
        if key not in found:
            raise ReadError(str(path), f"columns {', '.join(found.columns[:8])}", f"a column {key!r}", "simulate again")
        found = found.set_index(found.pop(key).astype(str))
        if name in OF_LEVEL:
            self._read[path] = found
        return found

    def of_nodes(self, graph: TissueGraph, level: str, name: str) -> pd.DataFrame | None:
        """Return one table of all sections in the order of a level's nodes; NaN where a node has no row there."""
        obs = graph.obs(level)
        parts = []
        for section in graph.obs(names.SECTION).index.astype(str):
            found = self.table(section, name)
            if found is not None:
                parts.append(found.set_axis(f"{section}:" + found.index))
        if not parts:
            return None
        whole = pd.concat(parts).reindex(obs.index)
        return whole if whole.notna().any(axis=None) else None


def check_truth(truth: Truth, graph: TissueGraph, inputs: Mapping[str, str] | None = None) -> None:
    """Compare the truth with the counted cells and spots of the graph, by section, barcode, place and content.

    Parameters
    ----------
    inputs
        SHA-256 by ``section/place`` of what the graph was built from, where it is known.

    Raises
    ------
    ReadError
        If it is of none of the sections, or of a section does not know its barcodes, has them elsewhere, or was
        delivered in files of the same names that all hold something else: it is then of another study whose sections
        are called alike. All faults at once.
    """
    faults, n_known = Faults(ReadError), 0
    mend = "name the truth of the very study the run was trained on"
    _check_delivered(truth, graph, inputs or {}, faults, mend)
    for section in graph.obs(names.SECTION).index.astype(str):
        for name, level in OF_LEVEL.items():
            table, rows = truth.table(section, name), _counted(graph, level, section)
            if table is None or not rows.any():
                continue
            n_known += 1
            where = str(truth.folder / section / f"{name}.parquet")
            barcodes = graph.obs(level)[names.BARCODE].astype(str)[rows]
            known = barcodes.isin(table.index).to_numpy()
            if known.mean() < MIN_OVERLAP:
                found = f"{known.mean():.0%} of the graph's {len(known):,} barcodes"
                faults.add(where, found, f"≥ {MIN_OVERLAP:.0%}", mend)
            elif {"x_um", "y_um"} <= set(table):
                there = table[["x_um", "y_um"]].reindex(barcodes[known]).to_numpy(np.float64)
                away = float(np.median(np.hypot(*(graph[level].pos.numpy()[rows][known] - there).T)))
                if away > ELSEWHERE_UM:
                    found = f"the same barcodes {away:,.0f} µm from where the graph has them"
                    faults.add(where, found, f"≤ {ELSEWHERE_UM:g} µm", mend)
    faults.raise_if_any()
    if not n_known:
        sections = ", ".join(graph.obs(names.SECTION).index.astype(str)[:5])
        raise ReadError(str(truth.folder), f"the truth of none of the run's sections ({sections} …)", mend=mend)


def _check_delivered(truth: Truth, graph: TissueGraph, inputs: Mapping[str, str], faults: Faults, mend: str) -> None:
    """Add a fault for each section whose files are all others than those the graph was built from."""
    for section in graph.obs(names.SECTION).index.astype(str):
        path = truth.folder / section / DELIVERED
        if not path.is_file():
            continue
        try:
            delivered = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ReadError(str(path), f"hashes that cannot be read ({error})", mend="simulate again") from error
        used = [(name.rpartition("/")[2], digest) for name, digest in inputs.items() if name.startswith(f"{section}/")]
        both = sorted({name for name, _ in used} & set(delivered))
        if both and not any(digest in delivered[name] for name, digest in used if name in delivered):
            faults.add(str(path), f"another {', '.join(both[:3])} than the graph was built from", "the same", mend)


def _counted(graph: TissueGraph, level: str, section: str) -> np.ndarray:
    """Return the nodes of a level in a section that were counted; windows laid over cells were not."""
    mask = names.mask_name(names.RNA)
    if level not in graph.levels or mask not in graph[level]:
        return np.zeros(0, bool)
    own: np.ndarray = (graph.obs(level)["section"].astype(str) == section).to_numpy()
    return own & graph[level][mask].numpy()


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
