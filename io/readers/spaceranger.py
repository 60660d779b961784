"""10x Visium and Visium HD: spots or bins, their counts, and the tissue picture, as Space Ranger writes them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from aivc_graph import names
from aivc_graph.errors import ReadError
from aivc_graph.io.intake import Keep, add_counts, kept_rows
from aivc_graph.io.lattice import (
    DRAWN_SPOT_UM,
    SAME_CIRCLE,
    SPOT_UM,
    check_scale,
    given_or,
    stated_um_per_unit,
    um_per_unit_of_array,
    um_per_unit_of_bins,
    visium_array_um,
)
from aivc_graph.io.options import CountOptions, Positive
from aivc_graph.io.reading import READERS, AbstractReader
from aivc_graph.io.spaceranger_folder import (
    is_outs,
    outs_of,
    positions_file,
    read_counts,
    scale_factors,
)
from aivc_graph.io.spot_positions import read_spot_positions
from aivc_graph.io.tissue_picture import Picture, add_full_picture, add_tissue_picture
from aivc_graph.tissue.doubt import doubt
from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.section import add_level, new_section


@READERS.register("spaceranger", expects="Space Ranger's `outs`, its parent, or a Visium HD folder `square_…um`")
class SpaceRangerReader(CountOptions, AbstractReader):
    """Reads Visium spots or HD bins as level ``patch``, in pixels of the full-resolution image.

    Parameters
    ----------
    counts
        Matrix to take; by default the filtered one, or the raw one where that is all there is. ``none`` reads places
        and picture alone.
    only_in_tissue
        Leave out spots beside the tissue.
    um_per_unit
        Microns a full-resolution pixel; by default from the 100 µm array (Visium) or ``microns_per_pixel`` (HD).
    image
        Tissue picture to add as the slide; by default the finer one there is.
    slide
        Full-resolution image whose pixels the positions count, to add in place of the picture.
    library
        Library of an aggregated matrix (``spaceranger aggr``), whose barcodes end in its number, that is this section.
    keep
        Values that columns of the list of spots must have, such as ``{array_row: [0, 1]}``.

    See `aivc_graph.io.options.CountOptions` for the others.

    Raises
    ------
    ReadError
        A missing or damaged file, columns of no known version, several organisms, a scale that cannot be told.
    TissueError
        No spot on tissue; counts and positions of different sections.

    References
    ----------
    Ståhl et al. 2016, doi:10.1126/science.aaf2403 (spots on an array under the tissue).
    """

    counts: Literal["filtered", "raw", "none"] | None = None
    only_in_tissue: bool = True
    um_per_unit: Positive | None = None
    image: Picture | None = None
    slide: Path | None = None
    library: int | None = None
    keep: Keep = Field(default_factory=dict)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return any(is_outs(folder) for folder in (path, path / "outs"))

    def read(self, path: Path, section: str) -> Any:
        outs = outs_of(path)
        table = None if self.counts == "none" else read_counts(outs, self.counts)
        spots = read_spot_positions(positions_file(outs))
        factors = scale_factors(outs)
        um_per_pixel = self._um_per_pixel(spots, factors, outs)
        bin_um = factors.get("bin_size_um")
        tissue = new_section(section, platform="Visium" if bin_um is None else "Visium HD")
        kept = spots[kept_rows(spots, self.keep, self.only_in_tissue, str(outs))]
        add_level(
            tissue,
            names.PATCH,
            kept["barcode"],
            _xy(kept),
            (bin_um or SPOT_UM) / 2 / um_per_pixel,
            scale_affine(um_per_pixel),
            kept[["in_tissue", "array_row", "array_col"]].astype({"array_row": int, "array_col": int}),
        )
        if table is not None:
            self._add_counts(tissue, table, spots[~spots.index.isin(kept.index)]["barcode"], outs)
        if self.slide is not None:
            add_full_picture(tissue, names.PATCH, outs, self.slide, factors, um_per_pixel)
        else:
            add_tissue_picture(tissue, names.PATCH, outs, factors, um_per_pixel, self.image)
        return tissue

    def _um_per_pixel(self, spots: pd.DataFrame, factors: dict[str, float], outs: Path) -> float:
        told, drawn, side = factors.get("microns_per_pixel"), None, factors.get("bin_size_um")
        placed = spots[np.isfinite(_xy(spots)).all(axis=1)]
        array = (placed["array_row"], placed["array_col"])
        if told is None and side is None:
            by_array = partial(um_per_unit_of_array, visium_array_um(*array), _xy(placed), str(outs))
            stated = given_or(self.um_per_unit, by_array, "the array of the spots", str(outs))
            drawn = DRAWN_SPOT_UM / factors["spot_diameter_fullres"] if "spot_diameter_fullres" in factors else None
        else:
            stated = given_or(self.um_per_unit, lambda: told, "scalefactors_json.json", str(outs))
        if stated is not None and side is not None:
            check_scale(stated, um_per_unit_of_bins(*array, side, _xy(placed)), "bin_size_um", str(outs))
        if stated is not None:
            check_scale(stated, drawn, "spot_diameter_fullres", str(outs), SAME_CIRCLE)
        elif drawn is not None:
            doubt(str(outs), "too few spots for the array's scale", mend="it is taken from spot_diameter_fullres")
        return stated_um_per_unit(drawn if stated is None else stated, _xy(spots), outs)

    def _of_library(self, table: Any, outs: Path) -> Any:
        """Return the rows of one library of an aggregated matrix, under the names that they have in its own run."""
        if self.library is None:
            return table
        of = table.obs_names.str.endswith(f"-{self.library}")
        if not of.any():
            ends = ", ".join(sorted(set(table.obs_names.str.extract(r"-(\d+)$")[0].dropna())))
            raise ReadError(f"{outs} · library", str(self.library), f"one of {ends}", "see aggregation.csv of the run")
        table = table[of].copy()
        table.obs_names = table.obs_names.str.replace(r"-\d+$", "-1", regex=True)
        return table

    def _add_counts(self, tissue: Any, table: Any, left_out: pd.Series, outs: Path) -> None:
        # The raw matrix holds spots that were left out on purpose: they are no failed join.
        # Compared without suffix, so that one that differs is judged by the join, not taken for missing spots.
        table = self._of_library(table, outs)
        rows, gone = (keys.str.replace(r"-\d+$", "", regex=True) for keys in (table.obs_names, left_out))
        add_counts(tissue, names.PATCH, table[~rows.isin(gone)], str(outs), **self.count_options)


def _xy(spots: pd.DataFrame) -> np.ndarray:
    return spots[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy(np.float64)
