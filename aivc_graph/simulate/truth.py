"""Write what no vendor knows: states, rates, compositions, networks, frames, and what would have been."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aivc_graph.atomic import file_digest
from aivc_graph.simulate.intervention import INTERACTIONS, Part
from aivc_graph.simulate.measure import Spots
from aivc_graph.simulate.pathways import PATHWAY_NAMES, network
from aivc_graph.simulate.programmes import NICHES, TYPE_NAMES
from aivc_graph.simulate.section import SimulatedSection, cell_names
from aivc_graph.simulate.spaceranger_files import spot_barcodes

DELIVERED = "delivered.json"


def write_common_truth(arms: Mapping[str, tuple[Part, ...]], folder: Path) -> None:
    """Write ``network.csv``, ``interventions.json`` and ``interactions.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    network().to_csv(folder / "network.csv", index=False)
    _write_json(folder / "interventions.json", {name: list(parts) for name, parts in arms.items()})
    pairs = [
        {"pair": [":".join(part) for part in pair], "coefficient": coefficient}
        for pair, coefficient in INTERACTIONS.items()
    ]
    _write_json(folder / "interactions.json", pairs)


def write_delivered(delivered: Path, folder: Path) -> None:
    """Write ``delivered.json``: by file name the SHA-256 of what was delivered of a section, to tell whose truth it is.

    Names and barcodes are alike in studies of one seed, counts are not.
    """
    found: dict[str, list[str]] = {}
    for path in sorted(one for one in delivered.rglob("*") if one.is_file()):
        found.setdefault(path.name, []).append(file_digest(path))
    _write_json(folder / DELIVERED, found)


def write_section_truth(section: SimulatedSection, spots: Spots | None, mpp: float | None, folder: Path) -> None:
    """Write ``cells``, ``cell_rates`` and, where there are spots, ``spots`` as Parquet, and ``transforms.json``."""
    folder.mkdir(parents=True)
    cell_states(section, cell_names(len(section.cell_xy))).to_parquet(folder / "cells.parquet", index=False)
    write_rates(section, folder / "cell_rates.parquet")
    _write_json(folder / "transforms.json", _transforms(section, mpp))
    if spots is not None:
        _spots(section, spots).to_parquet(folder / "spots.parquet", index=False)


def cell_states(
    section: SimulatedSection, names: NDArray[np.str_], corner_um: tuple[float, float] = (0.0, 0.0)
) -> pd.DataFrame:
    """Return what each cell is: its place, niche and type, whether it responds and was treated, its activities.

    Parameters
    ----------
    names
        Identifiers of the cells.
    corner_um
        Where the upper left corner of `section` lies.
    """
    return pd.DataFrame(
        {
            "cell_id": names,
            "x_um": section.cell_xy[:, 0] + corner_um[0],
            "y_um": section.cell_xy[:, 1] + corner_um[1],
            "niche": np.array(NICHES)[section.cell_niche],
            "type": np.array(TYPE_NAMES)[section.cell_type],
            "responder": section.responder,
            "treated": section.treated,
            **dict(zip(PATHWAY_NAMES, section.activity.T, strict=True)),
        }
    )


def write_rates(section: SimulatedSection, path: Path) -> None:
    """Write expected counts ``(cell, gene)``, indexed by ``cell_id``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    index = pd.Index(cell_names(len(section.cell_xy)), name="cell_id")
    pd.DataFrame(section.cell_rate.astype(np.float32), index, list(section.genes)).to_parquet(path)


def _spots(section: SimulatedSection, spots: Spots) -> pd.DataFrame:
    table = pd.DataFrame(spots.composition(section), columns=[f"share_{name}" for name in TYPE_NAMES])
    niche = section.layout.at(section.layout.niche, spots.xy).astype(int)
    table.insert(0, "barcode", spot_barcodes(len(spots.xy)))
    table.insert(1, "niche", np.array([*NICHES, "glass"])[niche])
    table.insert(2, "cells", np.asarray((spots.capture > 0.5).sum(axis=1)).ravel())
    return table


def _transforms(section: SimulatedSection, mpp: float | None) -> dict[str, Any]:
    """Return the maps to the block's frame: of cells and spots from microns, of the slide from its pixels."""
    frame = section.to_block
    warp = {
        "amplitude_um": frame.amplitude_um.tolist(),
        "direction": frame.direction.tolist(),
        "length_um": frame.length_um.tolist(),
        "phase": frame.phase.tolist(),
    }
    maps = {"cells": frame.matrix.tolist(), "spots": frame.matrix.tolist()}
    if mpp is not None:
        maps["slide"] = (frame.matrix @ np.diag([mpp, mpp, 1.0])).tolist()
    return {"block": section.block, **maps, "warp": warp}


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
