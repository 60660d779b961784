"""Simulated beside real tissue on the same summaries: the spread between real sections, and what is simulated.

Real: cells of a Xenium breast tumour (8 blocks of 1,200 cells) and of osmFISH mouse cortex (4); spots of her2st (12
sections), of a Visium breast tumour (a window) and of DLPFC (a window); H&E of her2st (5 sections) and of CMU-1.
Simulated: the demo's donors at three seeds, on larger sections of 1.8 mm so that there are as many spots as on real
ones. Counts are made comparable first: as many genes, and thinned to the same median depth. A summary lies within if
the median over simulated sections lies between the least and the largest of the real ones.

    python benchmarks/realism.py --data DATA --out benchmarks/results/realism.json
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from realism_summaries import Block, comparable, in_blocks, summarise, summarise_slide
from result_file import write_result
from scipy.spatial import cKDTree

from aivc_graph.simulate.imaging import see_molecules
from aivc_graph.simulate.measure import count_spots
from aivc_graph.simulate.presets import PRESETS, UNTREATED
from aivc_graph.simulate.programmes import GENES, NICHES, TYPE_NAMES
from aivc_graph.simulate.section import SimulatedSection
from aivc_graph.simulate.simulate import specimens
from aivc_graph.simulate.slide import paint_slide

SIZE_UM, SEEDS = 1800.0, [0, 1, 2]
CELLS, CELL_GENES, CELL_DEPTH = 1200, 100, 60.0
SPOT_GENES, SPOT_DEPTH, LEAST_DEPTH = 140, 150.0, 100.0
VISIUM_PITCH_UM, LEGACY_PITCH_UM = 100.0, 200.0
Found = dict[str, dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--real-from", type=Path, help="take what is real from an earlier result")
    arguments = parser.parse_args()
    logging.disable(logging.INFO)  # squidpy tells of each graph
    sections = [section for seed in SEEDS for section in simulated_sections(seed)]
    if arguments.real_from:
        real = json.loads(arguments.real_from.read_text())["real"]
    else:
        data = arguments.data
        real = {"cells": real_cells(data), "spots": real_spots(data), "tiles": real_tiles(data)}
    simulated = {
        "cells": {name: summary for section in sections for name, summary in simulated_cells(section).items()},
        "spots": {section.name: simulated_spots(section) for section in sections},
        "tiles": {section.name: summarise_slide(paint_slide(section), 1.0) for section in sections},
    }
    table = [row for scale in real for row in compared(scale, real[scale], simulated[scale])]
    result = {"size_um": SIZE_UM, "seeds": SEEDS, "table": table, "real": real, "simulated": simulated}
    write_result(arguments.out, rounded(result))
    print(pd.DataFrame(table).to_string(index=False, float_format="%.3f"))


def simulated_sections(seed: int) -> Iterator[SimulatedSection]:
    """Yield the untreated section of each of the demo's donors, larger."""
    preset = replace(PRESETS["demo"], size_um=SIZE_UM)
    for plan in preset.donors:
        for specimen, _ in specimens(preset, replace(plan, arms=(UNTREATED,)), seed):
            yield replace(specimen.untreated, name=f"{plan.name} seed {seed}")


def simulated_cells(section: SimulatedSection) -> Found:
    labels = np.array(TYPE_NAMES)[section.cell_type]
    whole = Block(see_molecules(section).counts.astype(np.int64), section.cell_xy, labels)
    return {f"{section.name} {i}": of_cells(block) for i, block in enumerate(in_blocks(whole, 4, CELLS))}


def simulated_spots(section: SimulatedSection) -> dict[str, Any]:
    spots = count_spots(section)
    inside = spots.in_tissue
    niche = np.array(NICHES)[section.layout.at(section.layout.niche, spots.xy[inside]).astype(int)]
    return of_spots(Block(spots.counts[inside].astype(np.int64), spots.xy[inside], niche))


def of_cells(block: Block) -> dict[str, Any]:
    raw = {"median_depth_of_panel": float(np.median(block.counts.sum(axis=1))), "genes": block.counts.shape[1]}
    return raw | summarise(comparable(block, CELL_GENES, CELL_DEPTH))


def of_spots(block: Block) -> dict[str, Any]:
    raw = {"median_depth_of_panel": float(np.median(block.counts.sum(axis=1))), "genes": block.counts.shape[1]}
    return raw | summarise(comparable(block, SPOT_GENES, SPOT_DEPTH))


def real_cells(data: Path) -> Found:
    """Blocks of the Xenium window, whose unit is 1/16.9 of a Visium pitch, and of osmFISH, labelled by its types."""
    table = pd.read_csv(data / "xenium-visium-breast/xenium_pikachu.csv.gz", index_col=0)
    place = ["cell_id", "cell_area", "nucleus_area", "aligned_x", "aligned_y"]
    xy = table[["aligned_x", "aligned_y"]].to_numpy(float) * VISIUM_PITCH_UM / 16.9
    xenium = Block(table.drop(columns=place).to_numpy(np.int64), xy)
    return {
        **{f"xenium breast {i}": of_cells(block) for i, block in enumerate(in_blocks(xenium, 8, CELLS))},
        **{f"osmFISH cortex {i}": of_cells(block) for i, block in enumerate(in_blocks(osmfish(data), 4, CELLS))},
    }


def osmfish(data: Path) -> Block:
    import h5py

    with h5py.File(data / "osmfish-mouse-ssc/osmFISH_SScortex_mouse_all_cells.loom") as file:
        columns = file["col_attrs"]
        valid = columns["Valid"][:].astype(bool) & (file["matrix"][:].sum(axis=0) > 0)
        counts = file["matrix"][:].T[valid].round().astype(np.int64)
        xy = np.column_stack([columns["X"][:], columns["Y"][:]])[valid].astype(float)
        labels = columns["ClusterName"][:].astype(str)[valid]
    return Block(counts, xy, labels)


def real_spots(data: Path) -> Found:
    """her2st and Visium on the genes of the simulated panel, DLPFC on as many others; without two shallow sections."""
    folder = data / "her2st"
    found = {}
    for path in sorted((folder / "ST-cnts").glob("*.tsv.gz")):
        name = path.name.split(".")[0]
        table = pd.read_csv(path, sep="\t", index_col=0)
        array = np.array([spot.split("x") for spot in table.index], float)
        labels = pathologist(folder / f"ST-pat-lbl/{name}_labeled_coordinates.tsv", table.index)
        counts = table[[gene for gene in GENES if gene in table]].to_numpy(np.int64)
        found[f"her2st {name}"] = of_spots(Block(counts, array * LEGACY_PITCH_UM, labels))
    visium = pd.read_csv(data / "xenium-visium-breast/visium_eevee.csv.gz", index_col=0)
    xy = visium[["aligned_x", "aligned_y"]].to_numpy(float) * VISIUM_PITCH_UM / 16.9
    found = {name: summary for name, summary in found.items() if summary["median_depth_of_panel"] >= LEAST_DEPTH}
    found["visium breast"] = of_spots(Block(visium[[g for g in GENES if g in visium]].to_numpy(np.int64), xy))
    found["dlpfc 151510"] = of_spots(dlpfc(data))
    return found


def pathologist(path: Path, spots: pd.Index) -> NDArray[np.str_] | None:
    if not path.exists():
        return None
    table = pd.read_csv(path, sep="\t").dropna(subset=["x", "y"])
    names = [f"{round(x)}x{round(y)}" for x, y in zip(table.x, table.y, strict=True)]
    label = pd.Series(table.label.to_numpy(), names)
    return label[~label.index.duplicated()].reindex(spots).fillna("none").to_numpy(str)


def dlpfc(data: Path) -> Block:
    """The 700 spots about the middle of the section."""
    from anndata import read_h5ad

    table = read_h5ad(data / "dlpfc-visium/151510/dlpfc_151510_500genes.h5ad")
    counts = table.X.toarray() if hasattr(table.X, "toarray") else np.asarray(table.X)
    whole = Block(counts.astype(np.int64), np.asarray(table.obsm["spatial"], float), table.obs["layer"].to_numpy(str))
    return in_blocks(whole, 1, 700)[0]


def real_tiles(data: Path) -> Found:
    from aivc_graph.io.slides import open_slide

    found = {}
    for path in sorted((data / "her2st/ST-imgs").glob("*.jpg")):
        name = path.name[:2]
        spots = pd.read_csv(data / f"her2st/ST-spotfiles/{name}_selection.tsv", sep="\t")
        pitch = np.median(cKDTree(spots[["pixel_x", "pixel_y"]]).query(spots[["pixel_x", "pixel_y"]], k=2)[0][:, 1])
        found[f"her2st {name}"] = summarise_slide(pixels(open_slide(path)[0]), LEGACY_PITCH_UM / float(pitch))
    image, mpp = open_slide(data / "slides/CMU-1-Small-Region.svs")
    found["CMU-1"] = summarise_slide(pixels(image), float(mpp or 0.499))
    return found


def pixels(slide: Any) -> NDArray[np.uint8]:
    array = slide[0] if isinstance(slide, list | tuple) else slide
    return np.moveaxis(np.asarray(array), 0, -1)


def compared(scale: str, real: Found, simulated: Found) -> list[dict[str, Any]]:
    """Return one row a summary that is a number."""
    rows = []
    names = dict.fromkeys(k for s in simulated.values() for k, v in s.items() if isinstance(v, float))
    for name in names:
        seen = np.array([s[name] for s in real.values() if s.get(name) is not None])
        made = np.array([s[name] for s in simulated.values() if s.get(name) is not None])
        inside = (made >= seen.min()) & (made <= seen.max())
        rows.append(
            {
                "scale": scale,
                "summary": name,
                "real_lowest": seen.min(),
                "real_median": np.median(seen),
                "real_highest": seen.max(),
                "n_real": len(seen),
                "simulated_lowest": made.min(),
                "simulated_median": np.median(made),
                "simulated_highest": made.max(),
                "n_simulated": len(made),
                "within": bool(seen.min() <= np.median(made) <= seen.max()),
                "share_within": inside.mean(),
            }
        )
    return rows


def rounded(value: Any) -> Any:
    """Return nested results with plain numbers of four digits."""
    if isinstance(value, dict):
        return {key: rounded(held) for key, held in value.items()}
    if isinstance(value, list | np.ndarray):
        return [rounded(held) for held in value]
    return float(f"{value:.4g}") if isinstance(value, float | np.floating) else value


if __name__ == "__main__":
    main()
