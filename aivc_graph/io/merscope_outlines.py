"""Outlines of MERSCOPE cells, in every plane of focus they were segmented in: Parquet, or HDF5 a field of view."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aivc_graph.errors import ReadError
from aivc_graph.io.hdf5_guard import check_hdf5
from aivc_graph.io.outlines import polygons_of
from aivc_graph.io.tables import need_columns, numbers, read_frame
from aivc_graph.tissue.naming import names_of

HDF5_FOLDER, HDF5_FILES = "cell_boundaries", "feature_data_*.hdf5"
PLANE = "ZIndex"
_GEOMETRY = ("Geometry", "geometry")
_FEATURES, _PLANE, _PARTS, _CORNERS = "featuredata", "zIndex_", "p_", "coordinates"


def merscope_outlines(path: Path) -> pd.DataFrame:
    """Return the outlines [µm] in a Parquet file or in a folder of HDF5: ``cell``, ``plane`` and ``outline``.

    Raises
    ------
    ReadError
        A damaged file, missing columns, geometry that is none.
    """
    return _of_hdf5(path) if path.is_dir() else _of_parquet(path)


def one_plane(outlines: pd.DataFrame, plane: int) -> pd.DataFrame:
    """Return one outline a cell: that in `plane`, or of a cell that is not in it, that in the plane nearest to it."""
    away = (outlines["plane"] - plane).abs()
    nearest = outlines.assign(away=away).sort_values(["away", "plane"], kind="stable")
    return nearest.drop_duplicates("cell").sort_index()


def _of_parquet(path: Path) -> pd.DataFrame:
    import shapely

    table = read_frame(path)
    name = next((name for name in _GEOMETRY if name in table), _GEOMETRY[0])
    need_columns(table, ("EntityID", PLANE, name), str(path))
    table = table[table[name].notna()]
    try:
        outlines = shapely.from_wkb(table[name].to_numpy())
    except (TypeError, shapely.errors.ShapelyError) as error:
        raise ReadError(f"{path} · {name}", f"no geometry ({error})", "outlines as WKB", "copy it again") from error
    planes = numbers(table[PLANE], str(path)).astype(np.int64)
    return _sound(pd.DataFrame({"cell": names_of(table["EntityID"]), "plane": planes, "outline": outlines}))


def _of_hdf5(folder: Path) -> pd.DataFrame:
    parts = [_of_file(path) for path in sorted(folder.glob(HDF5_FILES))]
    return _sound(pd.concat(parts, ignore_index=True))


def _of_file(path: Path) -> pd.DataFrame:
    import h5py

    check_hdf5(path)
    try:
        with h5py.File(path) as file:
            if _FEATURES not in file:
                raise ReadError(str(path), f"groups {', '.join(file) or 'none'}", _FEATURES, "copy it again")
            rings = list(_rings(file[_FEATURES]))
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise ReadError(str(path), f"damaged outlines ({error})", mend="copy it again from its source") from error
    if not rings:
        return pd.DataFrame({"cell": [], "plane": [], "outline": []})
    names, planes, corners = zip(*rings, strict=True)
    number = np.repeat(np.arange(len(rings)), [len(one) for one in corners])
    kept, outlines = polygons_of(number, np.concatenate(corners).astype(np.float64))
    row = kept.astype(np.int64)
    return pd.DataFrame({"cell": np.array(names)[row], "plane": np.array(planes)[row], "outline": outlines})


def _rings(cells: Any) -> Iterator[tuple[str, int, np.ndarray]]:
    """Yield cell, plane and corners ``(corner, 2)`` of the first part of each outline; others are specks beside it."""
    for cell in cells:
        for plane in cells[cell]:
            part = f"{plane}/{_PARTS}0/{_CORNERS}"
            if plane.startswith(_PLANE) and part in cells[cell]:
                yield cell, int(plane.removeprefix(_PLANE)), np.asarray(cells[cell][part]).reshape(-1, 2)


def _sound(outlines: pd.DataFrame) -> pd.DataFrame:
    """Return the outlines that enclose something, each one polygon: the largest of several parts."""
    import shapely

    parts, row = shapely.get_parts(outlines["outline"].to_numpy(), return_index=True)
    areas = pd.Series(shapely.area(parts), index=row)
    polygon = pd.Series(shapely.get_type_id(parts) == shapely.GeometryType.POLYGON.value, index=row)
    order = np.argsort(-areas.to_numpy(), kind="stable")
    order = order[(polygon & (areas > 0)).to_numpy()[order]]
    first = order[~pd.Index(row[order]).duplicated()]
    largest = pd.Series(parts[first], index=row[first]).sort_index()
    return outlines.iloc[largest.index].assign(outline=largest.to_numpy()).reset_index(drop=True)
