"""Write a simulated section as its vendors would deliver it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.simulate.donors import stream
from aivc_graph.simulate.measure import Counts, Spots
from aivc_graph.simulate.programmes import TYPE_NAMES
from aivc_graph.simulate.section import SimulatedSection, cell_names

HIRES, LOWRES = 0.5, 0.125
SPOT_CIRCLE_UM, FIDUCIAL_UM = 65.0, 105.0  # what Space Ranger writes as diameters, whatever the capture spot's own
XENIUM_MPP = 0.2125
TILE_PX = 256
MISTAKEN = 0.04
SLIDE_ID = "urn:uuid:00000000-0000-4000-8000-000000000000"  # a fixed one, so that equal seeds give equal bytes


def write_spaceranger(spots: Spots, genes: tuple[str, ...], image: NDArray[np.uint8], mpp: float, folder: Path) -> None:
    """Write ``outs`` of Space Ranger 2: matrix of the spots on tissue, positions of all, scale factors, two images."""
    outs, spatial = folder / "outs", folder / "outs" / "spatial"
    spatial.mkdir(parents=True)
    barcodes = spot_barcodes(len(spots.xy))
    order = np.flatnonzero(spots.in_tissue)[np.argsort(barcodes[spots.in_tissue])]
    matrix = outs / "filtered_feature_bc_matrix.h5"
    _write_matrix(matrix, spots.counts[order], barcodes[order], genes, "spaceranger-2.1.0")
    pixel = np.rint(spots.xy / mpp).astype(int)
    columns = {
        "barcode": barcodes,
        "in_tissue": spots.in_tissue.astype(int),
        "array_row": spots.grid[:, 0],
        "array_col": spots.grid[:, 1],
        "pxl_row_in_fullres": pixel[:, 1],
        "pxl_col_in_fullres": pixel[:, 0],
    }
    pd.DataFrame(columns).to_csv(spatial / "tissue_positions.csv", index=False)
    factors = {
        "spot_diameter_fullres": SPOT_CIRCLE_UM / mpp,
        "tissue_hires_scalef": HIRES,
        "fiducial_diameter_fullres": FIDUCIAL_UM / mpp,
        "tissue_lowres_scalef": LOWRES,
    }
    (spatial / "scalefactors_json.json").write_text(json.dumps(factors))
    for name, scale in (("hires", HIRES), ("lowres", LOWRES)):
        _write_png(spatial / f"tissue_{name}_image.png", _shrink(image, round(1 / scale)))


def write_xenium(section: SimulatedSection, counts: Counts, mpp: float | None, folder: Path) -> None:
    """Write cells, their matrix, annotated types, the experiment's facts and the vendor's own alignment of an H&E."""
    folder.mkdir(parents=True)
    names = cell_names(len(section.cell_xy))
    nucleus = np.pi / 4 * section.nucleus_um.prod(axis=1)
    columns = {
        "cell_id": names,
        "x_centroid": section.cell_xy[:, 0].round(4),
        "y_centroid": section.cell_xy[:, 1].round(4),
        "transcript_counts": counts.sum(axis=1),
        "control_probe_counts": 0,
        "control_codeword_counts": 0,
        "total_counts": counts.sum(axis=1),
        "cell_area": section.cell_area_um2.round(4),
        "nucleus_area": nucleus.round(4),
    }
    _write_csv_gz(folder / "cells.csv.gz", pd.DataFrame(columns))
    _write_matrix(folder / "cell_feature_matrix.h5", counts, names, section.genes, "xenium-2.0.0")
    facts = {"major_version": 5, "minor_version": 0, "pixel_size": XENIUM_MPP, "num_cells": len(names)}
    (folder / "experiment.xenium").write_text(json.dumps(facts, indent=1))
    labels = pd.DataFrame({"cell_id": names, "label": annotate(section)})
    labels.to_csv(folder / "cell_types.csv", index=False)
    if mpp is not None:
        scale = mpp / XENIUM_MPP
        np.savetxt(folder / "he_imagealignment.csv", np.diag([scale, scale, 1.0]), delimiter=",")


def annotate(section: SimulatedSection) -> NDArray[np.str_]:
    """Return the types an annotator would give, ``(cell,)``: 4 % are taken for another type of the section."""
    rng = stream(section.seed, "annotator")
    wrong = rng.random(len(section.cell_type)) < MISTAKEN
    seen = np.where(wrong, rng.permutation(section.cell_type), section.cell_type)
    return np.array(TYPE_NAMES)[seen]


def write_slide(image: NDArray[np.uint8], mpp: float, path: Path) -> None:
    """Write a tiled OME-TIFF pyramid of `image` ``(y, x, 3)`` at `mpp` µm a pixel, each level half the one before."""
    import tifffile

    levels = [image]
    while min(levels[-1].shape[:2]) > TILE_PX:
        levels.append(_shrink(levels[-1], 2))
    metadata = {"axes": "YXS", "UUID": SLIDE_ID, "Creator": "aivc-graph"}
    size = {"PhysicalSizeX": mpp, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": mpp, "PhysicalSizeYUnit": "µm"}
    layout: dict[str, Any] = {"tile": (TILE_PX, TILE_PX), "photometric": "rgb", "compression": "deflate"}
    layout |= {"predictor": True, "software": False}
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(levels[0], subifds=len(levels) - 1, metadata={**metadata, **size}, **layout)
        for level in levels[1:]:
            tiff.write(level, subfiletype=1, metadata=None, **layout)


def _write_matrix(
    path: Path, counts: Counts, barcodes: NDArray[np.str_], symbols: tuple[str, ...], software: str
) -> None:
    """Write counts ``(barcode, gene)`` in 10x's layout: one compressed column a barcode."""
    import h5py

    csc = sparse.csc_matrix(counts.T)
    csc.sort_indices()
    genes = np.array(symbols, dtype="S")
    fields: dict[str, NDArray[Any]] = {
        "barcodes": barcodes.astype("S"),
        "data": csc.data.astype(np.int32),
        "indices": csc.indices.astype(np.int64),
        "indptr": csc.indptr.astype(np.int64),
        "shape": np.array(csc.shape, np.int32),
        "features/id": genes,
        "features/name": genes,
        "features/feature_type": np.full(len(genes), b"Gene Expression"),
        "features/genome": np.full(len(genes), b"GRCh38"),
        "features/_all_tag_keys": np.array([b"genome"]),
    }
    with h5py.File(path, "w", libver=("v108", "v110")) as file:
        file.attrs.update({"filetype": "matrix", "version": 2, "software_version": software})
        for name, values in fields.items():
            packed = {"compression": "gzip", "shuffle": True} if values.size > 1000 else {}
            file.create_dataset(f"matrix/{name}", data=values, track_times=False, **packed)


def _write_csv_gz(path: Path, table: pd.DataFrame) -> None:
    with path.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
        file.write(table.to_csv(index=False).encode())


def _write_png(path: Path, image: NDArray[np.uint8]) -> None:
    from imagecodecs import png_encode

    path.write_bytes(png_encode(image, level=6))


def _shrink(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Average squares of `factor` pixels; what does not fill a square at the far border is cut."""
    height, width = (n // factor for n in image.shape[:2])
    squares = image[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
    return np.rint(squares.mean(axis=(1, 3))).astype(np.uint8)


def spot_barcodes(number: int) -> NDArray[np.str_]:
    """Return the barcodes of the first `number` spots."""
    return np.array([f"{_bases(i)}-1" for i in range(number)])


def _bases(number: int) -> str:
    """A barcode of 16 bases, scattered so that its order is not the array's."""
    code = (number * 2654435761 + 12345) % 4**16
    return "".join("ACGT"[code >> 2 * place & 3] for place in range(16))
