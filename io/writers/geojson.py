"""GeoJSON for QuPath: cells as points, patches and regions as outlines, niches as classes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aivc_graph import names
from aivc_graph.errors import ConfigError
from aivc_graph.io.graph_tables import annotation
from aivc_graph.io.staging import file_names, staged
from aivc_graph.io.writing import WRITERS
from aivc_graph.tissue.doubt import doubt
from aivc_graph.tissue.frame import Matrix, apply_affine, scale_affine

_OBJECT = {names.CELL: "detection", names.PATCH: "tile", names.REGION: "annotation"}
_CLASS_COLUMNS = ("niche", names.LABEL)
_CORNERS = 24
# Eight colours that stay apart for colour-blind eyes (Okabe & Ito 2008), repeated where there are more classes.
_COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (110, 110, 110),
)
_MPP_COLUMN = "um_per_pixel"


@WRITERS.register("geojson", endings=(".geojson", ".json"))
def write_geojson(graph: Any, path: Path, *, um_per_pixel: float | None = None) -> Path:
    """Write each section as ``<section>.geojson`` into the folder `path`, or the only section to a ``.geojson`` file.

    One feature a node: a cell is a point, a patch a circle of its diameter, a region a square. The class is the column
    ``niche`` (or ``label``); numeric columns are measurements, the others stand in the metadata.

    Parameters
    ----------
    um_per_pixel
        Pixel size [µm] of the slide the features are laid over, whose corner is the section's origin; coordinates are
        then slide pixels, as QuPath wants them. By default the frame of the section's own slide (its column
        ``slide_affine``) or its column ``um_per_pixel``; without any, microns, which is told.

    Raises
    ------
    ConfigError
        If a file is asked for and the graph has several sections.
    StoreError
        If the disk refuses; what was there before is intact.

    Examples
    --------
    >>> write_geojson(graph, Path("out/A1.geojson"), um_per_pixel=0.5)  # doctest: +SKIP
    """
    sections = graph[names.SECTION].obs
    one_file = path.suffix in (".geojson", ".json")
    if one_file and len(sections) != 1:
        found = f"one file for {len(sections)} sections"
        raise ConfigError(
            str(path), found, "one file a section, as QuPath has one project entry a slide", "give a folder"
        )
    for row, name in enumerate(file_names(map(str, sections.index))):
        to_um = scale_affine(um_per_pixel) if um_per_pixel else _slide_to_um(sections.iloc[row])
        if to_um is None:
            mend = "give the pixel size by `um_per_pixel`, or scale them by it in QuPath"
            doubt(
                f"{sections.index[row]} · GeoJSON", "no slide", "the slide whose pixels these are", f"microns: {mend}"
            )
        pixel = np.asarray(np.linalg.inv(scale_affine(1.0) if to_um is None else to_um))
        _write_section(graph, row, pixel, path if one_file else path / f"{name}.geojson")
    return path


def _slide_to_um(section: pd.Series) -> Matrix | None:
    """Return the ``(3, 3)`` affine from the pixels of a section's slide to microns, if it is known."""
    affine, mpp = (section.get(name) for name in (names.SLIDE_AFFINE, _MPP_COLUMN))
    if isinstance(affine, str):
        return np.vstack([np.reshape(json.loads(affine), (2, 3)), [0.0, 0.0, 1.0]])
    return None if mpp is None or pd.isna(mpp) else scale_affine(float(mpp))


def _write_section(graph: Any, row: int, pixel: Matrix, path: Path) -> None:
    with staged(path) as beside, beside.open("w", encoding="utf-8") as out:
        out.write('{"type": "FeatureCollection", "features": [\n')
        for number, feature in enumerate(_features(graph, row, pixel)):
            out.write((",\n" if number else "") + json.dumps(feature, allow_nan=False))
        out.write("\n]}\n")


def _features(graph: Any, row: int, pixel: Matrix) -> Iterator[dict[str, Any]]:
    """Yield the nodes of a section, coarse levels first, so that fine ones lie on top."""
    for level in reversed(graph.levels):
        table = annotation(graph, level)
        colours = _palette(table)
        rows = np.flatnonzero(graph[level].section_index.numpy() == row)
        pos = apply_affine(graph[level].pos.numpy()[rows], pixel)
        size = graph[level].size_um.numpy().astype(np.float64)[rows] * np.sqrt(abs(np.linalg.det(pixel[:2, :2])))
        chosen = table.iloc[rows]
        values = chosen.itertuples(index=False, name=None)
        for node, facts, centre, width in zip(chosen.index, values, pos, size, strict=True):
            yield {
                "type": "Feature",
                "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{level} {node}")),
                "geometry": _geometry(level, centre, width),
                "properties": _properties(level, dict(zip(table.columns, facts, strict=True)), colours),
            }


def _geometry(level: str, centre: np.ndarray, width: float) -> dict[str, Any]:
    if level == names.CELL:
        return {"type": "Point", "coordinates": centre.round(3).tolist()}
    turns = np.arange(4) / 4 + 1 / 8 if level == names.REGION else np.arange(_CORNERS) / _CORNERS
    reach = width / np.sqrt(2) if level == names.REGION else width / 2
    corners = centre + reach * np.column_stack([np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)])
    ring = corners.round(3).tolist()
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}


def _properties(level: str, facts: dict[str, Any], colours: dict[str, tuple[int, int, int]]) -> dict[str, Any]:
    numbers, words = {}, {"level": level}
    for key, value in facts.items():
        if value is None or pd.isna(value):
            continue
        if isinstance(value, (bool, np.bool_, int, float, np.number)):
            if np.isfinite(float(value)):
                numbers[str(key)] = float(value)
        else:
            words[str(key)] = str(value)
    properties: dict[str, Any] = {"objectType": _OBJECT[level], "name": words.pop(names.BARCODE, "")}
    kind = next((words[column] for column in _CLASS_COLUMNS if column in words), None)
    if kind is not None:
        properties["classification"] = {"name": kind, "color": list(colours[kind])}
    return {**properties, "measurements": numbers, "metadata": words}


def _palette(table: pd.DataFrame) -> dict[str, tuple[int, int, int]]:
    """Return a colour for each class of a level; the same classes always get the same colours."""
    kinds = sorted(
        {str(kind) for column in _CLASS_COLUMNS if column in table for kind in table[column].dropna().unique()}
    )
    return {kind: _COLOURS[i % len(_COLOURS)] for i, kind in enumerate(kinds)}
