"""Expression from histology across donors of her2st: ridge on the features of `HistologyFeatures`.

Train on one donor's sections, test on the other's: 250 genes of highest mean count in the training sections; features
standardised and log-normalised counts centred within each section; the ridge's strength chosen by leaving out training
sections (or, with one section, contiguous fifths of it). The score is Pearson's r a gene over the spots of a section.

    python benchmarks/histology_to_expression.py --data DATA --out benchmarks/results/histology_to_expression.json
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from result_file import write_result
from scipy.spatial import cKDTree

from aivc_graph.io.slides import open_slide
from aivc_graph.modalities.histology import add_histology
from aivc_graph.modalities.histology_features import HistologyFeatures
from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.section import add_level, add_slide, new_section

Array = NDArray[np.float64]
PITCH_UM, SPOT_UM = 200.0, 100.0
GENES = 250
ALPHAS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
DONORS = {"B": ["B4"], "C": ["C2", "C3", "C4", "C5"]}


@dataclass(frozen=True)
class Section:
    """Standardised features (spot, feature), counts (spot, gene), and the time the features took [ms a tile]."""

    features: Array
    counts: pd.DataFrame
    ms_per_tile: float


def measured_section(folder: Path, name: str) -> Section:
    """Read one section and describe the tile over each spot."""
    counts = pd.read_csv(folder / f"ST-cnts/{name}.tsv.gz", sep="\t", index_col=0)
    spots = pd.read_csv(folder / f"ST-spotfiles/{name}_selection.tsv", sep="\t")
    spots.index = pd.Index([f"{x}x{y}" for x, y in zip(spots.x, spots.y, strict=True)])
    xy = spots.loc[counts.index, ["pixel_x", "pixel_y"]].to_numpy(float)
    mpp = PITCH_UM / float(np.median(cKDTree(xy).query(xy, k=2)[0][:, 1]))
    section = new_section(name)
    add_level(section, "patch", counts.index, xy, SPOT_UM / 2 / mpp, scale_affine(mpp))
    (slide,) = (folder / "ST-imgs").glob(f"{name}_*.jpg")
    add_slide(section, open_slide(slide)[0], scale_affine(mpp))
    start = time.perf_counter()
    add_histology(section, features=HistologyFeatures(), workers=1)
    table = section.tables["patch_histology"]
    elapsed = 1e3 * (time.perf_counter() - start) / table.n_obs
    x = np.asarray(table.X, float)
    return Section((x - x.mean(axis=0)) / (x.std(axis=0) + 1e-9), counts.loc[table.obs_names], elapsed)


def targets(section: Section, genes: list[str]) -> Array:
    """Log-normalised counts (spot, gene), centred within the section; a gene it lacks is zero."""
    scaled = section.counts.div(section.counts.sum(axis=1), axis=0) * 1e4
    y = np.log1p(scaled.reindex(columns=genes, fill_value=0).to_numpy(float))
    return y - y.mean(axis=0)


def ridge(x: Array, y: Array, alpha: float) -> Array:
    """Coefficients (feature, gene)."""
    return np.linalg.solve(x.T @ x + alpha * len(x) * np.eye(x.shape[1]), x.T @ y)


def pearson(predicted: Array, true: Array) -> Array:
    """Correlation a gene over spots; zero where either does not vary."""
    a, b = predicted - predicted.mean(axis=0), true - true.mean(axis=0)
    norm = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.divide((a * b).sum(axis=0), norm, out=np.zeros(len(norm)), where=norm > 0)


def across(sections: dict[str, Section], train: list[str], test: list[str]) -> dict[str, Any]:
    """Fit on `train`, score on each of `test`."""
    shared = sorted(set.intersection(*(set(sections[name].counts.columns) for name in train)))
    mean = sum((sections[name].counts[shared].mean() for name in train), pd.Series(0.0, shared))
    genes = list(mean.nlargest(GENES).index)
    data = {name: (sections[name].features, targets(sections[name], genes)) for name in [*train, *test]}
    parts = [data[name] for name in train]
    if len(parts) == 1:
        fold = np.arange(len(parts[0][0])) * 5 // len(parts[0][0])
        parts = [(parts[0][0][fold == k], parts[0][1][fold == k]) for k in range(5)]
    inner = {alpha: float(np.mean([_left_out(parts, k, alpha) for k in range(len(parts))])) for alpha in ALPHAS}
    best = max(inner, key=lambda alpha: inner[alpha])
    fitted = ridge(*(np.vstack(column) for column in zip(*parts, strict=True)), best)
    scores = {name: pearson(data[name][0] @ fitted, data[name][1]) for name in test}
    return {
        "train": train,
        "test": test,
        "alpha": best,
        "mean_pearson": float(np.mean([s.mean() for s in scores.values()])),
        "mean_pearson_top50": float(np.mean([np.sort(s)[-50:].mean() for s in scores.values()])),
        "by_section": {name: float(s.mean()) for name, s in scores.items()},
    }


def _left_out(parts: list[tuple[Array, Array]], k: int, alpha: float) -> float:
    x, y = (np.vstack(column) for column in zip(*(part for j, part in enumerate(parts) if j != k), strict=True))
    return float(pearson(parts[k][0] @ ridge(x, y, alpha), parts[k][1]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    every = {name: measured_section(arguments.data / "her2st", name) for names in DONORS.values() for name in names}
    result = {
        "features": next(iter(every.values())).features.shape[1],
        "ms_per_tile_one_core": float(np.mean([section.ms_per_tile for section in every.values()])),
        "runs": [across(every, DONORS["C"], DONORS["B"]), across(every, DONORS["B"], DONORS["C"])],
    }
    write_result(arguments.out, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
