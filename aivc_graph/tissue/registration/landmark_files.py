"""Landmarks from files: a CSV of pairs, or points that somebody put on two pictures in QuPath."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from aivc_graph.errors import Faults, RegistrationError, nearest
from aivc_graph.tissue.registration.pairs import KnownPairs

NAME, COLUMNS = "name", ("moving_x", "moving_y", "fixed_x", "fixed_y")
FEWEST, FLAT = 3, 0.02
LISTED = 5


def pairs_of_csv(path: Path) -> KnownPairs:
    """Return the pairs of a CSV with the columns ``moving_x, moving_y, fixed_x, fixed_y`` and, if known, ``name``.

    Raises
    ------
    RegistrationError
        No such file, no table, other columns, or no numbers.
    """
    import pandas as pd

    if not path.is_file():
        raise RegistrationError(str(path), "no such file", mend="check the path")
    try:
        table = pd.read_csv(path, dtype={NAME: str})
    except (ValueError, OSError) as error:  # of pandas too
        raise RegistrationError(str(path), f"no table ({error})", "a CSV of points", "copy it again") from error
    if not set(COLUMNS) <= set(table.columns):
        if str(table.columns[0]).lstrip().startswith(("{", "[")):
            mend = "give the same points on the fixed picture as `fixed_path`"
            raise RegistrationError(str(path), "GeoJSON of one picture", "a CSV, or GeoJSON of two", mend)
        found = f"columns {', '.join(map(str, table.columns[:LISTED]))}"
        raise RegistrationError(str(path), found, f"columns {', '.join(COLUMNS)}")
    try:
        pairs = KnownPairs.numbered(table[list(COLUMNS)].to_numpy(dtype=np.float64))
    except ValueError as error:
        raise RegistrationError(str(path), f"points that are no numbers ({error})", "numbers") from error
    if NAME not in table:
        return pairs
    return replace(pairs, names=tuple(table[NAME].fillna(pd.Series(pairs.names, table.index)).astype(str)))


def pairs_of_geojson(moving: Path, fixed: Path) -> KnownPairs:
    """Return the points of one name in two GeoJSON files: each in pixels of its own picture.

    Raises
    ------
    RegistrationError
        Whatever is wrong with a file; names of one of them alone; fewer than three points, or points on a line.
    """
    one, other = points_of(moving), points_of(fixed)
    faults, where = Faults(RegistrationError), f"{moving} and {fixed}"
    for path, alone in ((moving, sorted(one.keys() - other.keys())), (fixed, sorted(other.keys() - one.keys()))):
        if alone:
            found = f"{', '.join(map(repr, alone[:LISTED]))} in {path.name} alone"
            faults.add(where, found, "each point in both files", _mend(alone, set(one) ^ set(other)))
    shared = [name for name in one if name in other]
    if len(shared) < FEWEST:
        found, mend = f"{len(shared)} points in both", "mark more, far apart: about six measure their own error"
        faults.add(where, found, f"at least {FEWEST}", mend)
    faults.raise_if_any()
    pairs = KnownPairs(tuple(shared), *(np.array([points[name] for name in shared]) for points in (one, other)))
    for path, points in ((moving, pairs.moving), (fixed, pairs.fixed)):
        spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
        if spread[1] <= FLAT * spread[0]:
            mend = "mark one more, away from the line: from a line a mirrored picture cannot be told"
            faults.add(str(path), "collinear points", "points that spread over the tissue", mend)
    faults.raise_if_any()
    return pairs


def _mend(alone: list[str], others: set[str]) -> str:
    """Say what to do of points that one file has alone: how those are spelt that the other one has."""
    alike = {name: nearest(name, sorted(others - set(alone))) for name in alone}
    spelt = ", ".join(f"{name!r} and {close!r}" for name, close in alike.items() if close)
    return f"are {spelt} the same? spell them alike" if spelt else "give it the same name in the other, or delete it"


def points_of(path: Path) -> dict[str, tuple[float, float]]:
    """Return the points ``(x, y)`` of a GeoJSON file in pixels, by name, or by class where they have no name.

    Other shapes, such as an outline of the tissue, are passed over.

    Raises
    ------
    RegistrationError
        No such file, no GeoJSON, no points; points without a name or class, or several of one.
    """
    faults = Faults(RegistrationError)
    held = [(_name_of(feature), _points_in(feature, path)) for feature in _features(path)]
    points = [(name, xy) for name, places in held for xy in places]
    if not points:
        mend = "put points on the picture (in QuPath with its points tool) and export them as GeoJSON"
        raise RegistrationError(str(path), "no point", "points", mend)
    nameless = sum(not name and len(places) == 1 for name, places in held)
    if nameless:
        faults.add(str(path), f"{nameless} points without name or class", "a name for each", "name it, or give a class")
    several = {name: len(places) for name, places in held if len(places) > 1}
    for name, n in several.items():
        mend = "start a new annotation for each: QuPath adds clicks to the last one while its multipoint tool is on"
        called = f" {name!r}" if name else ""
        faults.add(str(path), f"{n} points in one annotation{called}", "one point in each", mend)
    for name, n in Counter(name for name, _ in points if name).items():
        if n > 1 and name not in several:
            mend = "name each point, or give each a class of its own"
            faults.add(str(path), f"{n} points called {name!r}", "one of each name", mend)
    if not np.isfinite([xy for _, xy in points]).all():
        faults.add(str(path), "positions that are NaN or infinite", "finite positions", "export it again")
    faults.raise_if_any()
    return dict(points)


def _features(path: Path) -> list[dict[str, Any]]:
    """Return the features of a collection, of a bare list of them, or a single one."""
    if not path.is_file():
        raise RegistrationError(str(path), "no such file", mend="check the path")
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise RegistrationError(
            str(path), f"no JSON ({error})", "a GeoJSON file", "export it without compression"
        ) from error
    features = held.get("features", [held]) if isinstance(held, dict) else held
    if not isinstance(features, list) or not all(isinstance(one, dict) and "geometry" in one for one in features):
        raise RegistrationError(str(path), "no GeoJSON features", "a collection of features", "export it again")
    return features


def _points_in(feature: dict[str, Any], path: Path) -> list[tuple[float, float]]:
    geometry = feature["geometry"]
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind not in ("Point", "MultiPoint"):
        return []
    try:
        told = geometry["coordinates"]
        return [(float(one[0]), float(one[1])) for one in (told if kind == "MultiPoint" else [told])]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise RegistrationError(str(path), f"a {kind} without x and y", "two numbers", "export it again") from error


def _name_of(feature: dict[str, Any]) -> str:
    told = feature.get("properties") or {}
    group = told.get("classification") or {}
    group = group.get("name") or ": ".join(group.get("names", ())) if isinstance(group, dict) else group
    return str(told.get("name") or group or "")
