"""Tables of segmented cells and their mean intensities: which columns are places, names, shapes and markers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from aivc_graph.errors import ReadError
from aivc_graph.io.intake import annotation_names
from aivc_graph.io.pixel_size import stated_mpp
from aivc_graph.io.tables import column_names, first_lines, is_number, need_columns, read_frame
from aivc_graph.tissue.doubt import doubt

# x and y by MCMICRO, cytomapper and imcRtools, steinbock, CODEX, CellProfiler.
CENTRES = (
    ("X_centroid", "Y_centroid"),
    ("Pos_X", "Pos_Y"),
    ("centroid-1", "centroid-0"),
    ("X:X", "Y:Y"),
    ("Location_Center_X", "Location_Center_Y"),
    ("AreaShape_Center_X", "AreaShape_Center_Y"),
)
CELLS = ("CellID", "Object", "ObjectNumber", "CellNb", "cell_id:cell_id", "cell_id", "cell", "label")
IMAGES = (
    "Image",
    "image",
    "ImageName",
    "imageID",
    "ImageNumber",
    "ImageNb",
    "sample_id",
    "SampleID",
    "ROI",
    "core",
    "fov",
)
AREAS = ("Area", "area", "AreaShape_Area", "size:size")
QUANTIFICATION, MARKERS, REGISTRATION = "quantification", "markers.csv", "registration"
INTENSITIES, SHAPES = "intensities", "regionprops"
_SHAPE = re.compile(
    r"(?i)^(?:area\w*|size:size|(?:axis_)?(?:major|minor)_?(?:axis)?_?length|eccentricity|solidity|extent|orientation|perimeter"
    r"|(?:row|column)_centroid|[xyz]_centroid|centroid-\d|bbox-\d|pos_[xyz]|[xyz]:[xyz]|tile_nr:tile_nr|euler_?number|convex\w*"
    r"|tile[ _][a-z]+|equivalent_diameter\w*|feret\w*|(?:width|height)(?:_px)?|areashape_.*|location_.*|neighbors_.*"
    r"|number_.*)$"
)
_LEAST_MARKERS = 2
_TABLE = ".csv"


def is_intensity_table(path: Path) -> bool:
    """Say whether a file is a table of cells with a vendor's names of places, and numbers beside them."""
    header, *rows = first_lines(path) or [[]]
    if not rows or not any(set(pair) <= set(header) for pair in CENTRES):
        return False
    values = dict(zip(header, rows[0], strict=False))
    return sum(is_number(values.get(name, "")) for name in marker_columns(header)) >= _LEAST_MARKERS


def is_intensity_folder(path: Path) -> bool:
    """Say whether a folder is the output of MCMICRO or of steinbock."""
    tables = _tables(path / QUANTIFICATION)
    steinbock = bool(_tables(path / INTENSITIES)) and bool(_tables(path / SHAPES))
    return steinbock or any(is_intensity_table(table) for table in tables[:_LEAST_MARKERS])


def read_intensities(path: Path) -> pd.DataFrame:
    """Return a table, or those of a folder one below the other with their image in the column ``image``."""
    text = (*CELLS, *IMAGES)
    if path.is_file():
        return read_frame(path, text=text)
    parts: list[pd.DataFrame] = []
    for table in _tables(path / QUANTIFICATION) or _tables(path / INTENSITIES):
        part = read_frame(table, text=text)
        if table.parent.name == INTENSITIES:
            part = _with_shapes(part, path / SHAPES / table.name)
        part = part.assign(image=table.name.removesuffix(_TABLE))
        parts.append(part)
        if other := sorted(map(str, set(part) ^ set(parts[0]))):
            found = f"other columns than in {parts[0]['image'].iloc[0]}: {', '.join(other[:5])}"
            raise ReadError(str(table), found, "the same markers in every image", "give those of one panel at a time")
    return pd.concat(parts, ignore_index=True)


def stated_um_per_pixel(path: Path) -> float | None:
    """Return the pixel size [µm] of the picture that MCMICRO measured, if it is there and states it."""
    from tifffile import TiffFile

    for picture in sorted((path / REGISTRATION).glob("*.ome.tif*")) if path.is_dir() else ():
        try:
            with TiffFile(picture) as tiff:
                return stated_mpp(tiff)
        except ReadError:
            raise
        except Exception as error:  # tifffile raises whatever the damage leads to
            doubt(str(picture), f"a damaged TIFF ({error})", "the pixel size of the cells", "give it as `um_per_unit:`")
            return None
    return None


def marker_columns(columns: Iterable[str]) -> list[str]:
    """Return which of `columns` can be markers: neither places, names, images, shapes nor plain annotation."""
    names = list(map(str, columns))
    plain = annotation_names(pd.Index(names))
    known = {"", *CELLS, *IMAGES, *AREAS, *(axis for pair in CENTRES for axis in pair)}
    return [
        name
        for name, told in zip(names, plain, strict=True)
        if name not in known and not told and not _SHAPE.match(name)
    ]


def layers_of_markers(markers: list[str]) -> dict[str, dict[str, str]]:
    """Return layers of the same markers, such as ``counts_CD8`` and ``exprs_CD8``: by layer, marker → column."""
    for part in (lambda name: name.partition("_")[::2], lambda name: name.rpartition("_")[::-2]):
        found: dict[str, dict[str, str]] = {}
        for name in markers:
            layer, marker = part(name)
            if layer.isalpha() and marker:
                found.setdefault(layer, {})[marker] = name
        alike = {
            layer: columns
            for layer, columns in found.items()
            if len(columns) >= _LEAST_MARKERS and sum(set(columns) == set(other) for other in found.values()) > 1
        }
        if alike:
            return alike
    return {}


def named_markers(path: Path) -> list[str]:
    """Return the markers that MCMICRO's list names, in order; none where there is no list."""
    listed = path / MARKERS
    if not path.is_dir() or not listed.is_file() or "marker_name" not in column_names(listed):
        return []
    return list(read_frame(listed, text=("marker_name",))["marker_name"].astype(str))


def _with_shapes(intensities: pd.DataFrame, shapes: Path) -> pd.DataFrame:
    """Return intensities with the places and shapes of the same objects."""
    table = read_frame(shapes, text=CELLS)
    for frame, where in ((intensities, str(shapes.parent.parent / INTENSITIES / shapes.name)), (table, str(shapes))):
        need_columns(frame, ("Object",), where)
        if (twice := frame["Object"][frame["Object"].duplicated()]).size:
            raise ReadError(where, f"object {twice.iloc[0]!r} twice", "each once", "copy it again from its source")
    need_columns(table, ("centroid-0", "centroid-1"), str(shapes))
    joined = intensities.merge(table, on="Object", how="left")
    if len(missing := joined[joined["centroid-0"].isna()]):
        found = f"no place of {len(missing):,} of {len(joined):,} objects, first {missing['Object'].iloc[0]!r}"
        raise ReadError(str(shapes), found, "one of each", "are both of the same image?")
    return joined


def _tables(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.name.endswith(_TABLE) and path.is_file())
    except OSError:
        return []
