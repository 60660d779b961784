"""What an intervention would do to tissue of donors never seen, scored against simulated counterfactuals.

The preset ``perturb`` is simulated, and the model is trained on its training donors as any user would train it. Of each
test donor only an untreated section is given; the truth is what the same cells would have expressed, with the same
noise, had the intervention been done. Effects are differences of log(1 + counts per 10,000), at three scales: cell,
niche (the true ones) and region.

- Pearson-Δ: correlation over all places and genes of predicted and true effect.
- RMSE, and MSE as a share of that of "no change".

Beside the model, in the same run and from the same untreated expectation: no change; mean shift (log ratio of treated
over untreated training sections of the same donors, added to every treated cell, and for a dose in between
interpolated in log dose; for a combination that was never given, the mean over all training interventions); additive
(the sum of the mean shifts of the parts). Intervals are over test donors and seeds; the gain is paired with the best
baseline of the task.

    python benchmarks/intervention.py --out benchmarks/results/intervention.json
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from result_file import write_result
from scipy import optimize, sparse

from aivc_graph import names
from aivc_graph.config import load_config
from aivc_graph.evaluation import intervals
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.pipeline.build import build
from aivc_graph.pipeline.train import train
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.query.what_if import WhatIf
from aivc_graph.simulate.intervention import Part, part
from aivc_graph.simulate.presets import PRESETS, Preset
from aivc_graph.simulate.simulate import simulate
from aivc_graph.tissue.intervention import Combination, Intervention

log = logging.getLogger("intervention")
Floats = np.ndarray[Any, np.dtype[np.float64]]

PER = 10_000.0
BOOTSTRAPS = 2000
BINS_UM = np.arange(0.0, 121.0, 15.0)
UNSEEN_DOSES = {f"ruxolitinib_{d:g}uM_24h": (part("drug", "ruxolitinib", dose=d),) for d in (0.25, 1.0)}
SETTINGS = ("model.latent=16", "training.epochs=40", "training.device=cpu")


@dataclass(frozen=True)
class Study:
    """A trained tissue, its interventions and where their truth is."""

    tissue: VirtualTissue
    arms: dict[str, tuple[Part, ...]]
    trained: dict[str, list[str]]
    folder: Path

    @property
    def test(self) -> list[str]:
        """Untreated sections of test donors."""
        graph = self.tissue.graph
        tested = graph["cell"].section_index[graph.in_split("cell", names.TEST)].unique()
        return [str(graph.obs(names.SECTION).index[i]) for i in tested.tolist()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/intervention.json"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[6, 7])
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    preset = PRESETS["perturb"]
    preset = replace(preset, arms={**preset.arms, **UNSEEN_DOSES}, asked=(*preset.asked, *UNSEEN_DOSES))
    rows, decays, seconds = [], [], []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            study, took = studied(preset, Path(folder), seed)
            seconds.append(took)
            rows += [row | {"seed": seed} for row in scores(study)]
            decays += [row | {"seed": seed} for row in spreads(study)]
    found = {
        "preset": "perturb",
        "seeds": options.seeds,
        "settings": SETTINGS,
        "train_s": [round(s, 1) for s in seconds],
        "tasks": summary(pd.DataFrame(rows)),
        "spread_from_a_disc": spread_summary(pd.DataFrame(decays)),
        "no_effect": nothing_found(replace(preset, effect=0.0), options.seeds[0]),
    }
    write_result(options.out, found)
    print(json.dumps(found, indent=1))


def studied(preset: Preset, folder: Path, seed: int) -> tuple[Study, float]:
    """Simulate, build and train; return the study and seconds of training."""
    simulate(preset, folder / "study", seed=seed)
    config = load_config(folder / "study" / "config.yaml", list(SETTINGS))
    build(config, folder / "graph.zarr")
    started = time.perf_counter()
    run = train(folder / "graph.zarr", config, folder / "run")
    seconds = time.perf_counter() - started
    tissue = VirtualTissue.load(run.folder)
    obs = tissue.graph.obs(names.SECTION)
    training = tissue.graph["cell"].section_index[tissue.graph.in_split("cell", names.TRAIN)].unique()
    trained: dict[str, list[str]] = {}
    for name in obs.index[training.numpy()]:
        trained.setdefault(str(name).partition("_")[2], []).append(str(name))
    return Study(tissue, dict(preset.arms), trained, folder / "study"), seconds


def kind_of(arm: str, study: Study) -> str:
    """Return the task an arm belongs to."""
    parts = study.arms[arm]
    if parts[0]["where"] is not None:
        return "local"
    if any(p["onset_hours"] for p in parts):
        return "sequence"
    seen = "" if arm in study.trained else "unseen "
    return f"{seen}combination" if len(parts) > 1 else f"{seen}dose" if seen else "single"


# ---------------------------------------------------------------- scores


def scores(study: Study) -> list[dict[str, Any]]:
    """Return one row a test donor, arm, scale and predictor."""
    truth = {s: {arm: truth_of(study, s, arm) for arm in ("untreated", *study.arms)} for s in study.test}
    shifts = MeanShifts(study)
    rows = []
    for arm in study.arms:
        for section, (untreated, treated) in predicted(study, arm).items():
            inside = treated_cells(study, section, arm)
            log_share = np.log(untreated / PER)
            made: dict[str, Floats] = {
                "model": treated,
                "no change": untreated,
                "mean shift": decoded(log_share + inside[:, None] * shifts.of_arm(arm)),
                "additive": decoded(log_share + inside[:, None] * shifts.additive(study.arms[arm])),
            }
            for scale, weight in scales(study, section).items():
                true = np.log1p(weight @ truth[section][arm]) - np.log1p(weight @ truth[section]["untreated"])
                base = np.log1p(weight @ untreated)
                common = {"arm": arm, "task": kind_of(arm, study), "donor": section, "scale": scale}
                for predictor, values in made.items():
                    rows.append(common | {"predictor": predictor} | agreement(np.log1p(weight @ values) - base, true))
        log.info("%s done", arm)
    return rows


def agreement(effect: Floats, true: Floats) -> dict[str, float]:
    error = float(((effect - true) ** 2).mean())
    moved = effect.std() > 0 and true.std() > 0
    pearson = float(np.corrcoef(effect.ravel(), true.ravel())[0, 1]) if moved else 0.0
    return {"pearson": pearson, "rmse": error**0.5, "mse_share": error / float((true**2).mean())}


def truth_of(study: Study, section: str, arm: str) -> Floats:
    """Return true expectations (cell, gene) in counts per 10,000, cells in the graph's order."""
    file = study.folder / "truth" / section / "counterfactual" / f"{arm}.parquet"
    rate = pd.read_parquet(file).loc[barcodes(study, section), panel(study)].to_numpy(np.float64)
    return np.asarray(rate / rate.sum(axis=1, keepdims=True) * PER)


def predicted(study: Study, arm: str) -> dict[str, tuple[Floats, Floats]]:
    """Return, by test section, expectations (cell, gene) without and with `arm`, in counts per 10,000."""
    where = np.zeros(study.tissue.graph["cell"].num_nodes, bool)
    for section in study.test:
        where[rows_of(study, section)] = treated_cells(study, section, arm)
    rows = np.concatenate([np.flatnonzero(rows_of(study, section)) for section in study.test])
    pick = sparse.csr_matrix((np.ones(len(rows)), (np.arange(len(rows)), rows)), (len(rows), len(where)))
    untreated, copies, *_ = asked(study, arm, where).rollouts(pick, list(range(len(panel(study)))), copies=False)
    ends = np.cumsum([rows_of(study, section).sum() for section in study.test])[:-1]
    return dict(zip(study.test, zip(np.split(untreated, ends), np.split(copies[0], ends), strict=True), strict=True))


def asked(study: Study, arm: str, where: np.ndarray) -> WhatIf:
    parts = tuple(Intervention(**{**p, "where": None}) for p in study.arms[arm])
    return study.tissue.intervene(Combination(parts=parts), where)


def scales(study: Study, section: str) -> dict[str, sparse.csr_matrix]:
    """Return the averagers (place, cell) of each scale."""
    truth = pd.read_parquet(study.folder / "truth" / section / "cells.parquet").set_index("cell_id")
    niche = truth.loc[barcodes(study, section), "niche"].to_numpy()
    region = study.tissue.graph["cell"].region_index.numpy()[rows_of(study, section)]
    by = {"cell": np.arange(len(niche)), "niche": niche, "region": region}
    return {scale: averager(groups) for scale, groups in by.items()}


def averager(groups: Floats) -> sparse.csr_matrix:
    _, place, number = np.unique(groups, return_inverse=True, return_counts=True)
    return sparse.csr_matrix((1 / number[place], (place, np.arange(len(place)))))


def rows_of(study: Study, section: str) -> np.ndarray:
    return np.asarray((study.tissue.graph.obs("cell")["section"] == section).to_numpy())


def barcodes(study: Study, section: str) -> list[str]:
    return list(study.tissue.graph.obs("cell")["barcode"][rows_of(study, section)].astype(str))


def panel(study: Study) -> list[str]:
    return list(study.tissue.model.plan.counts["cell"]["rna"])


def treated_cells(study: Study, section: str, arm: str) -> np.ndarray:
    """Return which cells of a section `arm` is given to (cell,)."""
    pos = study.tissue.graph["cell"].pos.numpy()[rows_of(study, section)]
    where = study.arms[arm][0]["where"]
    if where is None:
        return np.ones(len(pos), bool)
    x, y, radius = where["disc_um"]
    return np.asarray(np.hypot(*(pos - (x, y)).T) <= radius)


# ---------------------------------------------------------------- baselines


class MeanShifts:
    """Log ratio of treated over untreated training sections of one donor, averaged over donors."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.by_arm = {
            arm: np.mean([self._shift(s) for s in sections], axis=0)
            for arm, sections in study.trained.items()
            if arm != "untreated" and study.arms[arm][0]["where"] is None
        }
        self.any = np.mean(list(self.by_arm.values()), axis=0)

    def of_arm(self, arm: str) -> Floats:
        """Return the shift of an arm as it was given; of one that never was, what its parts or all arms say."""
        if arm in self.by_arm:
            return np.asarray(self.by_arm[arm])
        parts = self.study.arms[arm]
        return self.of_part(parts[0]) if len(parts) == 1 else np.asarray(self.any)

    def additive(self, parts: Sequence[Part]) -> Floats:
        """Return the sum of the shifts of the parts."""
        return np.asarray(np.sum([self.of_part(p) for p in parts], axis=0))

    def of_part(self, given: Part) -> Floats:
        """Return the shift of one part, between the nearest doses where its own was not given."""
        doses: dict[float, Floats] = {}
        for arm, shift in self.by_arm.items():
            done = self.study.arms[arm]
            if len(done) == 1 and all(done[0][k] == given[k] for k in ("kind", "name", "hours")):
                doses[done[0]["dose"]] = shift
        known = sorted(doses)
        if not known:
            return np.asarray(self.any)
        table = np.array([doses[d] for d in known])
        at = np.interp(np.log(given["dose"]), np.log(known), np.arange(len(known)))
        low, share = int(at), at - int(at)
        return np.asarray((1 - share) * table[low] + share * table[min(low + 1, len(known) - 1)])

    def _shift(self, section: str) -> Floats:
        donor = section.partition("_")[0]
        treated, untreated = self._share(section), self._share(f"{donor}_untreated")
        return np.asarray(np.log(treated / untreated))

    def _share(self, section: str) -> Floats:
        graph: TissueGraph = self.study.tissue.graph
        counts = np.asarray(to_scipy_csr(graph.counts("cell", "rna"))[rows_of(self.study, section)].sum(axis=0))
        total = counts.ravel()[: len(panel(self.study))] + 0.5
        return np.asarray(total / total.sum())


def decoded(log_share: Floats) -> Floats:
    """Return counts per 10,000 from log shares that need not sum to one."""
    share = np.exp(log_share)
    return np.asarray(share / share.sum(axis=1, keepdims=True) * PER)


def spreads(study: Study) -> list[dict[str, Any]]:
    """Return, a local arm and test donor, true and predicted effect by distance from the disc, and its decay length."""
    rows = []
    for arm in (a for a in study.arms if kind_of(a, study) == "local"):
        for section, (untreated, treated) in predicted(study, arm).items():
            pos = study.tissue.graph["cell"].pos.numpy()[rows_of(study, section)]
            x, y, radius = study.arms[arm][0]["where"]["disc_um"]
            away = np.hypot(*(pos - (x, y)).T) - radius
            true_treated, true_untreated = (truth_of(study, section, a) for a in (arm, "untreated"))
            effects = {"true": np.log1p(true_treated) - np.log1p(true_untreated)}
            effects["model"] = np.log1p(treated) - np.log1p(untreated)
            # How much of the true effect outside the disc a cell shows: its projection on that profile.
            profile = effects["true"][(away > 0) & (away < 60)].mean(axis=0)
            row: dict[str, Any] = {"arm": arm, "donor": section}
            for who, effect in effects.items():
                amount = effect @ profile / (profile @ profile)
                row[f"{who}_by_distance"] = [mean_of(amount[(away >= a) & (away < a + 15)]) for a in BINS_UM]
                row[f"{who}_decay_um"] = decay_length(away[away > 0], amount[away > 0])
                row[f"{who}_beyond_150_um"] = float(np.abs(effect[away > 150]).max(initial=0.0))
            rows.append(row)
    return rows


def mean_of(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")


def decay_length(away_um: Floats, amount: Floats) -> float:
    """Return λ of the least-squares fit of A exp(−d / λ); NaN where there is nothing to fit."""

    def curve(d: Floats, height: float, length: float) -> Floats:
        return np.asarray(height * np.exp(-d / length))

    if np.abs(amount).max(initial=0.0) < 1e-3:
        return float("nan")
    try:
        found, _ = optimize.curve_fit(curve, away_um, amount, p0=(1.0, 40.0), bounds=([0, 3], [20, 500]))
    except RuntimeError:
        return float("nan")
    return float(found[1])


def summary(rows: pd.DataFrame) -> dict[str, Any]:
    """Return means, intervals and paired gains of each task and scale."""
    found: dict[str, Any] = {}
    units = rows.groupby(["task", "scale", "predictor", "seed", "donor"])[["pearson", "rmse", "mse_share"]].mean()
    for (task, scale), table in units.groupby(level=["task", "scale"]):
        entry: dict[str, Any] = {"arms": sorted(rows[rows["task"] == task]["arm"].unique())}
        for metric, sign in (("pearson", 1.0), ("rmse", -1.0), ("mse_share", -1.0)):
            wide = table[metric].unstack("predictor").droplevel(["task", "scale"])
            best = (sign * wide.drop(columns="model").mean()).idxmax()
            entry[metric] = {p: interval(wide[p].to_numpy()) for p in ("model", "no change", "mean shift", "additive")}
            gain = interval(sign * (wide["model"] - wide[best]).to_numpy())
            entry[metric]["gain"] = {"over": str(best)} | gain
        found.setdefault(str(task), {})[str(scale)] = entry
    return found


def spread_summary(rows: pd.DataFrame) -> dict[str, Any]:
    """Return decay lengths and the mean profile of each local arm."""
    found: dict[str, Any] = {"bins_um": BINS_UM.tolist()}
    for arm, table in rows.groupby("arm"):
        entry: dict[str, Any] = {}
        for who in ("true", "model"):
            decay = table[f"{who}_decay_um"].to_numpy()
            entry[who] = {
                "decay_um": interval(decay[np.isfinite(decay)]),
                "by_distance": np.nanmean(np.array(table[f"{who}_by_distance"].tolist()), axis=0).round(3).tolist(),
                "largest_beyond_150_um": r(table[f"{who}_beyond_150_um"].max()),
            }
        entry["difference_um"] = interval((table["model_decay_um"] - table["true_decay_um"]).dropna().to_numpy())
        found[str(arm)] = entry
    return found


def nothing_found(preset: Preset, seed: int) -> dict[str, Any]:
    """Return how large effects are found where interventions do nothing."""
    with tempfile.TemporaryDirectory() as folder:
        study, _ = studied(preset, Path(folder), seed)
        shifts, effects, means = MeanShifts(study), [], []
        for arm in study.arms:
            for section, (untreated, treated) in predicted(study, arm).items():
                inside = treated_cells(study, section, arm)
                shifted = decoded(np.log(untreated / PER) + inside[:, None] * shifts.of_arm(arm))
                for found, values in ((effects, treated), (means, shifted)):
                    found.append(float(np.sqrt(((np.log1p(values) - np.log1p(untreated)) ** 2).mean())))
    return {
        "rmse_of_model": r(np.mean(effects)),
        "rmse_of_mean_shift": r(np.mean(means)),
        "largest_rmse_of_model": r(np.max(effects)),
        "arms_found_to_do_nothing": int((np.array(effects).reshape(len(study.arms), -1).max(axis=1) < 1e-3).sum()),
        "arms": len(study.arms),
    }


def interval(values: Floats) -> dict[str, Any]:
    """Return the mean of one value a unit and its 95 % bootstrap interval over units."""
    if not len(values):
        return {"mean": None, "lower": None, "upper": None, "n_units": 0}
    draws = np.random.default_rng(0).integers(0, len(values), (BOOTSTRAPS, len(values)))
    low, high = intervals.interval(values[draws].mean(axis=1), len(values))
    return {"mean": r(values.mean()), "lower": r(low), "upper": r(high), "n_units": len(values)}


def r(value: float) -> float:
    return round(float(value), 4)


if __name__ == "__main__":
    main()
