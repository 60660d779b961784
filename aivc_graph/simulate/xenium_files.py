"""A Xenium output folder: cells, their matrix, annotated types, and where asked the molecules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aivc_graph.simulate.counts import Counts
from aivc_graph.simulate.donors import stream
from aivc_graph.simulate.imaging import Molecules, place_molecules
from aivc_graph.simulate.matrix_file import MatrixFile
from aivc_graph.simulate.programmes import TYPE_NAMES
from aivc_graph.simulate.section import SimulatedSection, cell_names

XENIUM_MPP: Final = 0.2125
MISTAKEN: Final = 0.04


class XeniumFolder:
    """A Xenium output folder that grows by blocks of cells, of which one is in memory at a time.

    Use as a context. Equal blocks give equal bytes.

    Parameters
    ----------
    folder
        Folder to create.
    genes
        Symbols of the columns of every block.

    Examples
    --------
    >>> with XeniumFolder(Path("xenium"), simulated.genes) as xenium:
    ...     for corner in ((0.0, 0.0), (1000.0, 0.0)):
    ...         cells = xenium.append(simulated, see_molecules(simulated).counts, corner)
    """

    def __init__(self, folder: Path, genes: tuple[str, ...]) -> None:
        folder.mkdir(parents=True)
        self._folder, self._number = folder, 0
        self._matrix = MatrixFile(folder / "cell_feature_matrix.h5", genes, "xenium-2.0.0")
        self._cells: Any = None
        (folder / "cell_types.csv").write_text("cell_id,label\n")

    def append(
        self, section: SimulatedSection, counts: Counts, corner_um: tuple[float, float] = (0.0, 0.0)
    ) -> NDArray[np.str_]:
        """Add the cells of `section` and their counts ``(cell, gene)``; return the names they got.

        Parameters
        ----------
        corner_um
            Where the upper left corner of `section` lies.
        """
        names = cell_names(len(counts), self._number)
        self._number += len(counts)
        self._matrix.append(names, counts)
        self._append_cells(_cells(section, counts, names, corner_um))
        labels = pd.DataFrame({"cell_id": names, "label": annotate(section)})
        with (self._folder / "cell_types.csv").open("a") as file:
            labels.to_csv(file, index=False, header=False)
        return names

    def __enter__(self) -> XeniumFolder:
        return self

    def __exit__(self, *failure: object) -> None:
        self._matrix.__exit__(*failure)
        if self._cells is not None:
            self._cells.close()
        facts = {"major_version": 5, "minor_version": 0, "pixel_size": XENIUM_MPP, "num_cells": self._number}
        (self._folder / "experiment.xenium").write_text(json.dumps(facts, indent=1))

    def _append_cells(self, cells: pd.DataFrame) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        table = pa.Table.from_pandas(cells, preserve_index=False)
        if self._cells is None:
            self._cells = parquet.ParquetWriter(self._folder / "cells.parquet", table.schema)
        self._cells.write_table(table)


def write_xenium(
    section: SimulatedSection, molecules: Molecules, mpp: float | None, folder: Path, *, transcripts: bool = False
) -> None:
    """Write one section, with the vendor's own alignment of an H&E of `mpp` µm a pixel where there is one.

    Parameters
    ----------
    transcripts
        Whether to write every molecule with its place.
    """
    with XeniumFolder(folder, section.genes) as xenium:
        names = xenium.append(section, molecules.counts)
    if transcripts:
        place_molecules(section, molecules, names).to_parquet(folder / "transcripts.parquet", index=False)
    if mpp is not None:
        scale = mpp / XENIUM_MPP
        np.savetxt(folder / "he_imagealignment.csv", np.diag([scale, scale, 1.0]), delimiter=",")


def annotate(section: SimulatedSection) -> NDArray[np.str_]:
    """Return the types an annotator would give, ``(cell,)``: 4 % are taken for another type of the section."""
    rng = stream(section.seed, "annotator")
    wrong = rng.random(len(section.cell_type)) < MISTAKEN
    seen = np.where(wrong, rng.permutation(section.cell_type), section.cell_type)
    return np.array(TYPE_NAMES)[seen]


def _cells(
    section: SimulatedSection, counts: Counts, names: NDArray[np.str_], corner_um: tuple[float, float]
) -> pd.DataFrame:
    total = counts.sum(axis=1)
    xy = (section.cell_xy + corner_um).round(4)
    return pd.DataFrame(
        {
            "cell_id": names,
            "x_centroid": xy[:, 0],
            "y_centroid": xy[:, 1],
            "transcript_counts": total,
            "control_probe_counts": 0,
            "control_codeword_counts": 0,
            "total_counts": total,
            "cell_area": section.cell_area_um2.round(4),
            "nucleus_area": (np.pi / 4 * section.nucleus_um.prod(axis=1)).round(4),
        }
    )
