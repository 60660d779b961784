"""GeoJSON for QuPath: cells as outlines or points, patches and regions as outlines, niches as classes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aivc_graph import names
from aivc_graph.atomic import staged
from aivc_graph.errors import ConfigError
from aivc_graph.io.graph_tables import annotation, placed_sections
from aivc_graph.io.staging import file_names
from aivc_graph.io.writing import WRITERS
from aivc_graph.plot.palette import niche_colours, nth_colour
from aivc_graph.tissue.doubt import doubt
from aivc_graph.tissue.frame import Matrix, apply_affine, scale_affine

_OBJECT = {names.CELL: "detection", names.PATCH: "tile", names.REGION: "annotation"}
_CLASS_COLUMNS = ("niche", names.LABEL)
_CORNERS = 24
_MPP_COLUMN = "um_per_pixel"


@WRITERS.register("geojson", endings=(".geojson", ".json"))
def write_geojson(graph: Any, path: Path, *, um_per_pixel: float | None = None) -> Path:
    """Write each section as ``<section>.geojson`` into the folder `path`, or the only section to a ``.geojson`` file.

    One feature a node: its outline where the graph holds it, else a cell is a point and a patch a circle of its
    diameter; a region is a square. The class is the column
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
        If a file is asked for and the graph has several sections, or no section has positions; dissociated sections
        beside others are left out, and it is said.
    StoreError
        If the disk refuses; what was there before is intact.

    Examples
    --------
    >>> file = write_geojson(graph, Path("A1.geojson"), um_per_pixel=0.5)
    """
    sections = graph[names.SECTION].obs
    rows = placed_sections(graph, path)
    one_file = path.suffix in (".geojson", ".json")
    if one_file and len(rows) != 1:
        found = f"one file for {len(rows)} sections"
        raise ConfigError(
            str(path), found, "one file a section, as QuPath has one project entry a slide", "give a folder"
        )
    files = file_names(map(str, sections.index))
    with staged(path, drop=None if one_file else ()) as place:
        if not one_file:
            place.mkdir()
        for row in rows:
            pixel = _pixels_of(sections, row, um_per_pixel)
            _write_section(graph, row, pixel, place if one_file else place / f"{files[row]}.geojson")
    return path


def _pixels_of(sections: pd.DataFrame, row: int, um_per_pixel: float | None) -> Matrix:
    """Return the ``(3, 3)`` affine from microns to a section's pixels; microns, which is said, where none is known."""
    to_um = scale_affine(um_per_pixel) if um_per_pixel else _slide_to_um(sections.iloc[row])
    if to_um is None:
        mend = "give the pixel size by `um_per_pixel`, or scale them by it in QuPath"
        doubt(f"{sections.index[row]} · GeoJSON", "no slide", "the slide whose pixels these are", f"microns: {mend}")
    return np.asarray(np.linalg.inv(scale_affine(1.0) if to_um is None else to_um))


def _slide_to_um(section: pd.Series) -> Matrix | None:
    """Return the ``(3, 3)`` affine from the pixels of a section's slide to microns, if it is known."""
    affine, mpp = (section.get(name) for name in (names.SLIDE_AFFINE, _MPP_COLUMN))
    if isinstance(affine, str):
        return np.vstack([np.reshape(json.loads(affine), (2, 3)), [0.0, 0.0, 1.0]])
    return None if mpp is None or pd.isna(mpp) else scale_affine(float(mpp))


def _write_section(graph: Any, row: int, pixel: Matrix, path: Path) -> None:
    with path.open("w", encoding="utf-8") as out:
        out.write('{"type": "FeatureCollection", "features": [\n')
        for number, feature in enumerate(_features(graph, row, pixel)):
            out.write((",\n" if number else "") + json.dumps(feature, allow_nan=False))
        out.write("\n]}\n")


def _features(graph: Any, row: int, pixel: Matrix) -> Iterator[dict[str, Any]]:
    """Yield the nodes of a section, coarse levels first, so that fine ones lie on top."""
    for level in reversed(graph.levels):
        table = annotation(graph, level)
        colours, column = _palette(table), _class_column(table)
        rows = np.flatnonzero(graph[level].section_index.numpy() == row)
        pos = apply_affine(graph[level].pos.numpy()[rows], pixel)
        size = graph[level].size_um.numpy().astype(np.float64)[rows] * np.sqrt(abs(np.linalg.det(pixel[:2, :2])))
        chosen = table.iloc[rows]
        values = chosen.itertuples(index=False, name=None)
        rings = [apply_affine(ring, pixel) for ring in _rings(graph[level], rows)]
        for node, facts, centre, width, ring in zip(chosen.index, values, pos, size, rings, strict=True):
            yield {
                "type": "Feature",
                "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{level} {node}")),
                "geometry": _polygon(ring) if len(ring) else _geometry(level, centre, width),
                "properties": _properties(level, dict(zip(table.columns, facts, strict=True)), column, colours),
            }


def _rings(level: Any, rows: np.ndarray) -> list[np.ndarray]:
    """Return the outline ``(corner, 2)`` [µm] of some nodes of a level, empty where it is not known."""
    if names.OUTLINE_STARTS not in level:
        return [np.zeros((0, 2))] * len(rows)
    starts, corners = level[names.OUTLINE_STARTS].numpy(), level[names.OUTLINE_CORNERS].numpy()
    return [corners[starts[row] : starts[row + 1]] for row in rows]


def _polygon(corners: np.ndarray) -> dict[str, Any]:
    ring = corners.round(3).tolist()
    return {"type": "Polygon", "coordinates": [ring if ring[0] == ring[-1] else [*ring, ring[0]]]}


def _geometry(level: str, centre: np.ndarray, width: float) -> dict[str, Any]:
    if level == names.CELL:
        return {"type": "Point", "coordinates": centre.round(3).tolist()}
    turns = np.arange(4) / 4 + 1 / 8 if level == names.REGION else np.arange(_CORNERS) / _CORNERS
    reach = width / np.sqrt(2) if level == names.REGION else width / 2
    corners = centre + reach * np.column_stack([np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)])
    return _polygon(corners)


def _properties(level: str, facts: dict[str, Any], column: str | None, colours: dict[str, list[int]]) -> dict[str, Any]:
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
    if column is not None and (kind := words.get(column)) is not None:
        properties["classification"] = {"name": kind, "color": colours[kind]}
    return {**properties, "measurements": numbers, "metadata": words}


def _palette(table: pd.DataFrame) -> dict[str, list[int]]:
    """Return red, green and blue, 0–255, of each class of a level: of niches those of every other picture of them."""
    if (column := _class_column(table)) is None:
        return {}
    kinds = list(pd.Categorical(table[column]).categories.astype(str))
    colours = niche_colours(kinds) if column == _CLASS_COLUMNS[0] else map(nth_colour, range(len(kinds)))
    return {kind: [int(one[at : at + 2], 16) for at in (1, 3, 5)] for kind, one in zip(kinds, colours, strict=True)}


def _class_column(table: pd.DataFrame) -> str | None:
    return next((column for column in _CLASS_COLUMNS if column in table), None)
