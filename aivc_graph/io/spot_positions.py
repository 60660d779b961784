"""Space Ranger's list of spots in all its versions, told apart by content: header or none, text or Parquet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from aivc_graph.errors import ReadError
from aivc_graph.io.tables import column_names, numbers, read_frame

POSITION_COLUMNS = ("barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres")


def read_spot_positions(path: Path) -> pd.DataFrame:
    """Return the spots of a Space Ranger run, on tissue or not, with the columns `POSITION_COLUMNS`.

    Version 1 wrote no header, version 2 one, Visium HD a Parquet file; the ending of the name decides nothing.

    Raises
    ------
    ReadError
        Columns of no known version; rows or columns that are no numbers; an ``in_tissue`` that is neither 0 nor 1.
    """
    first = column_names(path)
    header = POSITION_COLUMNS[0] in first
    frame = read_frame(path, header=header)
    if not header and len(first) == len(POSITION_COLUMNS) and first[1] in ("0", "1"):
        frame = frame.set_axis(pd.Index(POSITION_COLUMNS), axis=1)
    if not set(POSITION_COLUMNS) <= set(frame.columns):
        expected = f"{', '.join(POSITION_COLUMNS)} (a header, or six fields in this order)"
        raise ReadError(
            str(path), f"columns {', '.join(map(str, first[:8]))}", expected, "is this Space Ranger's list?"
        )
    spots = frame[list(POSITION_COLUMNS)].copy()
    spots["barcode"] = spots["barcode"].astype(str)
    for column in POSITION_COLUMNS[1:]:
        spots[column] = numbers(spots[column], str(path))
    if not spots["in_tissue"].isin([0, 1]).all():
        raise ReadError(f"{path} · in_tissue", f"{np.unique(spots['in_tissue'])[:5]}", "0 or 1")
    return spots.astype({"in_tissue": bool})
