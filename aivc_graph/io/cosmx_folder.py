"""Which of the flat files of a CosMx folder is what, told by their columns; and how large its pixels are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from aivc_graph.errors import ReadError
from aivc_graph.io.tables import column_names, numbers, read_frame

COUNTS, METADATA, FIELDS, POLYGONS, MOLECULES = "exprMat", "metadata", "fov_positions", "polygons", "tx"
CELL = ("cell_ID", "cellID", "cell_id")
GLOBAL = ("CenterX_global_px", "CenterY_global_px")
LOCAL = ("CenterX_local_px", "CenterY_local_px")
_TABLE = re.compile(r"\.(?:csv|tsv|txt|parquet)(?:\.gz)?$", re.IGNORECASE)
_KIND_IN_NAME = re.compile(
    r"(?:^|[-_. ])(?:expr_?mat|metadata|fov_?positions|polygons|tx)(?:[-_]?file)?(?:\.[a-z]+)+$", re.IGNORECASE
)
_MOST_FILES, _LEAST_GENES = 200, 3


def flat_files(folder: Path) -> dict[str, dict[str, Path]]:
    """Return the flat files of each slide in `folder` by kind; slides are told apart by what their names begin with.

    A file that belongs to no slide by its name is taken for the only slide, where there is one.
    """
    found: dict[str, dict[str, list[Path]]] = {}
    for path in _tables_in(folder):
        kind = _kind_of(path)
        if kind is not None:
            found.setdefault(slide_of(path), {}).setdefault(kind, []).append(path)
    if all(sum(kind in files for files in found.values()) < 2 for kind in (COUNTS, METADATA)):
        parts: dict[str, list[Path]] = {}
        for kind, paths in (item for files in found.values() for item in files.items()):
            parts.setdefault(kind, []).extend(paths)
        name = next((name for name, files in found.items() if COUNTS in files), "")
        return {name: {kind: _named_so(paths) for kind, paths in parts.items()}} if parts else {}
    slides = {name: files for name, files in sorted(found.items()) if COUNTS in files or METADATA in files}
    return {name: {kind: _named_so(paths) for kind, paths in files.items()} for name, files in slides.items()}


def um_per_pixel(fields: Path | None) -> float | None:
    """Return the microns a pixel that the list of fields states by giving their places in both units, or `None`."""
    if fields is None:
        return None
    table = read_frame(fields)
    lower = {str(name).lower(): name for name in table.columns}
    for axis in "xy":
        px = next((lower[n] for n in (f"{axis}_global_px", f"{axis}_px") if n in lower), None)
        mm = next((lower[n] for n in (f"{axis}_global_mm", f"{axis}_mm") if n in lower), None)
        if px is None or mm is None:
            continue
        pixels, length = (numbers(table[name], str(fields)) for name in (px, mm))
        whole = np.isfinite(pixels) & np.isfinite(length)
        pixels, length = pixels[whole], length[whole]
        reach = np.ptp(pixels) if len(pixels) > 1 else 0.0
        if reach > 0:
            return float(abs(np.polyfit(pixels - pixels.mean(), length, 1)[0]) * 1000)
    return None


def cell_column(columns: Iterable[str], path: Path) -> str:
    """Return which of `columns` is the number of a cell in its field."""
    known = list(map(str, columns))
    found = next((name for name in CELL if name in known), None)
    if found is None:
        raise ReadError(str(path), f"columns {', '.join(known[:8])}", f"one of {', '.join(CELL)}")
    return found


def _tables_in(folder: Path) -> list[Path]:
    try:
        files = sorted(path for path in folder.iterdir() if _TABLE.search(path.name) and path.is_file())
    except OSError:
        return []
    return files if len(files) <= _MOST_FILES else [path for path in files if _KIND_IN_NAME.search(path.name)]


def _kind_of(path: Path) -> str | None:
    try:
        columns = column_names(path)
    except OSError:
        return None
    lower = {name.lower() for name in columns}
    if "fov" not in lower:
        return None
    if lower.isdisjoint(name.lower() for name in CELL):
        return FIELDS if any(f"x{ending}" in lower for ending in ("_global_px", "_px", "_global_mm", "_mm")) else None
    if "target" in lower:
        return MOLECULES
    if set(GLOBAL) <= set(columns) or set(LOCAL) <= set(columns):
        return METADATA
    if {"x_global_px", "y_global_px"} <= lower or {"x_local_px", "y_local_px"} <= lower:
        return POLYGONS
    return COUNTS if len(columns) >= len({"fov", "cell_ID"}) + _LEAST_GENES else None


def slide_of(path: Path) -> str:
    """Return what the name of a flat file begins with, its slide; nothing if it is not named as the vendor names it."""
    return _KIND_IN_NAME.sub("", path.name) if _KIND_IN_NAME.search(path.name) else ""


def _named_so(paths: list[Path]) -> Path:
    """Return the one that is named as the vendor does, or else the widest: others are annotation of users."""
    return max(paths, key=lambda path: (bool(_KIND_IN_NAME.search(path.name)), len(column_names(path))))
