"""A section that was read from a delivery of several: of what lies beside its nodes only its own part stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from aivc_graph import names
from aivc_graph.tissue.doubt import doubt
from aivc_graph.tissue.frame import Matrix, affine_of, apply_affine, positions_um
from aivc_graph.tissue.section import add_slide, add_transcripts, metadata_of

MARGIN_UM = 100.0


def cut_to_nodes(section: Any) -> None:
    """Keep of slides what lies within 100 µm of the box around the section's nodes, and its own transcripts.

    Those are the transcripts of its cells, and those of no cell within that box. A slide that is not placed cannot be
    cut, which is doubted. Nothing is read for it: pictures and transcripts stay lazy.
    """
    placed = [level for level in names.LEVELS if level in section.shapes and affine_of(section, level) is not None]
    if not placed:
        return
    xy = np.concatenate([positions_um(section, level) for level in placed])
    box = np.stack([xy.min(axis=0) - MARGIN_UM, xy.max(axis=0) + MARGIN_UM])
    for name in list(section.images):
        _cut_slide(section, name, box)
    if names.TRANSCRIPTS in section.points:
        table, affine = section.points[names.TRANSCRIPTS], affine_of(section, names.TRANSCRIPTS)
        own = section.shapes[names.CELL].index if names.CELL in section.shapes else pd.Index([])
        if affine is not None:
            add_transcripts(section, table.map_partitions(_own, own, box, affine), affine)


def _cut_slide(section: Any, name: str, box: Matrix) -> None:
    affine, image = affine_of(section, name), section.images[name]
    if affine is None:
        where, mend = f"{metadata_of(section)['section']} · {name}", "place it, or give each section its own picture"
        doubt(where, "a picture that is not placed, and so goes whole with each section", "its part of it", mend)
        return
    size = np.array(image.shape[:0:-1])
    corners = np.array([[x, y] for x in box[:, 0] for y in box[:, 1]])
    pixels = apply_affine(corners, np.asarray(np.linalg.inv(affine)))
    low, high = np.floor(pixels.min(axis=0)).clip(0, size), np.ceil(pixels.max(axis=0)).clip(0, size)
    if (high > low).all():
        (left, top), (right, bottom) = low.astype(int), high.astype(int)
        moved = affine @ np.array([[1.0, 0, left], [0, 1.0, top], [0, 0, 1.0]])
        channels = [str(one) for one in image.coords["c"].to_numpy()]
        add_slide(section, image.data[:, top:bottom, left:right], moved, name, channels)


def _own(part: pd.DataFrame, cells: pd.Index, box: Matrix, affine: Matrix) -> pd.DataFrame:
    xy = apply_affine(part[["x", "y"]].to_numpy(), affine)
    inside = ((xy >= box[0]) & (xy <= box[1])).all(axis=1)
    if "cell" not in part:
        return part[inside]
    cell = part["cell"].astype(str)
    return part[cell.isin(cells) | ((cell == "") & inside)]
