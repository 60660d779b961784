"""Turns, shifts, crops, stains, sizes and mirrors planted in real tissue: the true error beside the stated one.

Part of ``benchmarks/registration.py``, which runs it. Slides: her2st A1, B4, C2–C5 (not A2, whose spots lie 0.5 mm
beside the tissue of its picture) and four of dlpfc-visium. Expression: halves of the spots of st-breast-4slices,
her2st and DLPFC 151510, so that no spot is in both layers.

A true error is one draw: even where the stated one is exactly its standard deviation, it lies within half to twice it
in part of the cases alone. Each case says how probable that is under its own stated covariance (`within_if_right`), and
where the true error lies in the distribution that the covariance states (`place`, uniform from 0 to 1 if right).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anndata
import dask.array as da
import numpy as np
import pandas as pd

from aivc_graph.errors import RegistrationError
from aivc_graph.evaluation import intervals
from aivc_graph.io.slides import open_slide
from aivc_graph.tissue.frame import apply_affine
from aivc_graph.tissue.registration.agreement import SURE, Samples
from aivc_graph.tissue.registration.certainty import RigidError
from aivc_graph.tissue.registration.intensity import IntensityRegistration
from aivc_graph.tissue.registration.layer import BLACK, Layer, slide_layer
from aivc_graph.tissue.registration.maps import draw_map
from aivc_graph.tissue.registration.method import Registration
from aivc_graph.tissue.registration.orientation import CLEARLY, MIRRORED, ORIENTATIONS, score_orientations
from aivc_graph.tissue.section import add_slide, new_section

DATA = Path(os.environ.get("AIVC_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
STRIDE, HER2ST_MPP, MASKED_PX = 8, 0.735, 6954
ST_PITCH_UM, VISIUM_PITCH_PX = 200.0, 137.0
N_GENES, BOOTSTRAPS = 60, 1000
LAB, SCAN = ("B4_BT10737_D2_HE", "C2_5714_HE_BT_C2", "C3_5714_HE_BT_D1", "C4_5714_HE_BT_D2", "C5_5714_HE_BT_E1"), ".jpg"
DLPFC = ("151510", "151669", "151673", "151674")
COUNTED = ("A1", "B1", "D1", "E1", "G2", "H1")
# What is taken for a cut edge was settled on simulated outlines (registration_cut) and on these slides.
SETTLED_ON = ("B4", "C2", "C4", "151669")
CROP, DRAWS = "crop of a tenth", 20_000


@dataclass(frozen=True)
class Case:
    """Spots whose frame is off, the layer they belong on, and where they truly lie ``(spot, 2)`` [µm]."""

    tissue: str
    condition: str
    moving: Layer
    fixed: Layer
    truth: np.ndarray
    signal: str = "density"


@dataclass(frozen=True)
class Slide:
    """A slide's pixels ``(3, y, x)``, their size, and the spots over it [µm]."""

    name: str
    pixels: np.ndarray
    um: float
    spots: np.ndarray

    def layer(self, *, pale: bool = False) -> Layer:
        """Return the tissue, as it is or half as deeply stained; what was painted black stays black."""
        half = (255 - (255.0 - self.pixels) / 2).astype(np.uint8)
        pixels = np.where(self.pixels.max(axis=0) <= BLACK, self.pixels, half) if pale else self.pixels
        section = new_section(self.name)
        add_slide(section, da.from_array(pixels), np.diag([self.um, self.um, 1.0]))
        return slide_layer(section)


def slides() -> list[Slide]:
    """Return ten real slides with their spots."""
    from skimage.io import imread

    found = []
    for stem in LAB:
        pixels = open_slide(DATA / "her2st" / "ST-imgs" / f"{stem}{SCAN}", mpp=HER2ST_MPP)[0][:, ::STRIDE, ::STRIDE]
        found.append(Slide(stem[:2], pixels.compute(), STRIDE * HER2ST_MPP, st_spots(stem[:2])))
    pixels = imread(DATA / "her2st" / "ST-imgs-masked2000px" / "A1_HE_image_dark.png")[..., :3].copy()
    pixels[:540, 1500:] = 0  # a thumbnail of the annotated slide
    found.append(Slide("A1", pixels.transpose(2, 0, 1), HER2ST_MPP * MASKED_PX / pixels.shape[1], st_spots("A1")))
    for name in DLPFC:
        folder = DATA / "dlpfc-visium" / name
        pixels = imread(folder / "tissue_lowres_image.png")[..., :3].transpose(2, 0, 1)
        scale = json.loads((folder / "scalefactors_json.json").read_text())["tissue_lowres_scalef"]
        um = 100 / VISIUM_PITCH_PX
        found.append(Slide(name, pixels, um / scale, um * visium_spots(name)[["x", "y"]].to_numpy(float)))
    return found


def st_spots(name: str) -> np.ndarray:
    """Return the spots under tissue [µm] of a section of her2st."""
    table = pd.read_csv(DATA / "her2st" / "ST-spotfiles" / f"{name}_selection.tsv", sep="\t")
    return HER2ST_MPP * table.loc[table["selected"] == 1, ["pixel_x", "pixel_y"]].to_numpy(float)


def visium_spots(name: str) -> pd.DataFrame:
    """Return the spots under tissue of a DLPFC section, x and y in pixels at full resolution, by barcode."""
    columns = ["barcode", "inside", "row", "column", "y", "x"]
    table = pd.read_csv(DATA / "dlpfc-visium" / name / "tissue_positions_list.txt", names=columns, index_col="barcode")
    return table[table["inside"] == 1]


def tissues() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield name, positions [µm] and counts of the most widely expressed genes of eleven real sections."""
    for number in range(1, 5):
        folder = DATA / "st-breast-4slices"
        counts = pd.read_csv(folder / f"slice{number}.csv.gz", index_col=0).to_numpy(float)
        xy = ST_PITCH_UM * np.loadtxt(folder / f"slice{number}_coor.csv", delimiter=",")
        yield f"slice{number}", xy, widest(counts)
    held = anndata.read_h5ad(DATA / "dlpfc-visium" / "151510" / "dlpfc_151510_500genes.h5ad")
    yield "151510", held.obsm["spatial"] * 100 / VISIUM_PITCH_PX, widest(held.to_df().to_numpy(float))
    for name in COUNTED:
        counts = pd.read_csv(DATA / "her2st" / "ST-cnts" / f"{name}.tsv.gz", sep="\t", index_col=0)
        at = pd.read_csv(DATA / "her2st" / "ST-spotfiles" / f"{name}_selection.tsv", sep="\t")
        at.index = at["x"].astype(str) + "x" + at["y"].astype(str)
        xy = HER2ST_MPP * at.loc[counts.index, ["pixel_x", "pixel_y"]].to_numpy(float)
        yield name, xy, widest(counts.to_numpy(float))


def widest(counts: np.ndarray) -> np.ndarray:
    """Return the columns that are counted most often."""
    return counts[:, np.argsort(-(counts > 0).mean(axis=0), kind="stable")[:N_GENES]]


def slide_cases() -> Iterator[Case]:
    """Yield what is planted in slides: a small turn, any turn, a crop of a tenth, half the stain, 3 % in size."""
    rng = np.random.default_rng(0)
    for slide in slides():
        plain, pale = slide.layer(), slide.layer(pale=True)
        kept = slide.spots[slide.spots[:, 0] < np.quantile(slide.spots[:, 0], 0.9)]
        for condition, spots, fixed, size, most in (
            ("small turn", slide.spots, plain, 1.0, 8),
            ("any turn", slide.spots, plain, 1.0, 180),
            (CROP, kept, plain, 1.0, 8),
            ("half the stain", slide.spots, pale, 1.0, 180),
            ("3 % in size", slide.spots, plain, 1.03, 8),
        ):
            off = planted(rng, spots, most, size)
            own = Layer(apply_affine(spots, np.linalg.inv(off)), np.ones((len(spots), 1)), np.eye(3))
            yield Case(slide.name, condition, own, fixed, spots)


def expression_cases() -> Iterator[Case]:
    """Yield half of the spots of each section on the other half, by what they express."""
    rng = np.random.default_rng(1)
    for name, xy, counts in tissues():
        for condition, most in (("small turn", 8), ("any turn", 180)):
            half = rng.random(len(xy)) < 0.5
            own = apply_affine(xy[half], np.linalg.inv(planted(rng, xy, most)))
            moving, fixed = (
                Layer(at, counts[rows], np.eye(3), profile=True, framed=True)
                for at, rows in ((own, half), (xy[~half], ~half))
            )
            yield Case(name, condition, moving, fixed, xy[half], "expression")


def planted(rng: np.random.Generator, xy: np.ndarray, most_deg: float, size: float = 1.0) -> np.ndarray:
    """Return a turn by up to `most_deg` about the middle of points, a shift by up to 800 µm, and a change of size."""
    angle, centre = np.radians(rng.uniform(-most_deg, most_deg)), xy.mean(axis=0)
    turn = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    affine = np.eye(3)
    affine[:2, :2], affine[:2, 2] = turn, centre - turn @ centre + rng.uniform(-800, 800, 2)
    return affine


def planted_maps() -> dict[str, Any]:
    """Register every planted case, those of any turn mirrored too: true error [µm], the stated one, plain ways."""
    rows = []
    said: dict[str, dict[str, int]] = {"not mirrored": {}, "mirrored": {}}
    for case in (*slide_cases(), *expression_cases()):
        row: dict[str, Any] = {"tissue": case.tissue, "signal": case.signal, "condition": case.condition}
        row |= {key: off_um(xy, case.truth) for key, xy in plain_ways(case).items()} | registered(case)
        rows.append(row)
        tally(said["not mirrored"], row["said"])
        if case.condition == "any turn":
            flipped = replace(case.moving, to_um=np.diag([-1.0, 1.0, 1.0]))
            tally(said["mirrored"], registered(replace(case, moving=flipped))["said"])
    groups = {
        f"{signal}, {condition}": [row for row in rows if (row["signal"], row["condition"]) == (signal, condition)]
        for signal, condition in dict.fromkeys((row["signal"], row["condition"]) for row in rows)
    }
    fitting = [row for row in rows if row["condition"] != "3 % in size"]
    groups |= {"slides, all but size": [row for row in fitting if row["signal"] == "density"]}
    groups |= {"expression, all": [row for row in fitting if row["signal"] == "expression"], "all but size": fitting}
    sure = [row for row in fitting if not row.get("doubted")]
    others = [row for row in fitting if row["signal"] == "density" and row["tissue"] not in SETTLED_ON]
    groups |= {"all but size, of which nothing is doubted": sure}
    groups |= {"slides, all but size, of which nothing is doubted": [r for r in sure if r["signal"] == "density"]}
    groups |= {"slides that nothing was settled on, all but size": others}
    groups |= {"slides that nothing was settled on, crop of a tenth": [r for r in others if r["condition"] == CROP]}
    return {
        "summary": {name: summary(group) for name, group in groups.items()},
        "mirrors_by_planted": said,
        "runs": rows,
    }


def registered(case: Case) -> dict[str, Any]:
    """Return true and stated error of a case, and what is said of a mirror."""
    try:
        found = IntensityRegistration(signal=case.signal).align(case.moving, case.fixed)  # type: ignore[arg-type]
    except RegistrationError as error:
        return {"said": "mirrored" if "a mirrored frame fits best" in str(error) else "refused"}
    doubted = any("a mirrored frame fits as well" in one for one in found.warnings)
    turn = any("another turn fits as well" in one for one in found.warnings)
    error = off_um(apply_affine(case.moving.xy, found.affine), case.truth)
    return {
        "error_um": error,
        "stated_um": found.residual_um,
        **stated_draws(found, apply_affine(case.moving.xy, found.affine), error),
        "cut_edges": any("ends straight where the other goes on" in one for one in found.warnings),
        "orientation": found.orientation,
        "said": "cannot tell" if doubted else "not mirrored",
        "doubted": doubted or turn,
    }


def stated_draws(found: Registration, placed: np.ndarray, error: float) -> dict[str, float]:
    """Return what the stated covariance says of a true error: the share within half to twice, and of smaller ones."""
    assert isinstance(found.sigma, RigidError)
    x, y = (placed - found.sigma.centre_um).T
    # Mean square distance as a form of shift and turn: a point is off by (dx − y turn, dy + x turn).
    form = np.diag([1.0, 1.0, np.mean(x**2 + y**2)])
    form[0, 2] = form[2, 0] = -y.mean()
    form[1, 2] = form[2, 1] = x.mean()
    root = np.linalg.cholesky(form)
    weights = np.maximum(np.linalg.eigvalsh(root.T @ found.sigma.covariance @ root), 0.0)
    drawn = np.sqrt(np.random.default_rng(0).chisquare(1, (DRAWS, 3)) @ weights)
    ratio = np.sqrt(weights.sum()) / drawn
    return {"within_if_right": float(((ratio > 0.5) & (ratio < 2)).mean()), "place": float((drawn < error).mean())}


def tally(counts: dict[str, int], said: str) -> None:
    """Count one more."""
    counts[said] = counts.get(said, 0) + 1


def plain_ways(case: Case) -> dict[str, np.ndarray]:
    """Return where spots lie left alone, with their middle on that of the tissue, and by phase correlation."""
    from skimage.registration import phase_cross_correlation

    own, fixed = case.moving.um(), case.fixed.um()
    weight = np.ones(len(fixed)) if case.fixed.profile else case.fixed.values[:, 0]
    middle = own + np.average(fixed, axis=0, weights=weight) - own.mean(axis=0)
    pixel = max(case.moving.pitch_um(), case.fixed.pitch_um())
    one, other = (replace(layer, values=layer.values.sum(axis=1, keepdims=True)) for layer in (case.moving, case.fixed))
    one, other = (replace(layer, profile=False, framed=False) for layer in (one, other))
    drawn = [draw_map(layer, pixel, pixel) for layer in (other, one)]
    rows, columns = np.max([image.valid.shape for image in drawn], axis=0)
    images = [np.pad(m.values[0], ((0, rows - m.valid.shape[0]), (0, columns - m.valid.shape[1]))) for m in drawn]
    step = phase_cross_correlation(*images, upsample_factor=10)[0][::-1] * pixel
    return {
        "identity_um": own,
        "middles_um": middle,
        "phase_correlation_um": own + step + drawn[0].origin_um - drawn[1].origin_um,
    }


def off_um(placed: np.ndarray, truth: np.ndarray) -> float:
    """Return the root mean square distance [µm]."""
    return float(np.sqrt(((placed - truth) ** 2).sum(axis=1).mean()))


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return medians [µm], of plain ways too, and how the stated errors agree with the true ones."""
    done = [row for row in rows if "error_um" in row]
    found: dict[str, Any] = {"cases": len(rows), "refused": len(rows) - len(done)}
    for key in ("identity_um", "middles_um", "phase_correlation_um"):
        found[f"median_{key}"] = float(np.median([row[key] for row in done]))
    return found | calibration(done)


def calibration(done: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how the stated errors agree with the true ones, with intervals over tissues."""
    ratio = np.array([row["stated_um"] / row["error_um"] for row in done])
    names = np.array([row["tissue"] for row in done])
    place = np.array([row["place"] for row in done])
    told = np.column_stack([(ratio > 0.5) & (ratio < 2), place < 0.5, place < 0.9])
    kinds, rng = np.unique(names), np.random.default_rng(0)
    drawn = [
        np.concatenate([told[names == k] for k in rng.choice(kinds, len(kinds))]).mean(axis=0)
        for _ in range(BOOTSTRAPS)
    ]
    bounds = [list(intervals.interval(column, len(kinds))) for column in np.transpose(drawn)]
    pooled = np.sqrt(np.mean([row["stated_um"] ** 2 for row in done]) / np.mean([row["error_um"] ** 2 for row in done]))
    within, half, most = told.mean(axis=0).tolist()
    return {
        "median_error_um": float(np.median([row["error_um"] for row in done])),
        "median_stated_um": float(np.median([row["stated_um"] for row in done])),
        "median_ratio": float(np.median(ratio)),
        "pooled_ratio": float(pooled),
        "within_half_to_twice": within,
        "interval_95": bounds[0],
        "within_if_right": float(np.mean([row["within_if_right"] for row in done])),
        "stated_less_than_half": float((ratio <= 0.5).mean()),
        "in_stated_50": half,
        "in_stated_50_interval_95": bounds[1],
        "in_stated_90": most,
        "in_stated_90_interval_95": bounds[2],
    }


def orientations() -> dict[str, Any]:
    """Plant all eight orientations in ten slides, whole and cropped; count what is said of each."""
    table: dict[str, dict[str, dict[str, int]]] = {"sure of blocks": {}, "higher by 0.03": {}}
    for slide in slides():
        middle = np.array(slide.pixels.shape[:0:-1]) * slide.um / 2
        kept = slide.spots[slide.spots[:, 0] < np.quantile(slide.spots[:, 0], 0.9)]
        fixed = slide.layer()
        for spots in (slide.spots, kept):
            for name, turn in ORIENTATIONS.items():
                moving = Layer((spots - middle) @ turn.T + middle, np.ones((len(spots), 1)), np.eye(3))
                truth = "as placed" if name == "identity" else "mirrored" if name in MIRRORED else "turned"
                for rule, verdict in verdicts(moving, fixed).items():
                    tally(table[rule].setdefault(truth, {}), verdict)
    return table


def verdicts(moving: Layer, fixed: Layer) -> dict[str, str]:
    """Return what the best of eight orientations is, if it is better than the present by two rules."""
    pixel = max(fixed.diagonal_um() / 128, moving.pitch_um())
    fits = score_orientations(moving, fixed, pixel)
    best = max(fits, key=lambda name: fits[name].score)
    kind = "mirrored" if best in MIRRORED else "turned"
    higher = fits[best].score - fits["identity"].score > CLEARLY
    sure = higher and Samples.of(moving, fixed, pixel).gain(fits[best].affine, fits["identity"].affine)[1] > SURE
    return {"sure of blocks": kind if sure else "as placed", "higher by 0.03": kind if higher else "as placed"}
