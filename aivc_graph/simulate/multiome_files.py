"""The modalities of the same cells, one AnnData file each."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from aivc_graph.simulate.h5ad_file import write_h5ad
from aivc_graph.simulate.imaging import Molecules
from aivc_graph.simulate.multiome import count_proteins, count_regions
from aivc_graph.simulate.section import SimulatedSection, cell_names
from aivc_graph.simulate.xenium_files import annotate

RNA_FILE, PROTEIN_FILE, ATAC_FILE = "rna.h5ad", "protein.h5ad", "atac.h5ad"
READER_OPTIONS: Final = {
    "level": "cell",
    "um_per_unit": 1.0,
    "area": "area_um2",
    "label": "label",
    "beside": {"protein": PROTEIN_FILE, "atac": ATAC_FILE},
}


def write_multiome(section: SimulatedSection, molecules: Molecules, folder: Path) -> None:
    """Write ``rna.h5ad``, ``protein.h5ad`` and ``atac.h5ad`` with the same cells in the same order.

    ``obs`` has each cell's area [µm²] and an annotator's label, ``obsm/spatial`` its position [µm]; ``var`` the gene
    that each protein or region belongs to. `READER_OPTIONS` read all three as one source.
    """
    folder.mkdir(parents=True)
    cells = pd.DataFrame(
        {"area_um2": section.cell_area_um2, "label": annotate(section)}, index=cell_names(len(section.cell_xy))
    )
    genes = pd.DataFrame({"gene": np.array(section.genes)}, index=np.array(section.genes))
    protein, chromatin = count_proteins(section), count_regions(section)
    for name, counts, features in (
        (RNA_FILE, molecules.counts, genes),
        (PROTEIN_FILE, protein.counts, protein.features),
        (ATAC_FILE, chromatin.counts, chromatin.features),
    ):
        write_h5ad(folder / name, counts, cells, features, section.cell_xy)
