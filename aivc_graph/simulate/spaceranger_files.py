"""A Space Ranger output folder: the spots on tissue, where all spots lie, and two small pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aivc_graph.simulate.matrix_file import MatrixFile
from aivc_graph.simulate.measure import Spots
from aivc_graph.simulate.slide_file import shrink, write_png

HIRES, LOWRES = 0.5, 0.125
SPOT_CIRCLE_UM, FIDUCIAL_UM = 65.0, 105.0  # what Space Ranger writes as diameters, whatever the capture spot's own


def write_spaceranger(spots: Spots, genes: tuple[str, ...], image: NDArray[np.uint8], mpp: float, folder: Path) -> None:
    """Write ``outs`` of Space Ranger 2: matrix of the spots on tissue, positions of all, scale factors, two images."""
    outs, spatial = folder / "outs", folder / "outs" / "spatial"
    spatial.mkdir(parents=True)
    barcodes = spot_barcodes(len(spots.xy))
    order = np.flatnonzero(spots.in_tissue)[np.argsort(barcodes[spots.in_tissue])]
    matrix = outs / "filtered_feature_bc_matrix.h5"
    with MatrixFile(matrix, genes, "spaceranger-2.1.0") as file:
        file.append(barcodes[order], spots.counts[order])
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
        write_png(spatial / f"tissue_{name}_image.png", shrink(image, round(1 / scale)))


def spot_barcodes(number: int) -> NDArray[np.str_]:
    """Return the barcodes of the first `number` spots."""
    return np.array([f"{_bases(i)}-1" for i in range(number)])


def _bases(number: int) -> str:
    """A barcode of 16 bases, scattered so that its order is not the array's."""
    code = (number * 2654435761 + 12345) % 4**16
    return "".join("ACGT"[code >> 2 * place & 3] for place in range(16))
