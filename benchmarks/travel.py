"""Whether a run answers for sections that were never in its graph as it does for the same sections held out in it.

Simulated studies, whose test donors (two of eight in `cohort`, one of seven in `demo`) are asked about three times: in
the graph of the run, as test tissue; by the same run, as a graph of their own (`--on`); and so by a run from whose
graph they were left out. The first two differ by rounding alone; the third differs by what training sees of test
tissue.

    OMP_NUM_THREADS=1 python benchmarks/travel.py --out benchmarks/results/travel.json [--only demo cohort]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from result_file import write_result
from sklearn.metrics import adjusted_rand_score

from aivc_graph.config import Config, dump_config, load_config
from aivc_graph.pipeline.elsewhere import graph_elsewhere
from aivc_graph.pipeline.train import train_config
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.simulate.simulate import simulate

PRESETS = ("demo", "cohort")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/travel.json"))
    parser.add_argument("--only", nargs="+", choices=("tiny", *PRESETS), default=PRESETS)
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    options = parser.parse_args()
    for preset in options.only:
        found = study(preset, options.overrides)
        write_result(options.out, found, part=preset)
        print(preset, json.dumps(found, indent=1), flush=True)


def study(preset: str, overrides: list[str]) -> dict[str, Any]:
    """Return how far the answers of the same run, and of one trained without test donors, are from those held out."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tissue = simulate(preset, folder / "tissue", seed=0)
        config = load_config(tissue / "config.yaml", ["training.device=cpu", *overrides])
        test = tuple((config.task.split or {})["test"])
        without, alone = (_of_donors(config, test, keep=keep) for keep in (False, True))
        (folder / "alone.yaml").write_text(dump_config(alone))
        run, other = (
            train_config(one, None, folder / name, resume=False, device="cpu").folder
            for one, name in ((config, "run"), (without, "without"))
        )
        held_out = VirtualTissue.load(run)
        here, elsewhere = (_on(one, folder / "alone.yaml") for one in (run, other))
        return {
            "test_donors": list(test),
            "same_run": differences(held_out, here),
            "run_without_them": differences(held_out, elsewhere),
        }


def _of_donors(config: Config, test: tuple[str, ...], *, keep: bool) -> Config:
    """Return the configuration of the test donors alone, or of all others."""
    sections = tuple(section for section in config.task.sections if (section.donor in test) == keep)
    split = None if keep else {key: value for key, value in (config.task.split or {}).items() if key != "test"}
    return config.model_copy(update={"task": config.task.model_copy(update={"sections": sections, "split": split})})


def _on(run: Path, config: Path) -> VirtualTissue:
    with graph_elsewhere(run, config) as store:
        return VirtualTissue.load(run).on(store)


def differences(held_out: VirtualTissue, asked: VirtualTissue) -> dict[str, float]:
    """Return how far the answers of `asked` are from those that `held_out` gives for the same nodes."""
    found: dict[str, float] = {}
    for level in ("cell", "patch"):
        one = asked.niches(level=level)
        other = held_out.niches(level=level)[one.obs_names]
        both = [answer.obs["niche"].astype(str).to_numpy() for answer in (other, one)]
        found[f"{level}_niche_same"] = float((both[0] == both[1]).mean())
        found[f"{level}_niche_ari"] = float(adjusted_rand_score(*both))
        expected = [tissue.expression(at=level)[one.obs_names].X for tissue in (held_out, asked)]
        found[f"{level}_expression_largest_per_10000"] = float(np.nanmax(np.abs(expected[0] - expected[1])))
        found[f"{level}_expression_r"] = float(
            np.corrcoef(*(np.nan_to_num(values).ravel() for values in expected))[0, 1]
        )
    tables = [_shares(tissue.composition("patch")) for tissue in (held_out, asked)]
    rows = tables[0].index.intersection(tables[1].index)
    apart = (tables[0].loc[rows] - tables[1].loc[rows]).abs().to_numpy()
    return found | {"composition_largest": float(np.nanmax(apart)), "n_patches": float(len(rows))}


def _shares(table: pd.DataFrame) -> pd.DataFrame:
    """Return predicted shares (patch, type)."""
    index = table["section"].astype(str) + ":" + table["barcode"].astype(str)
    types = [column for column in table if f"measured_{column}" in table]
    return table[types].set_axis(index)


if __name__ == "__main__":
    main()
