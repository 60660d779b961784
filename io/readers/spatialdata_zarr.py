"""Any SpatialData store: our own sections as they are, others by naming which element is what."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np
import pandas as pd

from aivc_graph import names
from aivc_graph.errors import Faults, ReadError, unknown_name
from aivc_graph.io.anndata_rows import layers_of, values_of
from aivc_graph.io.ground import check_one_ground, check_one_plane
from aivc_graph.io.h5ad_file import check_matrices
from aivc_graph.io.intake import add_counts, kept_rows, parted
from aivc_graph.io.lattice import check_scale
from aivc_graph.io.options import CountOptions, LayerOptions, NodeOptions, Positive, SymbolOptions
from aivc_graph.io.reading import READERS, AbstractReader
from aivc_graph.io.tables import labels_of, need_columns
from aivc_graph.io.zarr_safety import check_zarr_folder, check_zip_members
from aivc_graph.tissue.doubt import doubt
from aivc_graph.tissue.frame import Matrix, scale_affine
from aivc_graph.tissue.naming import names_of
from aivc_graph.tissue.schema import check_counts
from aivc_graph.tissue.section import (
    MIN_OVERLAP,
    add_level,
    add_observation,
    add_outlines,
    add_slide,
    add_transcripts,
    new_section,
)

# What shapes that were laid over tissue are called, rather than found in it.
_SPOTS = ("spot", "square_", "bin", "visium", "tile", "bead")
_ROOTS = ("zarr.json", ".zattrs")


@READERS.register("spatialdata", expects="a SpatialData Zarr folder")
class SpatialDataReader(NodeOptions, LayerOptions, SymbolOptions, CountOptions, AbstractReader):
    """Reads a SpatialData store; one that `aivc_graph.io.write` wrote needs no option.

    Elements are named by the options; an element kind of which the store has only one is found by itself. The store is
    checked for pickle, links and keys that leave it before anything of it is read.

    Parameters
    ----------
    coordinate_system
        Which of the store's systems holds everything; ``microns`` if there is one, or the only one.
    um_per_unit
        Microns a unit of that system; 1 for ``microns``. Unknown leaves cells, spots and slide unplaced.
    cells, spots
        Shapes that are cells, and shapes that are patches.
    table, modality
        Table that belongs to those shapes, and what it measured.
    only_in_tissue
        Leave out rows whose ``in_tissue`` is 0.
    slide, transcripts
        Image and points to take.

    See `aivc_graph.io.options` for `layer` and `symbols` of the table, `keep` and `label`, of columns of the shapes or
    of the table, `strip_suffix`, `duplicates` and `organism`.

    Raises
    ------
    ReadError
        An unsafe or damaged store, an element or system that does not exist, a choice that only the user can make.

    References
    ----------
    Marconato et al. 2024, doi:10.1038/s41592-024-02212-x (SpatialData).
    """

    coordinate_system: str | None = None
    um_per_unit: Positive | None = None
    cells: str | None = None
    spots: str | None = None
    table: str | None = None
    modality: str = names.RNA
    only_in_tissue: bool = True
    slide: str | None = None
    transcripts: str | None = None

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return any(_is_root(path / name) for name in _ROOTS)

    @classmethod
    def options_beside(cls, path: Path) -> dict[str, Any]:
        """Return which shapes are cells, or spots by their name: those that a table belongs to, or all there are."""
        check_zarr_folder(path)
        store = _open(path)
        if names.METADATA in store.attrs:
            return {}
        shapes = list(map(str, store.shapes))
        of_tables = [one for one in shapes if any(one in _regions(table) for table in store.tables.values())]
        chosen = of_tables or shapes
        if len(chosen) != 1:
            return {}
        return {"spots" if any(word in chosen[0].lower() for word in _SPOTS) else "cells": chosen[0]}

    def read(self, path: Path, section: str) -> Any:
        if path.is_file() and is_zipfile(path):
            check_zip_members(path)
            raise ReadError(str(path), "a packed store", "a folder", "unpack it first")
        check_zarr_folder(path)
        store = _open(path)
        if names.METADATA in store.attrs:
            return _own(store, path, section)
        to_um = self._frame(store, path)
        tissue = new_section(section)
        self._add_levels(tissue, store, str(path), to_um)
        slide = self._pick(store.images, self.slide, f"{path} · slide", "image")
        if slide is not None:
            add_slide(tissue, _finest(store.images[slide]), to_um(store.images[slide]))
        points = self._pick(store.points, self.transcripts, f"{path} · transcripts", "points element")
        if points is not None:
            self._add_transcripts(tissue, store.points[points], f"{path} · points {points!r}", to_um)
        return tissue

    def preview(self, path: Path) -> dict[str, Any] | None:
        if path.is_file():
            return None
        check_zarr_folder(path)
        store = _open(path)
        if names.METADATA in store.attrs or not len(store.shapes):
            return None
        kinds = ("shapes", "tables", "images", "labels", "points")
        there = {kind: sorted(map(str, getattr(store, kind))) for kind in kinds}
        needs = ["cells: or spots: which of the shapes", "um_per_unit: microns per unit of `coordinate_system:`"]
        return {"kind": "spatialdata", **there, "coordinate_systems": store.coordinate_systems, "needs": needs}

    def read_by(self, path: Path, by: tuple[str, ...]) -> dict[str, Any]:
        chosen = [one for one in (self.cells, self.spots) if one]
        if len(chosen) != 1:
            found, mend = ", ".join(chosen) or "none", "name one as `cells:` or `spots:`"
            raise ReadError(f"{path} · shapes", found, "the one whose column tells sections apart", mend)
        check_zarr_folder(path)
        store, (name,), where = _open(path), chosen, f"{path} · {chosen[0]}"
        self._pick(store.shapes, name, str(path), "shapes element")
        shapes = store.shapes[name]
        shapes.index = pd.Index(names_of(pd.Series(shapes.index)).astype(str))
        return parted(self, path, by, _columns_of(shapes, self._table(name, store, str(path), shapes.index)), where)

    def _frame(self, store: Any, path: Path) -> Any:
        """Return the function element → ``(3, 3)`` affine to microns, or `None` if the unit is not known."""
        from spatialdata.transformations import get_transformation

        system = self.coordinate_system or (names.MICRONS if names.MICRONS in store.coordinate_systems else None)
        if system is None and len(store.coordinate_systems) != 1:
            found = ", ".join(store.coordinate_systems) or "none"
            raise ReadError(f"{path} · coordinate systems", found, "one", "name it as `coordinate_system:`")
        system = system or store.coordinate_systems[0]
        if system not in store.coordinate_systems:
            raise unknown_name(ReadError, str(path), "coordinate system", system, store.coordinate_systems)
        if self.um_per_unit is not None and system == names.MICRONS:
            check_scale(self.um_per_unit, 1.0, f"the name of the system, {system!r},", str(path))
        um_per_unit = self.um_per_unit or (1.0 if system == names.MICRONS else None)

        def to_um(element: Any) -> Matrix | None:
            transforms = get_transformation(element, get_all=True)
            if um_per_unit is None or system not in transforms:
                return None
            own = np.asarray(transforms[system].to_affine_matrix(("x", "y"), ("x", "y")), dtype=np.float64)
            return scale_affine(um_per_unit) @ own

        return to_um

    def _add_levels(self, tissue: Any, store: Any, where: str, to_um: Any) -> None:
        chosen = {level: name for level, name in ((names.CELL, self.cells), (names.PATCH, self.spots)) if name}
        if not chosen and len(store.shapes) > 0 and not (self.slide or self.transcripts):
            shapes = ", ".join(store.shapes)
            raise ReadError(
                f"{where} · shapes", shapes, "to be told which are cells or spots", "set `cells:` or `spots:`"
            )
        for level, name in chosen.items():
            self._pick(store.shapes, name, where, "shapes element")
            shapes = store.shapes[name]
            shapes.index = pd.Index(names_of(pd.Series(shapes.index)).astype(str))
            table = self._table(name, store, where, shapes.index)
            columns = _columns_of(shapes, table)
            kept = kept_rows(columns, self.keep, self.only_in_tissue, f"{where} · {name}")
            left_out, shapes, columns = shapes.index[~kept], shapes[kept], columns[kept]
            if self.label is not None:
                need_columns(columns, (self.label,), f"{where} · {name}")
                columns[names.LABEL] = labels_of(columns[self.label])
            points = (shapes.geom_type == "Point").all()
            centre = shapes.geometry if points else shapes.geometry.centroid
            radius = shapes["radius"] if "radius" in shapes else np.sqrt(shapes.geometry.area / np.pi)
            xy = np.column_stack([centre.x, centre.y])
            own = [c for c in columns if c in shapes or c == names.LABEL]
            frame = to_um(shapes)
            add_level(tissue, level, shapes.index, xy, radius, frame, columns[own])
            if not points and frame is not None:
                add_outlines(tissue, level, shapes.index, shapes.geometry.to_numpy(), frame)
            check_one_ground(shapes.index, columns, xy, f"{where} · {name}")
            if points and shapes.geometry.has_z.any():
                check_one_plane(centre.z.to_numpy() * (self.um_per_unit or 1.0), f"{where} · {name}")
            if table is not None:
                self._add_table(tissue, level, table[~table.obs_names.isin(left_out)], where)

    def _table(self, shapes: str, store: Any, where: str, nodes: pd.Index) -> Any:
        """Return the rows of the table of `shapes` under the names of its nodes, `None` if it has none."""
        belonging = {key: table for key, table in store.tables.items() if shapes in _regions(table)}
        if self.table is not None and self.table not in store.tables:
            raise unknown_name(ReadError, where, "table", self.table, store.tables)
        named = self.table if self.table in belonging or not belonging else None
        key = named or self._pick(belonging, None, f"{where} · table", "table")
        if key is not None:
            return _rows_of(store.tables[key], shapes, f"{where} · table {key!r}", nodes)
        if len(store.tables):
            others = ", ".join(f"{name!r} (of {', '.join(_regions(one))})" for name, one in store.tables.items())
            doubt(f"{where} · {shapes}", f"no table that belongs to it but {others}", "counts", "name one as `table:`")
        return None

    def _add_table(self, tissue: Any, level: str, table: Any, where: str) -> None:
        if self.modality not in names.MOLECULE_OF:
            add_observation(tissue, level, self.modality, table.copy())
            return
        chosen = values_of(table, where, self.layer, self.symbols)
        faults, layers = Faults(ReadError), ", ".join(layers_of(table))
        check_counts(
            chosen, where, faults, f"name the layer that holds raw counts as `layer:` (layers: {layers or 'none here'})"
        )
        faults.raise_if_any()
        add_counts(tissue, level, chosen, where, modality=self.modality, **self.count_options)

    def _add_transcripts(self, tissue: Any, points: Any, where: str, to_um: Any) -> None:
        affine = to_um(points)
        if affine is None:
            raise ReadError(where, "a system of unknown unit", "microns per unit", "give it as `um_per_unit:`")
        keys = points.attrs.get("spatialdata_attrs", {})
        if keys.get("feature_key") not in points.columns:
            raise ReadError(where, f"columns {', '.join(points.columns)}", "a feature_key that names the gene's column")
        wanted = {"x": "x", "y": "y", keys["feature_key"]: "gene"}
        if keys.get("instance_key") in points.columns:
            wanted[keys["instance_key"]] = "cell"
        add_transcripts(tissue, points[list(wanted)].rename(columns=wanted), affine)

    @staticmethod
    def _pick(elements: Any, name: str | None, where: str, kind: str) -> str | None:
        """Return the element called `name`, or the only one, or `None` if there is none."""
        if name is not None and name not in elements:
            raise unknown_name(ReadError, where, kind, name, elements)
        if name is None and len(elements) > 1:
            option = where.rsplit(" ", 1)[-1]
            raise ReadError(where, f"{len(elements)} of them: {', '.join(elements)}", "one", f"name it as `{option}:`")
        return name or next(iter(elements), None)


def _is_root(path: Path) -> bool:
    try:
        metadata = json.loads(path.read_bytes()) if path.is_file() else {}
    except (ValueError, OSError):
        return False
    attributes = metadata.get("attributes", metadata) if isinstance(metadata, dict) else {}
    return isinstance(attributes, dict) and "spatialdata_attrs" in attributes and "encoding-type" not in attributes


def _open(path: Path) -> Any:
    from spatialdata import read_zarr
    from zarr.errors import ZarrUserWarning

    with warnings.catch_warnings():
        # Both only say that the store is an older one.
        warnings.filterwarnings("ignore", "SpatialData is not stored in the most current format", UserWarning)
        warnings.filterwarnings("ignore", "Object at .* is not recognized", ZarrUserWarning)
        try:
            store = read_zarr(path)
        except Exception as error:  # whatever the damage leads to, deep inside zarr, pyarrow or anndata
            found = f"a store that cannot be read ({type(error).__name__}: {error})"
            raise ReadError(str(path), found, mend="copy it again from its source") from error
    for name, table in store.tables.items():
        check_matrices(table, f"{path} · table {name!r}")
    return store


def _columns_of(shapes: Any, table: Any) -> pd.DataFrame:
    """Return what shapes and the table that belongs to them, if any, say of the nodes."""
    columns = pd.DataFrame(shapes.drop(columns=[c for c in ("geometry", "radius") if c in shapes]))
    return columns if table is None else columns.join(table.obs[[c for c in table.obs if c not in columns]])


def _own(store: Any, path: Path, section: str) -> Any:
    """Return a store of ours as it is; a name the caller gave replaces the section's own."""
    if section != path.name.split(".")[0]:
        store.attrs[names.METADATA] = {**store.attrs[names.METADATA], "section": section}
    return store


def _finest(image: Any) -> Any:
    """Return the pixels ``(c, y, x)`` of an image, of its finest scale if it has several."""
    if hasattr(image, "children"):
        image = next(iter(next(iter(image.children.values())).data_vars.values()))
    return image.transpose("c", "y", "x").data


def _rows_of(table: Any, shapes: str, where: str, nodes: pd.Index) -> Any:
    """Return the rows of a table that belong to `shapes`, named by their instance; of another element's, by id alone.

    Raises
    ------
    ReadError
        The table belongs to another element, and fewer than 95 % of its ids are those of `nodes`.
    """
    keys = table.uns["spatialdata_attrs"]
    regions = _regions(table)
    if shapes in regions:
        table = table[(table.obs[keys["region_key"]] == shapes).to_numpy()].copy()
    ids = pd.Index(names_of(table.obs[keys["instance_key"]]).astype(str))
    if shapes not in regions:
        share = float(ids.isin(nodes).mean()) if len(ids) else 0.0
        of = ", ".join(map(repr, regions)) or "nothing"
        if share < MIN_OVERLAP or ids.has_duplicates:
            found = f"a table of {of}, {share:.0%} of whose ids are those of {shapes!r}"
            raise ReadError(where, found, f"one of {shapes!r}", f"name the shapes that belong to {of}")
        doubt(where, f"a table of {of}", f"one of {shapes!r}", "it is joined by id, which is the same in both")
        table = table.copy()
    table.obs_names = ids
    return table


def _regions(table: Any) -> list[str]:
    regions = table.uns.get("spatialdata_attrs", {}).get("region", [])
    return [regions] if isinstance(regions, str) else list(regions)
