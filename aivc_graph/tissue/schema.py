"""Check a section against the rules every later step relies on; all faults at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import AivcError, Faults, TissueError
from aivc_graph.tissue.frame import affine_of, is_dissociated, native_positions, positions_um
from aivc_graph.tissue.section import metadata_of

SPACING_UM = (2.0, 250.0)
COUNT_MODALITIES = (names.RNA, names.ADT, names.ATAC)
# Natural logarithms of a cell's molecules end well below; what goes beyond is no logarithm.
MOST_LOG = 25.0


def check_section(section: Any) -> None:
    """Raise one `TissueError` that lists every fault of `section`; return nothing if it is sound.

    Checked: metadata; unique barcodes; finite positions; a transform to microns for every level; median distance to the
    nearest node in 2–250 µm (a 2 µm bin … a 200 µm Spatial Transcriptomics pitch), which catches pixels taken for
    microns; counts that are finite, non-negative integers; logarithms and effects that could be some. Cells of a
    dissociated section have no place, and nothing beside them has.
    """
    where = metadata_of(section)["section"]
    faults = Faults(TissueError)
    levels = [level for level in names.LEVELS if level in section.shapes]
    if not levels and names.SLIDE not in section.images:
        faults.add(
            where, "neither cells, nor patches, nor a slide", "at least one of them", "check what the reader was given"
        )
    if is_dissociated(section):
        _check_dissociated(section, where, faults)
    else:
        for level in levels:
            _check_level(section, level, f"{where} · {level}", faults)
    for table_key in section.tables:
        level, _, modality = table_key.partition("_")
        if modality in COUNT_MODALITIES:
            check_counts(section.tables[table_key], f"{where} · table {table_key!r}", faults)
        elif modality in (names.LOG_EXPRESSION, names.EFFECT, names.INTENSITY):
            check_measured(section.tables[table_key], modality, f"{where} · table {table_key!r}", faults)
    faults.raise_if_any()


def check_counts(table: Any, where: str, faults: Faults, mend: str = "give raw counts") -> None:
    """Add a fault a kind of bad count (NaN or infinite, negative, not whole), with the first gene and barcode.

    `mend` says where raw counts may be found instead.
    """
    values = table.X.data if sparse.issparse(table.X) else np.asarray(table.X)
    tests = (
        (~np.isfinite(values), "values that are NaN or infinite", "finite counts", "drop or mend these entries"),
        (values < 0, "negative values", "counts ≥ 0", mend),
        (
            np.isfinite(values) & (values != np.floor(values)),
            "values that are not whole",
            "raw counts",
            mend,
        ),
    )
    for bad, found, expected, how in tests:
        if bad.any():
            row, column = _first_entry(table.X, bad)
            place = f"first in {table.obs_names[row]!r}, {table.var_names[column]!r}"
            faults.add(where, f"{int(bad.sum()):,} {found}, {place}", expected, how)


def check_measured(table: Any, modality: str, where: str, faults: Faults) -> None:
    """Add a fault a kind of bad value in logarithms, effects or intensities, with the first gene and barcode."""
    values = table.X.data if sparse.issparse(table.X) else np.asarray(table.X)
    mend = "drop or mend these entries"
    tests = [(np.isinf(values), "values that are infinite", "finite values", mend)]
    if modality == names.LOG_EXPRESSION:
        effects = "are they effects, or scaled? then set `values: effect`"
        tests = [
            (~np.isfinite(values), "values that are NaN or infinite", "finite logarithms", mend),
            (values < 0, "negative values", "logarithms ≥ 0", effects),
            (values > MOST_LOG, f"values above {MOST_LOG:g}", "logarithms", "of counts leave out `values: log`"),
        ]
        if values.size and np.isfinite(values).all() and (values == np.floor(values)).all():
            faults.add(where, "whole numbers only", "logarithms", "of counts leave out `values: log`")
    elif modality == names.INTENSITY:
        tests = [(~np.isfinite(values), "values that are NaN or infinite", "finite intensities", mend)]
    elif not np.isfinite(values).any():
        faults.add(where, "no value at all", "some effects", "check which matrix or `layer:` was read")
    for bad, found, expected, how in tests:
        if bad.any():
            row, column = _first_entry(table.X, bad)
            place = f"first in {table.obs_names[row]!r}, {table.var_names[column]!r}"
            faults.add(where, f"{int(bad.sum()):,} {found}, {place}", expected, how)


def spacing_um(xy_um: np.ndarray) -> float:
    """Return the median distance [µm] of a node to its nearest other node; NaN below two nodes."""
    from scipy.spatial import cKDTree

    if len(xy_um) < 2:
        return float("nan")
    return float(np.median(cKDTree(xy_um).query(xy_um, k=2)[0][:, 1]))


def describe_section(section: Any) -> dict[str, Any]:
    """Return what `aivc inspect` prints: metadata, nodes, observations, slides, placement."""
    levels = {level: section.shapes[level] for level in names.LEVELS if level in section.shapes}
    return {
        "kind": "section",
        **metadata_of(section),
        "levels": {level: _describe_level(section, level) for level in levels},
        "observations": {key: {"rows": t.n_obs, "features": t.n_vars} for key, t in section.tables.items()},
        "slides": {name: _describe_slide(section, name) for name in section.images},
        "transcripts": len(section.points[names.TRANSCRIPTS]) if names.TRANSCRIPTS in section.points else 0,
    }


def _check_dissociated(section: Any, where: str, faults: Faults) -> None:
    index = section.shapes[names.CELL].index if names.CELL in section.shapes else pd.Index([])
    if index.has_duplicates:
        faults.add(where, f"duplicate barcodes, first {index[index.duplicated()][0]!r}", "unique barcodes")
    placed = [*(level for level in section.shapes if level != names.CELL), *section.images, *section.points]
    if placed or names.CELL not in section.shapes:
        found = f"{', '.join(map(repr, placed))} in a dissociated section" if placed else "a dissociated section"
        faults.add(where, found, "cells alone", "give tissue and dissociated cells as two sections")


def _check_level(section: Any, level: str, where: str, faults: Faults) -> None:
    index = section.shapes[level].index
    if index.has_duplicates:
        faults.add(where, f"duplicate barcodes, first {index[index.duplicated()][0]!r}", "unique barcodes")
    if not np.isfinite(native_positions(section, level)).all():
        faults.add(where, "positions that are NaN or infinite", "finite positions")
        return
    if affine_of(section, level) is None:
        faults.add(where, "no transform to microns", "a pixel size or a registration", "give `um_per_unit` in the YAML")
        return
    # Regions are windows of our own, as coarse as the user wants them.
    spacing = float("nan") if level == names.REGION else spacing_um(positions_um(section, level))
    if not np.isnan(spacing) and not SPACING_UM[0] * 0.95 <= spacing <= SPACING_UM[1]:
        mend = "are the positions in pixels? give the right `um_per_unit`"
        if spacing < SPACING_UM[0]:
            mend += (
                "; or do several sections lie on top of each other? read one at a time, or part them by `sections_by:`"
            )
        found, expected = f"a median nearest-neighbour distance of {spacing:.3g} µm", "{:g}–{:g} µm".format(*SPACING_UM)
        faults.add(where, found, expected, mend)


def _describe_level(section: Any, level: str) -> dict[str, Any]:
    if is_dissociated(section):
        return {"nodes": len(section.shapes[level]), "placed": "dissociated, no positions"}
    try:
        xy = positions_um(section, level)
    except AivcError:
        return {"nodes": len(section.shapes[level]), "placed": False}
    outlines = names.outlines_name(level)
    return {
        "nodes": len(xy),
        **({"outlines": len(section.shapes[outlines])} if outlines in section.shapes else {}),
        "placed": True,
        "spacing_um": round(spacing_um(xy), 2),
        "extent_um": [round(float(v), 1) for v in np.ptp(xy, axis=0)],
    }


def _describe_slide(section: Any, name: str) -> dict[str, Any]:
    image, affine = section.images[name], affine_of(section, name)
    mpp = None if affine is None else round(float(np.sqrt(abs(np.linalg.det(affine[:2, :2])))), 4)
    return {"shape": dict(zip(image.dims, map(int, image.shape), strict=True)), "um_per_pixel": mpp}


def _first_entry(matrix: Any, bad: np.ndarray) -> tuple[int, int]:
    if not sparse.issparse(matrix):
        row, column = np.argwhere(bad)[0]
        return int(row), int(column)
    coo = matrix.tocoo() if matrix.format == "coo" else matrix.tocsr().tocoo()
    entry = int(np.flatnonzero(bad)[0])
    return int(coo.row[entry]), int(coo.col[entry])
