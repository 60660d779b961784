"""Stereo-seq: molecules on a grid of 0.5 µm, as text (GEM) or HDF5 (GEF), gathered into square bins or into cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from aivc_graph.errors import ReadError
from aivc_graph.io.hdf5_guard import check_hdf5, hdf5_names
from aivc_graph.io.matrices import count_table
from aivc_graph.io.options import Positive
from aivc_graph.io.reading import READERS
from aivc_graph.io.rows import AbstractRowsReader, Rows
from aivc_graph.io.stereo_files import CELLS, Molecules, gef_bins, gef_cells, gem_molecules, is_gem
from aivc_graph.tissue.doubt import tell

UM_PER_SPOT = 0.5
AREA = "cell_area_um2"


@READERS.register(
    "stereo_seq",
    expects="a Stereo-seq GEM text (.gem, .gem.gz: geneID, x, y, MIDCount), or a .gef file of bins or of cells",
)
class StereoSeqReader(AbstractRowsReader):
    """Reads Stereo-seq as level ``patch``, one square bin a node, or as level ``cell`` where the file names cells.

    Parameters
    ----------
    level
        ``patch`` for bins; ``cell`` for the cells that the column ``CellID`` of a GEM names, which then need a size. A
        GEF of cells (``cellbin.gef``) holds cells alone, with their areas.
    bin
        Side of a bin in spots of the chip. A GEF must hold this bin size or one that divides it.
    um_per_unit
        Microns from spot to spot; 0.5 on all chips so far, and so taken unless given or, in a GEF, stated.
    diameter_um
        Diameter of a node [µm]; by default the side of a bin, or as the area that a GEF of cells states.

    See `aivc_graph.io.rows.AbstractRowsReader` for the others; bins have no annotation.

    Raises
    ------
    ReadError
        A damaged file, missing columns, no such bin size, cells of a GEM that names none.

    References
    ----------
    Chen et al. 2022, doi:10.1016/j.cell.2022.04.003.
    """

    level: Literal["cell", "patch"] = "patch"
    bin: int = Field(default=50, ge=1)
    um_per_unit: Positive | None = UM_PER_SPOT

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return bool({"geneExp", CELLS} & hdf5_names(path)) or is_gem(path)

    def preview(self, path: Path) -> dict[str, Any] | None:
        return None

    def rows(self, path: Path) -> Rows:
        if there := hdf5_names(path):
            check_hdf5(path)
            if "level" in self.model_fields_set and (self.level == "cell") != (CELLS in there):
                held, mend = ("cells", "bins") if CELLS in there else ("bins", "cells")
                mend = f"leave out `level:`, or give the file of {mend}"
                raise ReadError(f"{path} · level", held, f"`level: {self.level}`", mend)
            found, stated = gef_cells(path) if CELLS in there else gef_bins(path, self.bin)
        else:
            found, stated = gem_molecules(path, self.bin, by_cell=self.level == "cell"), None
        if stated is None and "um_per_unit" not in self.model_fields_set:
            tell(f"{path}: {UM_PER_SPOT:g} µm from spot to spot, as on Stereo-seq chips; `um_per_unit:` says otherwise")
        elif stated is not None and not np.isclose(stated, self.um_per_unit or stated, rtol=0.01):
            found_um, expected = f"{stated:g} µm from spot to spot", f"{self.um_per_unit:g}"
            raise ReadError(f"{path} · resolution", found_um, expected, "give it as `um_per_unit:`")
        rows = _rows_of(found, path)
        if found.area is not None:
            um = stated or self.um_per_unit or UM_PER_SPOT
            rows.columns[AREA] = found.area * um**2
        return rows

    def scale(self, rows: Rows, path: Path) -> float | None:
        return self.um_per_unit

    def laid(self, rows: Rows, path: Path, section: str) -> Any:
        sized, unsized = self, self.diameter_um is None and self.area is None
        if AREA in rows.columns:
            sized = self.model_copy(update={"level": "cell"} | ({"area": AREA} if unsized else {}))
        elif unsized and self.level == "patch":
            sized = self.model_copy(update={"diameter_um": self.bin * (self.um_per_unit or UM_PER_SPOT)})
        return super(StereoSeqReader, sized).laid(rows, path, section)


def _rows_of(found: Molecules, path: Path) -> Rows:
    """Return molecules, each of one node and gene, as rows of counts."""
    shape = (len(found.nodes), len(found.genes))
    counts = sparse.csr_matrix((found.count.astype(np.float32), (found.node, found.gene)), shape=shape)
    var = pd.DataFrame(index=pd.Index(found.genes.astype(str)))
    if found.gene_ids is not None:
        var["gene_ids"] = found.gene_ids.astype(str)
    nodes: NDArray[np.str_] = np.asarray(found.nodes, dtype=str)
    columns = pd.DataFrame(index=range(len(nodes)))
    return Rows(pd.Index(nodes), columns, found.xy, count_table(counts, nodes, var), str(path))
