"""One modality of held-out cells from another through the graph model, beside rules on the same features.

    AIVC_DATA=… OMP_NUM_THREADS=1 python benchmarks/modality_graph.py [--runs FOLDER] [--only snareseq s1d2 s1d1]

Runs of `configs/snareseq.yaml` with 10 epochs (mouse cortex, RNA and chromatin, two libraries of twelve held out; Chen
2019, doi:10.1038/s41587-019-0290-0) and of `configs/bmmc.yaml` (bone marrow, RNA and protein, each donor asked in turn;
Luecken 2021, openreview.net/forum?id=gN35BGa1Rt) are trained where `--runs` has none, and asked as `aivc evaluate` asks
`cell_to_modality`. Writes ``benchmarks/results/modality_graph.json``: RMSE, mean correlation over molecules and FOSCTTM
of the model, of ridge, kernel ridge, nearest cells and the mean, and RMSE of the model less that of each with its 95 %
interval over the cells asked.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from first_model_parts import CONFIGS
from modality import by_target, foscttm
from mosaic import difference
from result_file import write_result

from aivc_graph.config import load_config
from aivc_graph.evaluation.scoring import Scored
from aivc_graph.pipeline.tasks.cell_modality import cell_to_modality
from aivc_graph.pipeline.tasks.task import Asked
from aivc_graph.pipeline.train import train_config
from aivc_graph.query.virtual_tissue import VirtualTissue

OUT = Path(__file__).parent / "results" / "modality_graph.json"
RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "snareseq": ("snareseq", ("training.epochs=10",)),
    "s1d2": ("bmmc", ()),
    "s1d1": ("bmmc", ("task.split.test=[s1d1]",)),
}


def main() -> None:
    """Train what is not there, ask, and write the figures of each run as a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--only", nargs="+", choices=tuple(RUNS), default=tuple(RUNS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.only:
            config, given = RUNS[name]
            settings, run = (
                load_config(CONFIGS / f"{config}.yaml", list(given)),
                (options.runs or Path(temporary)) / name,
            )
            if not run.exists():
                train_config(settings, None, run, resume=False, device="cpu")
            found = {one.readout: scores(one) for one in cell_to_modality(Asked(VirtualTissue.load(run), settings))}
            print(name, json.dumps(found), flush=True)
            write_result(OUT, found, part=name)


def scores(one: Scored) -> dict[str, Any]:
    """Return errors and correlations of everybody, and the model's error less that of each rule."""
    said = {"model": one.model, **one.baselines}
    squares = {name: np.square(values - one.measured).mean(axis=1) for name, values in said.items()}
    rng = np.random.default_rng(0)
    some = rng.permutation(len(one.measured))[:1_000]
    return {
        "cells": len(one.measured),
        "molecules": one.measured.shape[1],
        "rmse": {name: round(float(np.sqrt(each.mean())), 4) for name, each in squares.items()},
        "mean r": {name: round(by_target(values, one.measured), 4) for name, values in said.items()},
        "foscttm": {name: round(foscttm(values[some], one.measured[some]), 4) for name, values in said.items()},
        "rmse of the model less": {
            name: difference(squares["model"], each) for name, each in squares.items() if name != "model"
        },
    }


if __name__ == "__main__":
    main()
