"""Files of embeddings as slide tools and foundation models leave them: values, and whose or where each row is."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aivc_graph.errors import ReadError, unknown_name
from aivc_graph.io.anndata_rows import open_anndata
from aivc_graph.io.decode_budget import check_unpacked
from aivc_graph.io.h5ad_file import check_matrices, read_anndata
from aivc_graph.io.hdf5_guard import check_hdf5
from aivc_graph.io.tables import BARCODE_NAMES, POSITION_NAMES, need_columns, numbers, read_frame
from aivc_graph.io.zarr_safety import check_zarr_folder
from aivc_graph.tissue.naming import names_of

VALUES = ("features", "embeddings", "embedding")
BARCODES = ("barcode", "barcodes", "spot_id", "cell_id")
COORDS = ("coords", "coordinates", "spatial")
HDF5, ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
FORMATS = "HDF5 (CLAM, HEST, .h5ad), Zarr, .npz, Parquet or CSV"


@dataclass(frozen=True)
class Embeddings:
    """Rows of embeddings.

    Parameters
    ----------
    values
        (row, feature), float32.
    features
        Name of each feature (feature,).
    barcode, xy
        Whose row it is (row,), and where (row, 2) in the file's own unit; None where the file does not say.
    tile
        Edge of the tiles whose upper left corners `xy` are, in the same unit; 0 where they are centres.
    section
        The section of each row (row,), where the file holds several.
    """

    values: NDArray[np.float32]
    features: tuple[str, ...]
    barcode: NDArray[np.str_] | None = None
    xy: NDArray[np.float64] | None = None
    tile: float = 0.0
    section: NDArray[np.str_] | None = None

    def of(self, section: str) -> Embeddings:
        """Return the rows of one section; all, where the file holds one."""
        if self.section is None:
            return self
        rows = self.section == section
        barcode = None if self.barcode is None else self.barcode[rows]
        xy = None if self.xy is None else self.xy[rows]
        return replace(self, values=self.values[rows], barcode=barcode, xy=xy, section=self.section[rows])


def read_embeddings(path: Path, key: str | None = None, section_by: str | None = None) -> Embeddings:
    """Return the embeddings in a file, whose kind is told by content.

    Parameters
    ----------
    path
        ``.h5`` of CLAM (``features``, ``coords``) or HEST (``embeddings``, ``barcode``, ``coords``), Zarr or ``.npz``
        of arrays named alike, ``.h5ad`` or Zarr of an AnnData, a Parquet or CSV table with a column of barcodes, or of
        x and y, and numbers in all others.
    key
        Array of the values; of an AnnData a key of ``obsm``, by default ``X``.
    section_by
        Array or column that holds the section of each row.

    Raises
    ------
    ReadError
        No such file, none of these, damaged, or arrays that do not fit each other.
    """
    if not path.exists():
        raise ReadError(str(path), "no such file", FORMATS, "check the path")
    if path.is_dir():
        check_zarr_folder(path)
        return _of_zarr(path, key, section_by)
    with path.open("rb") as file:
        head = file.read(8)
    if head == HDF5:
        import h5py

        check_hdf5(path)
        with h5py.File(path) as opened:
            if not {"obs", "var"} <= set(opened):
                return _of_arrays(opened, path, key, section_by)
        return _of_anndata(read_anndata(path), path, key, section_by)
    if head[:4] == ZIP:
        return _of_npz(path, key, section_by)
    return _of_frame(read_frame(path), path, section_by)


def _of_zarr(path: Path, key: str | None, section_by: str | None) -> Embeddings:
    import zarr

    group = zarr.open_group(str(path), mode="r")
    if not {"obs", "var"} <= set(group.keys()):
        return _of_arrays(dict(group.arrays()), path, key, section_by)
    from anndata import read_zarr

    data = open_anndata(path, read_zarr)
    check_matrices(data, str(path))
    return _of_anndata(data, path, key, section_by)


def _of_npz(path: Path, key: str | None, section_by: str | None) -> Embeddings:
    try:
        with np.load(path, allow_pickle=False) as opened:
            sizes = [info.file_size for info in opened.zip.infolist()]
            check_unpacked(path, sum(sizes), path.stat().st_size)
            arrays = {name: opened[name] for name in opened.files}
    except ReadError:
        raise
    except Exception as error:  # a damaged archive, or objects, which would have to be unpickled
        found = f"an archive that cannot be read ({error})"
        raise ReadError(str(path), found, "an .npz of numbers and text") from error
    return _of_arrays(arrays, path, key, section_by)


def _of_arrays(group: Mapping[str, Any], path: Path, key: str | None, section_by: str | None) -> Embeddings:
    """Return arrays that lie side by side under the names that CLAM, HEST and their like give them."""
    there = sorted(str(name) for name in group)
    name = key or next((one for one in VALUES if one in there), "")
    if name not in there:
        wanted = name or " or ".join(VALUES)
        raise unknown_name(ReadError, f"{path} · values", "array", wanted, there)
    values = np.asarray(group[name])
    while values.ndim > 2 and values.shape[0] == 1:
        values = values[0]
    values = _numbers(values, f"{path} · {name!r}")
    barcodes = next((one for one in BARCODES if one in there), None)
    coords = next((one for one in COORDS if one in there), None)
    if section_by is not None and section_by not in there:
        raise unknown_name(ReadError, f"{path} · section", "array", section_by, there)
    return _fitting(
        str(path),
        Embeddings(
            values,
            tuple(f"embedding_{i}" for i in range(values.shape[1])),
            None if barcodes is None else _text(group[barcodes]),
            None if coords is None else _numbers(np.asarray(group[coords]), f"{path} · {coords!r}").astype(np.float64),
            0.0 if coords is None else _tile_of(getattr(group[coords], "attrs", {})),
            None if section_by is None else _text(group[section_by]),
        ),
    )


def _of_anndata(data: Any, path: Path, key: str | None, section_by: str | None) -> Embeddings:
    if key is not None and key not in data.obsm:
        raise unknown_name(ReadError, f"{path} · obsm", "embedding", key, data.obsm)
    found = data.X if key is None else data.obsm[key]
    if found is None:
        there = ", ".join(data.obsm) or "none"
        raise ReadError(str(path), "no X", "embeddings", f"name them as `key:` (obsm: {there})")
    if key is None:
        features = tuple(map(str, data.var_names))
    else:
        columns = found.columns if isinstance(found, pd.DataFrame) else range(np.shape(found)[1])
        features = tuple(f"{key}_{name}" for name in columns)
    values = _numbers(np.asarray(found.toarray() if hasattr(found, "toarray") else found), str(path))
    xy = np.asarray(data.obsm["spatial"], np.float64) if "spatial" in data.obsm else None
    section = None
    if section_by is not None:
        need_columns(data.obs, (section_by,), f"{path} · obs")
        section = names_of(data.obs[section_by]).astype(str)
    barcode = data.obs_names.to_numpy().astype(str)
    return _fitting(str(path), Embeddings(values, features, barcode, xy, 0.0, section))


def _of_frame(frame: pd.DataFrame, path: Path, section_by: str | None) -> Embeddings:
    """Return a table of which one column names the rows, or two place them, and every other number is a feature."""
    names = [name for name in (*BARCODES, *BARCODE_NAMES) if name in frame]
    pair = next((pair for pair in POSITION_NAMES if set(pair) <= set(frame.columns)), ())
    if not names and not pair and frame.dtypes.iloc[0].kind == "O":
        names = [frame.columns[0]]
    if section_by is not None:
        need_columns(frame, (section_by,), str(path))
    said = {*names[:1], *pair, section_by}
    values = frame[[name for name in frame if name not in said]]
    text = [name for name in values if values[name].dtype.kind not in "iuf"]
    if text:
        found = f"text in column {text[0]!r}"
        raise ReadError(str(path), found, "numbers beside one column of barcodes", "drop the column, or rename it")
    return _fitting(
        str(path),
        Embeddings(
            _numbers(values.to_numpy(), str(path)),
            tuple(map(str, values.columns)),
            names_of(frame[names[0]]).astype(str) if names else None,
            np.column_stack([numbers(frame[name], str(path)) for name in pair]) if pair else None,
            0.0,
            None if section_by is None else names_of(frame[section_by]).astype(str),
        ),
    )


def _fitting(where: str, found: Embeddings) -> Embeddings:
    """Return what was read if there is something of each row, and as many rows of everything."""
    rows, features = found.values.shape
    if not rows or not features:
        raise ReadError(where, f"values {found.values.shape}", "rows of embeddings")
    parts = {"barcodes": found.barcode, "coordinates": found.xy, "sections": found.section}
    for name, part in parts.items():
        if part is not None and (len(part) != rows or (name == "coordinates" and part.shape != (rows, 2))):
            raise ReadError(where, f"{name} {part.shape} beside values {found.values.shape}", "a row of each")
    if found.barcode is None and found.xy is None:
        raise ReadError(where, "rows that nothing tells apart", "barcodes or coordinates", f"add one of {BARCODES}")
    return found


def _numbers(values: NDArray[Any], where: str) -> NDArray[np.float32]:
    if values.dtype.kind not in "iuf" or values.ndim != 2:
        raise ReadError(where, f"{values.dtype} {values.shape}", "numbers (row, feature)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # what is beyond float32 becomes infinite, and is refused later
        return values.astype(np.float32)


def _text(array: Any) -> NDArray[np.str_]:
    """Return names as text (row,); HEST writes them as bytes, and as a column."""
    found: Sequence[Any] = np.asarray(array).reshape(-1).tolist()
    return np.array([one.decode() if isinstance(one, bytes) else str(one) for one in found], dtype=str)


def _tile_of(attributes: Mapping[str, Any]) -> float:
    """Return the edge of a tile at the finest level, as CLAM and TRIDENT write it beside the corners, else 0."""
    if "patch_size_level0" in attributes:
        return float(attributes["patch_size_level0"])
    if "patch_size" not in attributes:
        return 0.0
    return float(attributes["patch_size"]) * float(np.ravel(attributes.get("downsample", 1.0))[0])
