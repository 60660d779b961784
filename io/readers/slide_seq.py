"""Slide-seq: beads, their places on the puck, and their counts with genes as rows."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from aivc_graph.errors import ReadError
from aivc_graph.io.gene_rows import read_gene_rows
from aivc_graph.io.matrices import count_table
from aivc_graph.io.options import Positive
from aivc_graph.io.reading import READERS
from aivc_graph.io.rows import AbstractRowsReader, Rows
from aivc_graph.io.tables import column_names, numbers, read_frame
from aivc_graph.tissue.doubt import tell
from aivc_graph.tissue.naming import names_of

UM_PER_PIXEL, BEAD_UM = 0.65, 10.0
_ENDINGS = (".csv", ".txt", ".tsv")
_PLACES = ({"xcoord", "ycoord"}, {"x_coord", "y_coord"})
_GENES = ("GENE", "gene", "Gene", "Row")
_LIKE_COUNTS = ("digital_expression", "MappedDGE", "expression", "dge", "counts")


@READERS.register("slide_seq", expects="a folder with bead locations (xcoord, ycoord) and digital expression as text")
class SlideSeqReader(AbstractRowsReader):
    """Reads one Slide-seq puck as level ``patch``, one bead a node.

    Parameters
    ----------
    puck
        Beginning of the names of the puck's files, where a folder holds several.
    um_per_unit
        Microns a pixel of the bead locations; 0.65 as published, and so taken unless given.
    diameter_um
        Diameter of a bead [µm].

    See `aivc_graph.io.rows.AbstractRowsReader` for the others, of columns of the bead locations.

    Raises
    ------
    ReadError
        A missing or damaged file, several pucks.

    References
    ----------
    Rodriques et al. 2019, doi:10.1126/science.aaw1219; Stickels et al. 2021, doi:10.1038/s41587-020-0739-1.
    """

    puck: str = ""
    level: Literal["cell", "patch"] = "patch"
    um_per_unit: Positive | None = UM_PER_PIXEL
    diameter_um: Positive | None = BEAD_UM

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return path.is_dir() and any(map(_is_places, _texts(path, ""))) and bool(_counts(path, ""))

    def rows(self, path: Path) -> Rows:
        places = _one(path, self.puck, [one for one in _texts(path, self.puck) if _is_places(one)], "bead locations")
        counts = _one(path, self.puck, _counts(path, self.puck), "digital expression")
        if "um_per_unit" not in self.model_fields_set:
            tell(f"{path}: {UM_PER_PIXEL:g} µm a pixel, as published of Slide-seq; `um_per_unit:` says otherwise")
        table = read_frame(places)
        x, y = (next(name for name in table if name in pair) for pair in (("xcoord", "x_coord"), ("ycoord", "y_coord")))
        barcode = next(name for name in (*table.columns[table.columns.str.startswith("barcode")], table.columns[0]))
        beads = pd.Index(names_of(table[barcode]).astype(str))
        nodes, genes, matrix = read_gene_rows(counts)
        known = beads.isin(nodes)
        if not known.any():
            found = f"beads such as {beads[0]!r}, and counts of such as {nodes[0]!r}"
            raise ReadError(str(path), found, "the same barcodes", "do both files belong to this puck?")
        if not known.all():
            tell(f"{path}: {(~known).sum():,} of {len(known):,} beads have no counts and are left out")
        xy = np.column_stack([numbers(table[one], str(places)) for one in (x, y)])
        counted = count_table(matrix, nodes, pd.DataFrame(index=genes))
        return Rows(beads[known], table[known].reset_index(drop=True), xy[known], counted, str(places))


def _texts(folder: Path, puck: str) -> list[Path]:
    found = sorted(one for one in folder.iterdir() if one.is_file() and one.name.startswith(puck))
    return [one for one in found if one.name.removesuffix(".gz").endswith(_ENDINGS)]


def _is_places(path: Path) -> bool:
    """Bead locations have a header of few names, x and y of pixels among them."""
    names = set(column_names(path)[:8])
    return any(places <= names for places in _PLACES)


def _counts(folder: Path, puck: str) -> list[Path]:
    """Return the tables whose rows are genes, by their header; those that are called so where several are."""
    found = [one for one in _texts(folder, puck) if column_names(one)[:1] and column_names(one)[0] in _GENES]
    called = [one for one in found if any(word.lower() in one.name.lower() for word in _LIKE_COUNTS)]
    return called or found


def _one(folder: Path, puck: str, found: list[Path], what: str) -> Path:
    if len(found) == 1:
        return found[0]
    there = ", ".join(one.name for one in found or sorted(folder.iterdir())[:6]) or "nothing"
    mend = "say which by the beginning of its files' names, as `puck:`" if found else "is the folder complete?"
    raise ReadError(f"{folder} · {what}", f"{len(found)} such files: {there}", "one", mend)
