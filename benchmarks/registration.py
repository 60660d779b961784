"""How far registration is off, in microns, beside doing nothing: known motions, adjacent slices, real pairs.

Run: ``python benchmarks/registration.py [PART …]`` with ``AIVC_DATA`` set; writes those parts, or all, into
``benchmarks/results/registration.json``.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
from registration_cut import cut_spots
from registration_planted import orientations, planted_maps
from registration_serial import doubtful_points, macro_anchors, serial
from result_file import write_result
from scipy.spatial import cKDTree

from aivc_graph import names
from aivc_graph.io.slides import open_slide
from aivc_graph.tissue.frame import apply_affine, scale_affine
from aivc_graph.tissue.registration.intensity import IntensityRegistration
from aivc_graph.tissue.registration.landmarks import fit_landmarks
from aivc_graph.tissue.registration.layer import Layer, level_layer, slide_layer
from aivc_graph.tissue.registration.orientation import ORIENTATIONS, check_orientation, score_orientations
from aivc_graph.tissue.section import add_level, add_slide, new_section

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("AIVC_DATA", ROOT.parent / "shared" / "data"))
OUT = ROOT / "benchmarks" / "results" / "registration.json"
ST_PITCH_UM = 200.0
ALIGNED_UM = 100 / 16.9  # a unit of the aligned frame, from the Visium pitch
N_GENES = 60


def main() -> None:
    """Run the parts asked for, or every one; print and write each."""
    parts = (simulated, slices_recovered, slices_adjacent, spots_on_cells, replicates, orientation_of_c2)
    for part in (*parts, planted_maps, cut_spots, orientations, serial, macro_anchors, doubtful_points):
        if len(sys.argv) > 1 and part.__name__ not in sys.argv[1:]:
            continue
        start = time.perf_counter()
        found = rounded(part()) | {"seconds": round(time.perf_counter() - start, 1)}
        print(part.__name__, json.dumps(found, indent=1))
        write_result(OUT, found, part=part.__name__)


def simulated() -> dict[str, Any]:
    """Two independent draws of cells from one smooth tissue; the frame of one is turned and shifted."""
    rows = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        place, width = rng.uniform(0, 3000, (20, 2)), rng.uniform(400, 900, 20)
        one, two = rng.uniform(0, 3000, (3000, 2)), rng.uniform(0, 3000, (3000, 2))
        counts = [
            rng.poisson(5 * np.exp(-((xy[:, None] - place) ** 2).sum(-1) / (2 * width**2)) + 0.5) for xy in (one, two)
        ]
        truth = motion(rng.uniform(-180, 180), rng.uniform(-800, 800, 2), np.array([1500.0, 1500.0]))
        moving = profile(apply_affine(one, np.linalg.inv(truth)), counts[0])
        found = IntensityRegistration(signal="expression", pixel_um=100).align(moving, profile(two, counts[1]))
        rows.append(errors(moving, found.affine, one) | {"stated_residual_um": found.residual_um})
    return {"cells": 3000, "genes": 20, "runs": rows, "mean_error_um": mean(rows, "error_um")}


def slices_recovered() -> dict[str, Any]:
    """Each slice, turned by 25° and 137° and shifted, back onto itself."""
    rows = []
    for number, (counts, xy) in enumerate(slices(), start=1):
        for angle, shift in ((25.0, (600.0, -400.0)), (137.0, (-1200.0, 800.0))):
            values = counts[top_genes(counts, counts)].to_numpy(float)
            moving = profile(apply_affine(xy, motion(angle, np.array(shift), xy.mean(0))), values)
            found = IntensityRegistration(signal="expression").align(moving, profile(xy, values))
            row = errors(moving, found.affine, xy) | {"stated_residual_um": found.residual_um}
            rows.append({"slice": number, "angle_deg": angle, **row})
    return {"runs": rows, "mean_error_um": mean(rows, "error_um"), "mean_identity_um": mean(rows, "identity_um")}


def slices_adjacent() -> dict[str, Any]:
    """Register slice k+1 on slice k by half of the genes; judge on the other half by the nearest spots' profiles."""
    held, rows = slices(), []
    for number, (fixed, moving) in enumerate(itertools.pairwise(held), start=1):
        genes = top_genes(moving[0], fixed[0], 2 * N_GENES)
        for used, judged in ((genes[::2], genes[1::2]), (genes[1::2], genes[::2])):
            layers = [profile(s[1], s[0][used].to_numpy(float)) for s in (moving, fixed)]
            found = IntensityRegistration(signal="expression").align(*layers)
            placed = apply_affine(moving[1], found.affine)
            bare = [Layer(s[1], np.ones((len(s[1]), 1)), np.eye(3)) for s in (moving, fixed)]
            outline = IntensityRegistration(signal="density").align(*bare)
            rows.append(
                {
                    "pair": f"{number + 1} on {number}",
                    "angle_deg": turn_of(found.affine),
                    "agreement_before": matched(moving, moving[1], fixed, judged),
                    "agreement_after": matched(moving, placed, fixed, judged),
                    "agreement_after_by_outline": matched(
                        moving, apply_affine(moving[1], outline.affine), fixed, judged
                    ),
                    "stated_residual_um": found.residual_um,
                    "orientations": found.scores,
                }
            )
    keys = ("agreement_before", "agreement_after", "agreement_after_by_outline")
    return {"runs": rows} | {f"mean_{key}": mean(rows, key) for key in keys}


def spots_on_cells() -> dict[str, Any]:
    """Visium spots on Xenium cells: fitted on some blocks of tissue, judged on the others, and the other way round."""
    folder = DATA / "xenium-visium-breast"
    spots = pd.read_csv(folder / "visium_eevee.csv.gz", index_col=0)
    cells = pd.read_csv(folder / "xenium_pikachu.csv.gz", index_col=0)
    genes = top_genes(spots.iloc[:, 3:], cells.iloc[:, 5:])
    at, cell_at = (t[["aligned_x", "aligned_y"]].to_numpy() for t in (spots, cells))
    middle = np.median(at, axis=0)
    chess = np.floor(at / 100).astype(int).sum(axis=1) % 2 == 0
    designs = {
        "chessboard of 590 µm": chess,
        "top and bottom": at[:, 1] < middle[1],
        "left and right": at[:, 0] < middle[0],
    }
    fixed = profile(cell_at, cells[genes].to_numpy(float), ALIGNED_UM)
    out: dict[str, Any] = {"um_per_unit": ALIGNED_UM, "genes": len(genes)}
    for name, half in designs.items():
        rows = []
        for used in (half, ~half):
            moving = profile(at[used], spots.loc[used, genes].to_numpy(float), ALIGNED_UM)
            found = IntensityRegistration(signal="expression").align(moving, fixed)
            placed = apply_affine(at, found.affine) / ALIGNED_UM
            row: dict[str, Any] = {
                "shift_units": (placed - at).mean(0).round(2).tolist(),
                "angle_deg": turn_of(found.affine),
            }
            row["stated_residual_um"] = found.residual_um
            for radius in (8, 15):
                for scale in ("counts", "log"):
                    for label, xy in (("before", at), ("after", placed), ("shifted_by_minus_16", at - [16, 0])):
                        score = pooled_pearson(spots, xy, ~used, cells, cell_at, radius, scale)
                        row[f"{label}_r{radius}_{scale}"] = score
            rows.append(row)
        keys = [key for key in rows[0] if "_r" in key and key != "stated_residual_um"]
        out[name] = {"runs": rows} | {f"mean_{key}": mean(rows, key) for key in keys}
    return out


def replicates() -> dict[str, Any]:
    """Cell density of two Xenium replicates by landmarks and by intensity; they share two thirds of the frame."""
    folder, layers = DATA / "xenium-visium-breast" / "registration", []
    for name in ("Rep1", "Rep2"):
        with np.load(folder / f"Xenium_Breast_Cancer_{name}.npz") as held:
            x, y = np.meshgrid(held["x"], held["y"])
            values = held["I"][0].reshape(-1, 1).astype(float)
        layers.append(Layer(np.column_stack([x.ravel(), y.ravel()]), values, np.eye(3), framed=True))
    table = pd.read_csv(folder / "landmarks.csv")
    one, two = (table.loc[table["slice"] == name, ["x", "y"]].to_numpy() for name in ("Rep1", "Rep2"))
    marks = fit_landmarks(one, two)
    out: dict[str, Any] = {
        "landmarks_left_out_residual_um": marks.residual_um,
        "landmarks_shift_um": shift_of(marks.affine, one),
    }
    out["identity_off_at_landmarks_um"] = np.linalg.norm(one - two, axis=1).tolist()
    for pixel in (30.0, 60.0, 100.0):
        found = IntensityRegistration(pixel_um=pixel).align(*layers)
        off = np.linalg.norm(apply_affine(one, found.affine) - two, axis=1)
        out[f"intensity_{pixel:g}_um"] = {
            "shift_um": shift_of(found.affine, one),
            "angle_deg": turn_of(found.affine),
            "off_at_landmarks_um": off.tolist(),
            "stated_residual_um": found.residual_um,
            "orientations": found.scores,
        }
    return out


def orientation_of_c2() -> dict[str, Any]:
    """All eight orientations planted in a real slide's spots: which one the tissue mask points back to."""
    rows = []
    for stem in ("C2_5714_HE_BT_C2", "B4_BT10737_D2_HE"):
        pixels, mpp = open_slide(DATA / "her2st" / "ST-imgs" / f"{stem}.jpg", mpp=0.735)
        small, centre = pixels[:, ::16, ::16].compute(), np.array(pixels.shape[:0:-1]) / 2
        table = pd.read_csv(DATA / "her2st" / "ST-spotfiles" / f"{stem[:2]}_selection.tsv", sep="\t")
        for name, turn in ORIENTATIONS.items():
            section = new_section(stem[:2])
            xy = (table[["pixel_x", "pixel_y"]].to_numpy() - centre) @ turn.T + centre
            add_level(section, names.PATCH, table.index.astype(str), xy, 50 / mpp, scale_affine(mpp))
            add_slide(section, da.from_array(small), scale_affine(16 * mpp))
            fits = score_orientations(level_layer(section, names.PATCH), slide_layer(section), ST_PITCH_UM)
            best = max(fits, key=lambda key: fits[key].score)
            rows.append(
                {
                    "slide": stem[:2],
                    "planted": name,
                    "undone_by": best,
                    "right": bool(np.allclose(ORIENTATIONS[best] @ turn, np.eye(2))),
                    "warned": bool(check_orientation(section)),
                    "scores": {key: round(fit.score, 3) for key, fit in fits.items()},
                }
            )
    right = sum(row["warned"] == (row["planted"] != "identity") for row in rows)
    return {"runs": rows, "found": sum(row["right"] for row in rows), "warned_rightly": right, "of": len(rows)}


def slices() -> list[tuple[pd.DataFrame, np.ndarray]]:
    """Return counts and positions [µm] of the four slices."""
    folder = DATA / "st-breast-4slices"
    return [
        (
            pd.read_csv(folder / f"slice{i}.csv.gz", index_col=0),
            ST_PITCH_UM * np.loadtxt(folder / f"slice{i}_coor.csv", delimiter=","),
        )
        for i in range(1, 5)
    ]


def top_genes(one: pd.DataFrame, two: pd.DataFrame, n: int = N_GENES) -> list[str]:
    """Return the shared genes that the sparser of both counts most often."""
    shared = one.columns.intersection(two.columns)
    seen = np.minimum((one[shared] > 0).mean().to_numpy(), (two[shared] > 0).mean().to_numpy())
    return shared[np.argsort(-seen, kind="stable")[:n]].tolist()


def profile(xy: np.ndarray, values: np.ndarray, um_per_unit: float = 1.0) -> Layer:
    """Return points with counts as a layer."""
    return Layer(xy, values.astype(float), scale_affine(um_per_unit), profile=True, framed=True)


def motion(angle_deg: float, shift: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Return a turn about `centre` and a shift."""
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    affine = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    affine[:2, 2] = centre - affine[:2, :2] @ centre + shift
    return affine


def errors(moving: Layer, affine: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return mean distances to the truth [µm], registered and left alone."""
    error = np.linalg.norm(apply_affine(moving.xy, affine) - truth, axis=1).mean()
    return {"error_um": float(error), "identity_um": float(np.linalg.norm(moving.um() - truth, axis=1).mean())}


def matched(
    moving: tuple[pd.DataFrame, np.ndarray],
    placed: np.ndarray,
    fixed: tuple[pd.DataFrame, np.ndarray],
    genes: list[str],
) -> float:
    """Return the mean correlation over genes of spots with their nearest spots within 1.5 pitches, as log shares."""
    away, nearest = cKDTree(fixed[1]).query(placed)
    near = away < 1.5 * ST_PITCH_UM
    if near.sum() < 20:
        return 0.0
    shares = [np.log1p(s[0][genes].div(s[0].sum(axis=1), axis=0).to_numpy() * 1e4) for s in (moving, fixed)]
    a, b = shares[0][near], shares[1][nearest[near]]
    return float(np.nanmean([np.corrcoef(x, y)[0, 1] for x, y in zip(a.T, b.T, strict=True)]))


def pooled_pearson(
    spots: pd.DataFrame,
    xy: np.ndarray,
    judged: np.ndarray,
    cells: pd.DataFrame,
    cell_at: np.ndarray,
    radius: float,
    scale: str,
) -> float:
    """Return the median over the 60 most counted genes of the correlation of spots with cells pooled around them."""
    shared = spots.columns[3:].intersection(cells.columns[5:])
    genes = spots[shared].sum().sort_values(ascending=False).index[:N_GENES]
    near = cKDTree(cell_at).query_ball_point(xy[judged], radius)
    has = np.array([len(rows) > 0 for rows in near])
    counts, totals = cells[genes].to_numpy(float), cells.iloc[:, 5:].sum(axis=1).to_numpy(float)
    pooled = np.array([counts[rows].sum(0) for rows in near])[has]
    seen = spots.loc[judged, genes].to_numpy(float)[has]
    if scale == "log":
        pooled = np.log1p(1e4 * pooled / np.array([totals[rows].sum() for rows in near])[has, None])
        seen = np.log1p(1e4 * seen / spots.iloc[:, 3:].sum(axis=1).to_numpy()[judged][has, None])
    return float(np.nanmedian([np.corrcoef(a, b)[0, 1] for a, b in zip(pooled.T, seen.T, strict=True)]))


def turn_of(affine: np.ndarray) -> float:
    """Return the turn of a similarity [°]."""
    return round(float(np.degrees(np.arctan2(affine[1, 0], affine[0, 0]))), 2)


def shift_of(affine: np.ndarray, at: np.ndarray) -> list[float]:
    """Return the mean shift [µm] at points."""
    return (apply_affine(at, affine) - at).mean(axis=0).round(1).tolist()


def rounded(value: Any) -> Any:
    """Return the same structure with numbers to four decimals."""
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return round(value, 4) if isinstance(value, float) else value


def mean(rows: list[dict[str, Any]], key: str) -> float:
    """Return the mean of a column."""
    return round(float(np.mean([row[key] for row in rows])), 4)


if __name__ == "__main__":
    main()
