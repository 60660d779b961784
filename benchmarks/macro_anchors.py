"""A coarse map with few known positions as anchors, through the graph to an answer: spots told by the cells beneath.

Xenium's own frame is the map of which little is known: STalign bent it onto an H&E, on which the Visium spots of the
neighbouring section lie (Janesick et al. 2023, doi:10.1038/s41467-023-43458-x). Of 1, 5 or 20 % of the cells the place
on the H&E is known (`share` of the registration); all cells are placed by these, straight (a similarity, an affine) or
bent, or by expression alone where none is known, or all by their known place. Then as of any tissue: cells beneath
spots by overlap, or by a model in closed form, in blocks held out of training, the same ones throughout; the reach of
cells to spots is configured as ever, and the error of places is what the registration states. Sections differ by some
50 µm beyond their frames. Intervals are over blocks of test tissue, differences by the same blocks drawn.

    python benchmarks/macro_anchors.py --out benchmarks/results/macro_anchors.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from anchors import (
    BOOTSTRAPS,
    CELL,
    CONFIG,
    SPOT,
    Sums,
    counts_of,
    errors,
    interval,
    nearest,
    overlap,
    placed,
    profiles_judged,
    told,
)
from markers import label_by_markers
from result_file import write_result

from aivc_graph import names
from aivc_graph.config import Config, SourceConfig, load_config
from aivc_graph.graph.build import build_graph
from aivc_graph.graph.panels import panel, shared_columns
from aivc_graph.pipeline.build import hold_out, read_section
from aivc_graph.query.composition import measured_shares, predicted_shares
from aivc_graph.tissue.frame import affine_of, place, positions_um, scale_affine
from aivc_graph.tissue.registration.method import registration_method
from aivc_graph.tissue.registration.register import register
from aivc_graph.tissue.section import metadata_of
from aivc_graph.training.fit import fit

# Eight of some eleven thousand: as many as somebody marks by hand.
SHARES = {0.0007: "8 known", 0.01: "1 %", 0.05: "5 %", 0.2: "20 %"}
ALL, NONE, STRAIGHT = "all known", "none, by expression", "similarity"
LEADS = {"8 known, bent": "8 known, similarity"} | {f"{n} %, bent": f"{n} %, similarity" for n in (1, 5, 20)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/macro_anchors.json"))
    options = parser.parse_args()
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        study = Study(Path(folder))
        sums = {name: study.scores(name, method) for name, method in study.conditions().items()}
    found = {name: {key: told_of(key, one, sums, name) for key, one in kept.items()} for name, kept in sums.items()}
    found = {name: {"placed": study.placed[name]} | scores for name, scores in found.items()}
    print(json.dumps(found, indent=1))
    write_result(options.out, found | {"seconds": round(time.process_time() - started)})


class Study:
    """The tumour, of whose cells the place in Xenium's own frame is known too; blocks and types stay the same.

    `placed` says by condition how far the map is off, and states to be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.config = folder, self._config(folder)
        self.section = read_section(self.config.task.sections[0])
        label_by_markers(self.section)
        hold_out([self.section], self.config.task)
        self.cells = self.section.shapes["cell"].copy()
        self.um_per_unit = float(affine_of(self.section, "cell")[0, 0])
        self.true_um = positions_um(self.section, "cell")
        self.own_um = self.cells[["own_x", "own_y"]].to_numpy(float)
        self.placed: dict[str, dict[str, Any]] = {}
        self.untouched = build_graph([self.section], self.config.graph)
        columns = ["moving_x", "moving_y", "fixed_x", "fixed_y"]
        rows = pd.DataFrame(np.hstack([self.own_um, self.true_um]), columns=columns)
        rows.to_csv(folder / "known.csv", index=False)

    def _config(self, folder: Path) -> Config:
        """Return the configuration of the tumour, of those of its cells that have molecules with a place."""
        config = load_config(CONFIG, ["training.epochs=0", "training.device=cpu"])
        cells, spots = config.task.sections[0].sources
        points = sorted((cells.path.parent / "xenium_rep1_io.points_only.spatialdata.zarr").rglob("*.parquet"))
        own = pd.concat([pd.read_parquet(one, columns=["x", "y", "cell_id"]) for one in points])
        own = own.groupby("cell_id")[["x", "y"]].mean().rename(columns={"x": "own_x", "y": "own_y"})
        table = pd.read_csv(cells.path, index_col=0).merge(own, left_on="cell_id", right_index=True)
        table.to_csv(folder / "cells.csv")
        own_place = {"path": folder / "cells.csv", "columns": ["nucleus_area", "own_x", "own_y"]}
        cells = SourceConfig(**cells.model_dump() | own_place)
        section = config.task.sections[0].model_copy(update={"sources": (cells, spots)})
        return config.model_copy(update={"task": config.task.model_copy(update={"sections": (section,)})})

    def conditions(self) -> dict[str, dict[str, Any] | None]:
        """Return by name how cells are registered on spots; not at all where all places are known."""
        known = {"kind": "landmarks", "path": self.folder / "known.csv", "coarse": True}
        found: dict[str, dict[str, Any] | None] = {ALL: None, NONE: {"kind": "intensity", "signal": "expression"}}
        for share, name in SHARES.items():
            for fit_kind in (STRAIGHT, "bent"):
                found[f"{name}, {fit_kind}"] = known | {"share": share, "fit": fit_kind}
        return found | {"5 %, affine": known | {"share": 0.05, "fit": "affine"}}

    def scores(self, name: str, options: dict[str, Any] | None) -> dict[str, Sums]:
        """Return what test spots are told by a graph whose cells were placed in one way."""
        self._place(name, options)
        graph = build_graph([self.section], self.config.graph)
        with tempfile.TemporaryDirectory() as folder:
            model = fit(graph, self.config.model, self.config.training, Path(folder))
        own, shared = shared_columns(panel(graph, *CELL), panel(graph, *SPOT))
        cells, spots = counts_of(graph, CELL, own), counts_of(graph, SPOT, shared)
        up = {
            "model": told(model, graph, SPOT)[:, shared],
            "overlap": np.asarray((overlap(graph) @ cells).todense()),
            "nearest join": np.asarray((nearest(graph, placed(graph, "cell")) @ cells).todense()),
        }
        found: dict[str, Sums] = {}
        for who, values in up.items():
            found |= profiles_judged(graph, "patch", "spots from cells", who, values, spots.toarray())
        down = told(model, graph, CELL)[:, own]
        found |= profiles_judged(graph, "cell", "cells from spots", "model", down, cells.toarray())
        row = self.untouched.obs("patch").index.get_indexer(graph.obs("patch").index)
        truth = measured_shares(model, self.untouched, "cell", "patch")[row]
        made = {"model": predicted_shares, "cells beneath": measured_shares}
        shares = {who: of(model, graph, "cell", "patch") for who, of in made.items()}
        return found | {f"composition, JSD: {who}": errors(graph, one, truth) for who, one in shares.items()}

    def _place(self, name: str, options: dict[str, Any] | None) -> None:
        """Lay the cells in their own frame, and register them on the spots; say how far they are off."""
        shapes, facts = self.cells.copy(), metadata_of(self.section)
        for key in [key for key in facts if key.startswith((names.RESIDUAL_UM, names.PAIRS))]:
            del facts[key]
        self.section.shapes["cell"] = shapes
        if options is None:
            self.placed[name] = {"off_um": 0.0}
            return
        shapes.geometry = gpd.points_from_xy(*self.own_um.T)
        shapes["radius"] *= self.um_per_unit
        place(self.section, "cell", scale_affine(1.0))
        found = register(self.section, "cell", "patch", registration_method(**options))
        off = np.linalg.norm(positions_um(self.section, "cell") - self.true_um, axis=1)
        self.placed[name] = {"off_um": round(float(np.sqrt((off**2).mean())), 1), "stated_um": found.residual_um}


def told_of(key: str, one: Sums, sums: dict[str, dict[str, Sums]], name: str) -> dict[str, Any]:
    """Return a score and its interval, and by how much it is above that of all places known, of none, and straight."""
    rng, n = np.random.default_rng(0), len(one.moments)
    again = rng.integers(0, n, (BOOTSTRAPS, n))
    drawn, value = np.array([one.value(b) for b in again]), one.value(np.arange(n))
    found = interval(value, drawn, n) | {"blocks": n}
    for other in (ALL, NONE, LEADS.get(name, ALL)):
        against = sums[other][key]
        less = drawn - np.array([against.value(b) for b in again])
        found[f"less {other}"] = interval(value - against.value(np.arange(n)), less, n)
    return found


if __name__ == "__main__":
    main()
