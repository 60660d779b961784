"""Outlines of segmented cells as GeoJSON, one feature a cell, read feature by feature."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aivc_graph.errors import ReadError
from aivc_graph.io.decode_budget import read_bytes
from aivc_graph.io.outlines import polygons_of
from aivc_graph.tissue.naming import name_of

CELL_ID = "cell_id"
_FEATURES = re.compile(r'"features"\s*:\s*\[')
_BETWEEN = re.compile(r"[\s,]*")


def read_cell_segmentations(path: Path) -> tuple[NDArray[np.object_], pd.DataFrame]:
    """Return the outline of each cell ``(cell,)``, and what is said of it: ``cell_id`` and other properties as columns.

    An outline is its outer ring, of several parts that of the largest.

    Raises
    ------
    ReadError
        No such file, damaged or cut off, no features, a feature that is no polygon or has no ``cell_id``.
    """
    rings: list[NDArray[np.float64]] = []
    properties: list[dict[str, Any]] = []
    for number, feature in enumerate(_features(path)):
        try:
            rings.append(_ring(feature["geometry"]))
            facts = {name: _plain(value) for name, value in (feature.get("properties") or {}).items()}
            properties.append({**facts, CELL_ID: name_of(facts[CELL_ID])})
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            found = f"no outline of a cell ({type(error).__name__}: {error})"
            raise ReadError(f"{path} · feature {number + 1}", found, f"a polygon with a {CELL_ID!r}") from error
    if not rings:
        raise ReadError(str(path), "no feature", "an outline a cell", "copy it again from its source")
    number_of = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    kept, outlines = polygons_of(number_of, np.concatenate(rings))
    return outlines, pd.DataFrame(properties).iloc[kept.astype(np.int64)].reset_index(drop=True)


def _features(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the features one by one: what JSON makes of all at once takes ten times the room of the text."""
    try:
        text = read_bytes(path).decode()
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise ReadError(str(path), f"a damaged file ({error})", "GeoJSON", "copy it again from its source") from error
    start = _FEATURES.search(text)
    if start is None:
        raise ReadError(str(path), "no list of features", "a GeoJSON FeatureCollection", "copy it again")
    decoder, at = json.JSONDecoder(), start.end()
    while True:
        at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing, too
        if text[at : at + 1] == "]":
            return
        try:
            feature, at = decoder.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError) as error:
            found = f"text that breaks off or is damaged at character {at:,} of {len(text):,}"
            raise ReadError(str(path), found, "GeoJSON", "copy it again from its source") from error
        yield feature


def _ring(geometry: dict[str, Any]) -> NDArray[np.float64]:
    """Return the corners ``(corner, 2)`` of the outer ring of a polygon, or of the largest of several."""
    kind, coordinates = geometry["type"], geometry["coordinates"]
    if kind not in ("Polygon", "MultiPolygon"):
        raise ValueError(f"a {kind}")
    polygons = [coordinates] if kind == "Polygon" else coordinates
    rings = [np.asarray(polygon[0], dtype=np.float64)[:, :2] for polygon in polygons]
    return max(rings, key=_area)


def _area(ring: NDArray[np.float64]) -> float:
    x, y = ring.T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))


def _plain(value: Any) -> Any:
    """Return a property as a value of a column; of QuPath's classification its name."""
    return value.get("name") if isinstance(value, dict) else value if not isinstance(value, list) else None
