"""Serial sections on each other, and coarse maps of which few positions are known. Part of ``registration.py``."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from registration_planted import DATA, ST_PITCH_UM, VISIUM_PITCH_PX, off_um, slides, visium_spots
from scipy.spatial import cKDTree

from aivc_graph import names
from aivc_graph.tissue.frame import apply_affine, positions_um
from aivc_graph.tissue.registration.landmarks import LandmarkRegistration, fit_landmarks
from aivc_graph.tissue.registration.method import rms_um
from aivc_graph.tissue.registration.serial import register_serial
from aivc_graph.tissue.section import add_level, add_observation, add_slide, new_section

GENES = 120
# Clicks are off by the first [µm]; one point, or two, by the others; and how many of how many points are tried.
CLICK_UM, OFF_UM, POINTS, TRIALS = 10.0, ((150.0, 0.0), (0.0, -200.0)), (4, 6, 8, 12, 20), 60
SHARES, FEW, DRAWS = (0.01, 0.05, 0.2), (4, 8, 16), 5
ALIGNED_UM = 100 / 16.9


def serial() -> dict[str, Any]:
    """Adjacent slices by half of their genes, judged on the others; DLPFC neighbours, judged on their layers."""
    return {"st-breast-4slices": breast(), "dlpfc 151674 on 151673": cortex()}


def breast() -> list[dict[str, Any]]:
    """Register each slice on the one before it; correlation of matched spots over genes that were not used."""
    folder = DATA / "st-breast-4slices"
    held = []
    for number in range(1, 5):
        counts = pd.read_csv(folder / f"slice{number}.csv.gz", index_col=0)
        held.append((counts, ST_PITCH_UM * np.loadtxt(folder / f"slice{number}_coor.csv", delimiter=",")))
    rows = []
    for number, (fixed, moving) in enumerate(itertools.pairwise(held), start=1):
        shared = moving[0].columns.intersection(fixed[0].columns)
        seen = np.minimum(*((one[0][shared] > 0).mean().to_numpy() for one in (moving, fixed)))
        genes = shared[np.argsort(-seen, kind="stable")[:GENES]]
        for used, judged in ((genes[::2], genes[1::2]), (genes[1::2], genes[::2])):
            first, second = (spots_of(str(i), counts[used], xy) for i, (counts, xy) in enumerate((fixed, moving)))
            found = register_serial(second, first, allow_mirror=True)
            placed = positions_um(second, names.PATCH)
            middle = moving[1] + fixed[1].mean(axis=0) - moving[1].mean(axis=0)
            ways = {"before": moving[1], "middles": middle, "registered": placed}
            row = {key: matched(moving[0][judged], xy, fixed[0][judged], fixed[1]) for key, xy in ways.items()}
            rows.append(
                {"pair": f"{number + 1} on {number}", "by": found.method, "stated_um": found.residual_um, **row}
            )
    return rows


def spots_of(name: str, counts: pd.DataFrame, xy: np.ndarray) -> Any:
    """Return spots with their counts as a section."""
    section = new_section(name)
    add_level(section, names.PATCH, counts.index.astype(str), xy, 50.0, np.eye(3))
    table = AnnData(counts.to_numpy(np.float32), obs=pd.DataFrame(index=counts.index.astype(str)))
    table.var_names = counts.columns
    add_observation(section, names.PATCH, names.RNA, table)
    return section


def matched(one: pd.DataFrame, xy: np.ndarray, other: pd.DataFrame, at: np.ndarray) -> float:
    """Return the mean correlation over genes of spots with their nearest ones within 1.5 pitches, as log shares."""
    away, nearest = cKDTree(at).query(xy)
    near = away < 1.5 * ST_PITCH_UM
    a, b = (np.log1p(1e3 * t.div(t.sum(axis=1).clip(lower=1), axis=0).to_numpy()) for t in (one, other))
    pairs = zip(a[near].T, b[nearest[near]].T, strict=True)
    return float(np.nanmean([np.corrcoef(x, y)[0, 1] for x, y in pairs])) if near.sum() > 20 else 0.0


def cortex() -> dict[str, Any]:
    """Register two neighbours by picture and outline; share of spots whose nearest one is of the same layer."""
    import dask.array as da

    layers = pd.read_csv(DATA / "dlpfc-visium" / "barcode_level_layer_map.tsv", sep="\t", header=None, dtype=str)
    held, of_layer = [], []
    for slide in (one for one in slides() if one.name in ("151673", "151674")):
        section, spots = new_section(slide.name), visium_spots(slide.name)
        add_level(section, names.PATCH, spots.index, slide.spots, 27.5, np.eye(3))
        add_slide(section, da.from_array(slide.pixels), np.diag([slide.um, slide.um, 1.0]))
        own = layers[layers[1] == slide.name].set_index(0)[2]
        held.append(section)
        of_layer.append(spots.index.map(own).to_numpy())
    fixed, moving = held
    at, before = positions_um(fixed, names.PATCH), positions_um(moving, names.PATCH)

    def same_layer(xy: np.ndarray) -> float:
        away, nearest = cKDTree(at).query(xy)
        known = (away < 100) & pd.notna(of_layer[1]) & pd.notna(of_layer[0][nearest])
        return float((of_layer[1] == of_layer[0][nearest])[known].mean())

    found = register_serial(moving, fixed)
    middle = before + at.mean(axis=0) - before.mean(axis=0)
    ways = {"before": before, "middles": middle, "registered": positions_um(moving, names.PATCH)}
    row = {f"same_layer_{key}": same_layer(xy) for key, xy in ways.items()}
    return {"by": found.method, "stated_um": found.residual_um, **row}


def macro_anchors() -> dict[str, Any]:
    """Xenium's own frame on that of an H&E, which STalign bent: all cells from the few whose place is known."""
    cells = pd.read_csv(
        DATA / "xenium-visium-breast" / "xenium_pikachu.csv.gz", usecols=["cell_id", "aligned_x", "aligned_y"]
    )
    parts = sorted((DATA / "xenium-visium-breast" / "xenium_rep1_io.points_only.spatialdata.zarr").rglob("*.parquet"))
    points = pd.concat([pd.read_parquet(part, columns=["x", "y", "cell_id"]) for part in parts])
    place = points.groupby("cell_id")[["x", "y"]].mean()
    both = cells.merge(place, left_on="cell_id", right_index=True)
    return {
        "what": "a frame bent by another program (STalign); cells by the mean of their few molecules",
        "xenium": known_positions(
            both[["x", "y"]].to_numpy(), ALIGNED_UM * both[["aligned_x", "aligned_y"]].to_numpy(), coarse=True
        ),
        "planted": {
            f"bent by {high_um:.0f} µm": known_positions(*coarse_map(high_um), coarse=True) for high_um in (0.0, 300.0)
        },
    }


def coarse_map(high_um: float) -> tuple[np.ndarray, np.ndarray]:
    """Return spots of DLPFC 151673 in a coarse map whose voxels are 300 µm, smoothly bent by up to `high_um`."""
    xy = visium_spots("151673")[["x", "y"]].to_numpy(float) * 100 / VISIUM_PITCH_PX
    x, y = xy.T / 4000
    bent = high_um * np.column_stack([np.sin(2 * x + y), np.cos(1.5 * y - x)])
    return np.round(xy / 300) * 300 + np.random.default_rng(0).normal(0, 30, xy.shape), xy + bent


def known_positions(own: np.ndarray, truth: np.ndarray, coarse: bool = False) -> dict[str, Any]:
    """Fit few known positions, straight and bent; true error at all others beside the stated one, and 90 % coverage."""
    found = {}
    for n in (*FEW, *(max(int(share * len(own)), 1) for share in SHARES)):
        rows: dict[str, Any] = {"known": n, "share": n / len(own)}
        for fit in ("similarity", "bent"):
            runs = [
                judged(np.random.default_rng(seed), own, truth, n, fit, coarse)
                for seed in range(DRAWS if n < 500 else 1)
            ]
            rows[fit] = {key: float(np.median([run[key] for run in runs])) for key in runs[0]}
        found[f"{n} known"] = rows
    return found


def judged(
    rng: np.random.Generator, own: np.ndarray, truth: np.ndarray, n: int, fit: Any, coarse: bool
) -> dict[str, float]:
    """Return error, stated error, their ratio and coverage at the positions that were not known."""
    order = rng.permutation(len(own))
    known, rest = order[:n], order[n : n + 2000]
    found = fit_landmarks(own[known], truth[known], fit, coarse=coarse)
    placed = apply_affine(own[rest], found.affine)
    sigma: Callable[[np.ndarray], np.ndarray] = found.sigma or (lambda xy: np.full(len(xy), np.nan))
    told = sigma(placed)
    if found.shift_um is not None:
        placed = placed + found.shift_um(placed)
    off = np.linalg.norm(placed - truth[rest], axis=1)
    error = off_um(placed, truth[rest])
    inside = float((off < told * np.sqrt(-2 * np.log(0.1))).mean())  # 90 % of a normal error in the plane
    return {"error_um": error, "stated_um": rms_um(told), "ratio": rms_um(told) / error, "coverage_90": inside}


def doubtful_points() -> dict[str, Any]:
    """Landmarks put by hand of which none, one or two are wrong, or two names exchanged: how often that is told."""
    found = {}
    for n in POINTS:
        told = [doubted(n, np.random.default_rng(1000 + seed)) for seed in range(TRIALS)]
        found[f"{n} points"] = {key: float(np.mean([one[key] for one in told])) for key in told[0]}
    return {"click_um": CLICK_UM, "off_um": OFF_UM, "trials": TRIALS, **found}


def doubted(n: int, rng: np.random.Generator) -> dict[str, bool]:
    """Return whether exactly those points are doubted that are wrong."""
    moving = rng.uniform(0, 5000, (n, 2))
    right = moving + rng.normal(0, CLICK_UM, moving.shape)
    one, two, swapped = right.copy(), right.copy(), right.copy()
    one[0] += OFF_UM[0]
    two[:2] += OFF_UM
    swapped[:2] = right[1::-1]

    def named(fixed: np.ndarray) -> list[int]:
        points = np.hstack([moving, fixed]).tolist()
        found = LandmarkRegistration(points=points, allow_mirror=True)(None, names.CELL, names.PATCH)
        return np.flatnonzero(found.pairs["doubtful"]).tolist()

    cases = {"none": right, "one": one, "two": two, "exchanged": swapped}
    wrong = {"none": [], "one": [0], "two": [0, 1], "exchanged": [0, 1]}
    return {case: named(fixed) == wrong[case] for case, fixed in cases.items()}
