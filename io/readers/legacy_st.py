"""Legacy Spatial Transcriptomics: a count table whose rows are named after their place on the array."""

from __future__ import annotations

import logging
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from aivc_graph import names
from aivc_graph.errors import ReadError
from aivc_graph.io.intake import Keep, add_counts, kept_rows
from aivc_graph.io.labels import join_labels
from aivc_graph.io.lattice import given_or, stated_um_per_unit, um_per_unit_of_array
from aivc_graph.io.matrices import count_table
from aivc_graph.io.options import CountOptions, Positive
from aivc_graph.io.painting import paint_boxes
from aivc_graph.io.reading import READERS, AbstractReader
from aivc_graph.io.slides import open_slide
from aivc_graph.io.tables import first_lines, matrix_of, need_columns, numbers, read_frame
from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.section import add_level, add_slide, new_section

log = logging.getLogger(__name__)

PITCH_UM, SPOT_UM = 200.0, 100.0
NAME_TOLERANCE = 0.01

_PLACE = re.compile(r"^(\d+(?:\.\d+)?)x(\d+(?:\.\d+)?)$")


@READERS.register("legacy_st", expects="a CSV or TSV (.gz) of counts whose rows are named <x>x<y>, columns genes")
class LegacySTReader(CountOptions, AbstractReader):
    """Reads one array of Spatial Transcriptomics as level ``patch``.

    Parameters
    ----------
    positions
        Spot file with ``x, y, pixel_x, pixel_y`` and, where there is, ``selected``; positions are then pixels.
    coordinates
        Table without header: x, y on the array, one line a row of the counts. Without this and `positions` the places
        are those in the rows' names.
    pitch_um
        Distance of neighbouring spots on the array [µm].
    um_per_unit
        Microns a pixel of `positions`; by default from the array and its pitch.
    labels
        Pathologist's table with ``x, y, label``; decimals are rounded to the array, rows without a place are dropped.
    slide, slide_scale
        Image, and its pixels per pixel of `positions`.
    blank
        Boxes ``[x0, y0, x1, y1]`` of slide pixels to paint over, such as a thumbnail that shows the labels.
    diameter_um
        Diameter of a spot [µm].
    keep
        Values that ``array_x``, ``array_y`` or, with `labels`, ``label`` must have; other spots are left out.

    See `aivc_graph.io.options.CountOptions` for the others.

    Raises
    ------
    ReadError
        Rows that are not named so, missing columns, coordinates that contradict the names, labels of another section.

    References
    ----------
    Ståhl et al. 2016, doi:10.1126/science.aaf2403.
    """

    positions: Path | None = None
    coordinates: Path | None = None
    pitch_um: Positive = PITCH_UM
    um_per_unit: Positive | None = None
    labels: Path | None = None
    slide: Path | None = None
    slide_scale: Positive = 1.0
    blank: tuple[tuple[int, int, int, int], ...] = ()
    diameter_um: Positive = SPOT_UM
    keep: Keep = Field(default_factory=dict)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        lines = first_lines(path) if path.is_file() else []
        if len(lines) < 2 or len(lines[1]) < 3 or not _PLACE.match(lines[1][0]):
            return False
        return all(field.replace(".", "", 1).isdigit() for field in lines[1][1:])

    def read(self, path: Path, section: str) -> Any:
        frame = read_frame(path)
        rows = frame.iloc[:, 0].astype(str)
        places = _places(rows, path)
        counts = matrix_of(frame.iloc[:, 1:], str(path))
        var = pd.DataFrame(index=frame.columns[1:].astype(str))
        table = count_table(counts, rows, var)
        barcodes, array, xy, um_per_unit = self._spots(rows, places, path)
        columns = pd.DataFrame({"array_x": array[:, 0], "array_y": array[:, 1]})
        if self.labels is not None:
            columns[names.LABEL] = _labels(self.labels, barcodes)
        kept = kept_rows(columns, self.keep, False, str(path))
        left_out, barcodes, xy, columns = barcodes[~kept], barcodes[kept], xy[kept], columns[kept]
        tissue = new_section(section, platform="Spatial Transcriptomics")
        radius, to_um = self.diameter_um / 2 / um_per_unit, scale_affine(um_per_unit)
        add_level(tissue, names.PATCH, barcodes, xy, radius, to_um, columns)
        table = table[~table.obs_names.isin(left_out)]
        add_counts(tissue, names.PATCH, table, str(path), **self.count_options)
        if self.slide is not None:
            pixels, _ = open_slide(self.slide)
            painted = paint_boxes(pixels, self.blank, f"{self.slide} · blank")
            add_slide(tissue, painted, scale_affine(um_per_unit / self.slide_scale))
        return tissue

    def _spots(
        self, rows: pd.Series, places: np.ndarray, path: Path
    ) -> tuple[pd.Series, np.ndarray, np.ndarray, float]:
        """Return barcodes, array places, positions and microns per unit."""
        if self.positions is not None and self.coordinates is not None:
            raise ReadError(str(path), "both `positions:` and `coordinates:`", "one of them")
        if self.coordinates is not None:
            places = _checked_coordinates(self.coordinates, places, rows)
        if self.positions is None:
            if self.slide is not None:
                raise ReadError(f"{path} · slide", "no spot in pixels", "a spot file", "give it as `positions:`")
            return rows, places, places, self.pitch_um if self.um_per_unit is None else self.um_per_unit
        where = str(self.positions)
        spots = read_frame(self.positions)
        need_columns(spots, ("x", "y", "pixel_x", "pixel_y"), where)
        if "selected" in spots:
            spots = spots[spots["selected"] == 1]
        array = np.column_stack([numbers(spots[c], where) for c in ("x", "y")])
        xy = np.column_stack([numbers(spots[c], where) for c in ("pixel_x", "pixel_y")])
        _check_finite(array, where)
        finite = np.isfinite(xy).all(axis=1)
        places = array[finite] * self.pitch_um
        by_array = partial(um_per_unit_of_array, places, xy[finite], where)
        scale = given_or(self.um_per_unit, by_array, "the array of the spots", where)
        return _named(array), array, xy, stated_um_per_unit(scale, xy, where)


def _places(rows: pd.Series, path: Path) -> np.ndarray:
    parts = rows.str.extract(_PLACE)
    bad = parts.isna().any(axis=1)
    if bad.any():
        found = f"{bad.sum():,} rows that are not, first {rows[bad].iloc[0]!r}"
        raise ReadError(str(path), found, "rows named <x>x<y>", "is this a count table of Spatial Transcriptomics?")
    return parts.to_numpy(dtype=np.float64)


def _checked_coordinates(path: Path, places: np.ndarray, rows: pd.Series) -> np.ndarray:
    frame = read_frame(path, header=False)
    if frame.shape != (len(places), 2):
        raise ReadError(str(path), f"{frame.shape[0]:,} × {frame.shape[1]} values", f"x, y of {len(places):,} rows")
    found = np.column_stack([numbers(frame[c], str(path)) for c in frame.columns])
    off = np.abs(found - places).max(axis=1) > NAME_TOLERANCE
    if off.any():
        first = int(np.flatnonzero(off)[0])
        there = f"{off.sum():,} of {len(off):,} rows elsewhere, first {rows[first]!r} at {found[first].tolist()}"
        raise ReadError(str(path), there, "the places in the rows' names", "are the rows in another order?")
    return found


def _named(array: np.ndarray) -> pd.Series:
    whole = np.rint(array).astype(int)
    return pd.Series([f"{x}x{y}" for x, y in whole], dtype=object)


def _check_finite(array: np.ndarray, where: str) -> None:
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any():
        raise ReadError(where, f"{bad.sum():,} rows without x or y, first row {np.flatnonzero(bad)[0] + 1}", "both")


def _labels(path: Path, barcodes: pd.Series) -> np.ndarray:
    """Return the label of each of `barcodes`, None where there is none."""
    frame = read_frame(path)
    need_columns(frame, ("x", "y", names.LABEL), str(path))
    array = np.column_stack([numbers(frame[c], str(path)) for c in ("x", "y")])
    placed = np.isfinite(array).all(axis=1)
    keys = _named(array[placed])
    labels = pd.Series(frame[names.LABEL].to_numpy()[placed], index=keys)
    clash = labels.groupby(level=0).nunique() > 1
    if clash.any():
        raise ReadError(
            str(path), f"{clash.sum():,} spots with two labels, first {clash.index[clash][0]!r}", "one each"
        )
    if not placed.all():
        log.info("%s: %s rows without a place are left out", path, f"{(~placed).sum():,}")
    return join_labels(labels[~labels.index.duplicated()], pd.Index(barcodes), path, names.PATCH)
