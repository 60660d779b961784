"""Make a section piece by piece: levels of nodes, observations on them, slides and transcripts.

A section is a `spatialdata.SpatialData`: shapes ``cell`` and ``patch`` (one row a node, index = barcode), one table an
observation (``patch_rna``, ``cell_protein`` …), lazily read images and transcripts. Every element keeps the vendor's
own units and carries a transform to the coordinate system ``microns``; an element without one is not placed yet.
A dissociated sample is a section whose cells have no positions: see `add_cells`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from aivc_graph import names
from aivc_graph.errors import Faults, TissueError, unknown_name
from aivc_graph.tissue.doubt import doubt
from aivc_graph.tissue.frame import Matrix, apply_affine, diameters_um, is_dissociated, place, positions_um
from aivc_graph.tissue.naming import name_of

MIN_OVERLAP = 0.95
SUFFIX = r"-\d+$"
# Outlines in other planes of focus, and coarse ones, are off by less than this.
_OFF_DIAMETERS = 2.0


def new_section(section: str, **metadata: str | float | None) -> Any:
    """Return an empty section called `section`; `metadata` holds donor, site, platform, batch and the like."""
    from spatialdata import SpatialData

    return SpatialData(attrs={names.METADATA: {"section": section, **metadata}})


def metadata_of(section: Any) -> dict[str, Any]:
    """Return the section's metadata: ``section`` and, where known, donor, site, platform, batch."""
    if names.METADATA not in section.attrs:
        raise TissueError(
            "section", f"a SpatialData without attrs[{names.METADATA!r}]", mend="read it by aivc_graph.io.read"
        )
    return section.attrs[names.METADATA]


def add_level(
    section: Any,
    level: str,
    barcodes: ArrayLike,
    xy: ArrayLike,
    radius: ArrayLike | float,
    to_um: Matrix | None,
    columns: pd.DataFrame | None = None,
) -> None:
    """Add the nodes of `level` as circles.

    Parameters
    ----------
    barcodes
        Unique names of the nodes.
    xy, radius
        Centres ``(node, 2)`` and radii in the vendor's units.
    to_um
        ``(3, 3)`` affine from those units to microns; ``None`` if unknown, to be registered later.
    columns
        Annotation a node (label, area, array position …), in the same order.

    Raises
    ------
    TissueError
        Duplicate barcodes, positions that are not finite, no node at all.
    """
    from spatialdata.models import ShapesModel

    index = pd.Index(np.asarray(barcodes).astype(str), name=names.BARCODE)
    xy = np.asarray(xy, dtype=np.float64).reshape(-1, 2)
    where = f"{metadata_of(section)['section']} · {level}"
    faults = Faults(TissueError)
    if len(index) == 0:
        faults.add(where, "no node at all", "at least one", "check the path and the filter on tissue")
    if index.has_duplicates:
        twice = index[index.duplicated()].unique()
        faults.add(
            where,
            f"{len(twice)} duplicate barcodes, first {twice[0]!r}",
            "unique barcodes",
            "add a suffix a capture area, or name by another column; drop rows that are there twice",
        )
    if not np.isfinite(xy).all():
        bad = index[~np.isfinite(xy).all(axis=1)]
        found = f"{len(bad)} positions that are NaN or infinite, first at {bad[0]!r}"
        faults.add(where, found, "finite positions", "drop or mend these rows")
    faults.raise_if_any()
    radii = np.broadcast_to(np.asarray(radius, dtype=np.float64), (len(index),))
    shapes = ShapesModel.parse(xy, geometry=0, radius=np.array(radii), index=index)
    if columns is not None:
        for name in columns.columns:
            shapes[name] = columns[name].to_numpy()
    section.shapes[level] = shapes
    _unplace(section, level)
    if to_um is not None:
        place(section, level, to_um)


def add_outlines(section: Any, level: str, barcodes: ArrayLike, polygons: ArrayLike, to_um: Matrix) -> None:
    """Add the outlines that are known of nodes of `level`, as shapes beside it; those of no node are left out.

    Parameters
    ----------
    barcodes
        Names of the nodes, each once.
    polygons
        Shapely polygons in the vendor's units, in the same order.
    to_um
        ``(3, 3)`` affine from those units to microns.

    Raises
    ------
    TissueError
        Outlines that lie elsewhere than their nodes.
    """
    import shapely
    from spatialdata.models import ShapesModel

    index = pd.Index(np.asarray(barcodes).astype(str), name=names.BARCODE)
    nodes = section.shapes[level].index.get_indexer(index)
    here = nodes >= 0
    where = f"{metadata_of(section)['section']} · {level}"
    if here.sum() < MIN_OVERLAP * len(section.shapes[level]):
        known, first = section.shapes[level].index, ", ".join(map(repr, index[:1]))
        found = f"outlines of {int(here.sum()):,} of {len(known):,} nodes, the first of {first}"
        mend = f"are both of one run? a node is called {known[0]!r}; those without count as circles"
        doubt(f"{where} · outlines", found, f"≥ {MIN_OVERLAP:.0%}", mend)
    if not here.any():
        return
    chosen = np.asarray(polygons, dtype=object)[here]
    centres = apply_affine(shapely.get_coordinates(shapely.centroid(chosen)), to_um)
    off = float(np.median(np.linalg.norm(centres - positions_um(section, level)[nodes[here]], axis=1)))
    if off > _OFF_DIAMETERS * float(np.median(diameters_um(section, level))):
        mend = "are they of these nodes, and in this unit? `outlines: false` reads without them"
        raise TissueError(where, f"outlines {off:,.4g} µm off, at the median", "outlines around their nodes", mend)
    kind, corners, offsets = shapely.to_ragged_array(chosen)
    element = names.outlines_name(level)
    section.shapes[element] = ShapesModel.parse(corners, geometry=kind.value, offsets=offsets, index=index[here])
    _unplace(section, element)
    place(section, element, to_um)


def add_cells(section: Any, barcodes: ArrayLike, columns: pd.DataFrame | None = None) -> None:
    """Add the cells of a dissociated sample: they belong to the section, have no positions and are near nobody.

    Their shapes are points at the origin that have no place in microns; `positions_um` says NaN.
    """
    barcodes = np.asarray(barcodes)
    add_level(section, names.CELL, barcodes, np.zeros((len(barcodes), 2)), 1.0, None, columns)
    metadata_of(section)[names.DISSOCIATED] = True


def add_observation(section: Any, level: str, modality: str, table: Any, *, strip_suffix: bool = False) -> None:
    """Hang an AnnData ``(node, feature)`` on a level, joined by barcode, never by row order.

    Rows without a node are left out and doubted, and nodes without a row are unmeasured; fewer than 95 % of the rows
    with a node are refused, fewer than 95 % of the nodes with a row of counts are doubted.

    Parameters
    ----------
    table
        Counts or features; ``obs_names`` are barcodes, ``var_names`` feature names.
    strip_suffix
        Cut a trailing ``-1`` (or other ``-<number>``) from the barcodes of both sides before joining.

    Raises
    ------
    TissueError
        Duplicate barcodes, also those that only a suffix told apart; fewer than 95 % of the rows having a node.
    """
    from spatialdata.models import TableModel

    nodes = section.shapes[level].index
    where = f"{metadata_of(section)['section']} · table {names.table_name(level, modality)!r}"
    if table.obs_names.has_duplicates:
        twice = table.obs_names[table.obs_names.duplicated()]
        raise TissueError(
            where,
            f"{len(twice)} duplicate barcodes, first {twice[0]!r}",
            "unique barcodes",
            "add a suffix a capture area",
        )
    if table.n_obs == 0:
        raise TissueError(where, "no row", "a row a node", "is the table whole?")
    rows = _stripped(table.obs_names, where) if strip_suffix else table.obs_names
    keys = _stripped(nodes, where) if strip_suffix else nodes
    position = pd.Index(keys).get_indexer(rows)
    found = position >= 0
    if found.mean() < MIN_OVERLAP:
        raise TissueError(
            where,
            f"{(~found).sum():,} of {len(rows):,} barcodes without a position ({found.mean():.1%} overlap)",
            f"≥ {MIN_OVERLAP:.0%} to match",
            _suffix_hint(rows, keys),
        )
    if not found.all():
        left = f"{(~found).sum():,} of {len(rows):,} barcodes without a position, such as {rows[~found][0]!r}: left out"
        doubt(where, left, "a position each", "is the list of positions whole, and of the same run?")
    measured = len(set(position[found])) / max(len(nodes), 1)
    if measured < MIN_OVERLAP and modality in names.MOLECULE_OF:
        counted = f"{round(measured * len(nodes)):,} of {len(nodes):,} {level} nodes measured, the others have no row"
        doubt(where, counted, f"≥ {MIN_OVERLAP:.0%}", "is the table whole, and of the same run as the positions?")
    joined = table[found].copy()
    joined.obs_names = nodes[position[found]]
    joined.obs = pd.DataFrame(
        {"region": pd.Categorical([level] * joined.n_obs), names.BARCODE: np.asarray(joined.obs_names, dtype=str)},
        index=joined.obs_names,
    )
    section.tables[names.table_name(level, modality)] = TableModel.parse(
        joined, region=level, region_key="region", instance_key=names.BARCODE, overwrite_metadata=True
    )


def add_slide(
    section: Any, image: Any, to_um: Matrix | None, name: str = names.SLIDE, channels: list[str] | None = None
) -> None:
    """Add a lazily read image ``(channel, y, x)`` (dask array); ``to_um`` maps pixel corners (x, y) to microns."""
    from spatialdata.models import Image2DModel

    labels = channels or (["r", "g", "b"] if image.shape[0] == 3 else [str(i) for i in range(image.shape[0])])
    section.images[name] = Image2DModel.parse(image, dims=("c", "y", "x"), c_coords=labels)
    _unplace(section, name)
    if to_um is not None:
        place(section, name, to_um)


def add_transcripts(section: Any, table: Any, to_um: Matrix) -> None:
    """Add molecules as points; `table` (pandas or dask) has ``x, y`` in vendor units, ``gene``, if known ``cell``."""
    from spatialdata.models import PointsModel

    # `sort` states that order is of no matter; without it the whole of a lazy table is read here to see its order.
    axes = {"x": "x", "y": "y"}
    section.points[names.TRANSCRIPTS] = PointsModel.parse(table, coordinates=axes, feature_key="gene", sort=True)
    _unplace(section, names.TRANSCRIPTS)
    place(section, names.TRANSCRIPTS, to_um)


def merge_sections(section: str, parts: list[Any], **metadata: str | float | None) -> Any:
    """Return one section that holds the elements of all `parts`, which share one micron frame.

    Dissociated parts, such as RNA and protein of the same cells, are joined by barcode: a cell of either is a cell of
    the section, with what was measured of it.

    Raises
    ------
    TissueError
        If two parts bring an element of the same name, or fewer than 95 % of the cells of a dissociated part are among
        those of a larger one.
    """
    parts = _join_cells(section, parts)
    whole = new_section(
        section, **{k: v for part in parts for k, v in metadata_of(part).items() if k != "section"} | metadata
    )
    for part in parts:
        for kind, name, element in part.gen_elements():
            if name in whole:
                raise TissueError(
                    section, f"two sources that both bring {name!r}", mend="drop one of them, or set its `level:`"
                )
            getattr(whole, kind)[name] = element
    return whole


def only_value(section: Any, column: str) -> str:
    """Return the one value that all nodes of a section have in a column of their annotation.

    Raises
    ------
    TissueError
        No such column, nodes without a value, or several values.
    """
    where = f"{metadata_of(section)['section']} · {column}"
    found = [shapes[column] for shapes in section.shapes.values() if column in shapes]
    if not found:
        known = sorted({str(name) for shapes in section.shapes.values() for name in shapes.columns})
        raise unknown_name(TissueError, where, "column", column, known)
    values = sorted({name_of(value) for one in found for value in one})
    if len(values) != 1 or any(one.isna().any() for one in found):
        found_values = f"{len(values)} values, such as {', '.join(map(repr, values[:3]))}"
        raise TissueError(where, found_values, "one for the section", "name this column in `sections_by:` too")
    return values[0]


def _join_cells(section: str, parts: list[Any]) -> list[Any]:
    """Return parts of which one alone brings cells, where all that do are dissociated."""
    bring = [part for part in parts if names.CELL in part.shapes]
    if len(bring) < 2 or not any(map(is_dissociated, bring)):
        return parts
    if not all(map(is_dissociated, bring)):
        mend = "say `dissociated: true` of all or none; read what belongs to placed cells by `beside:`"
        raise TissueError(section, "cells with positions in one source and without in another", "one kind", mend)
    columns = bring[0].shapes[names.CELL].drop(columns=["geometry", "radius"])
    whole = new_section(section, **{k: v for part in bring for k, v in metadata_of(part).items() if k != "section"})
    for part in bring[1:]:
        more = part.shapes[names.CELL].drop(columns=["geometry", "radius"])
        _check_overlap(section, columns.index, more.index)
        columns = columns.combine_first(more).reindex(columns.index.union(more.index, sort=False))
    add_cells(whole, columns.index, pd.DataFrame(columns))
    for part in bring:
        for key, table in part.tables.items():
            if key in whole.tables:
                raise TissueError(section, f"two sources that both bring {key!r}", mend="set the `modality:` of one")
            whole.tables[key] = table
    return [whole, *(part for part in parts if names.CELL not in part.shapes)]


def _check_overlap(section: str, cells: pd.Index, more: pd.Index) -> None:
    rows, keys = (cells, more) if len(cells) <= len(more) else (more, cells)
    share = float(rows.isin(keys).mean())
    if share < MIN_OVERLAP:
        found = f"{share:.1%} of {len(rows):,} barcodes of one source in the other"
        mend = f"compare {rows[0]!r} with {keys[0]!r}: a suffix, or another sample?"
        raise TissueError(section, found, f"≥ {MIN_OVERLAP:.0%} to match", mend)


def _unplace(section: Any, element: str) -> None:
    from spatialdata.transformations import Identity, set_transformation

    set_transformation(section[element], {"vendor": Identity()}, set_all=True)


def _stripped(barcodes: pd.Index, where: str) -> pd.Index:
    """Return barcodes without their suffix; refuse those of several libraries, which only it tells apart."""
    bare = barcodes.str.replace(SUFFIX, "", regex=True)
    if bare.has_duplicates:
        ends = ", ".join(sorted(set(barcodes.str.extract(f"({SUFFIX})")[0].dropna())))
        shared = len(bare[bare.duplicated()].unique())
        mend = "keep the rows of one library (of Space Ranger's aggregated matrix by `library:`)"
        raise TissueError(where, f"libraries ({ends}) that share {shared:,} barcodes", "one library a section", mend)
    return bare


def _suffix_hint(rows: pd.Index, keys: pd.Index) -> str:
    bare = rows.str.replace(SUFFIX, "", regex=True)
    if bare.isin(keys.str.replace(SUFFIX, "", regex=True)).mean() < MIN_OVERLAP:
        alone = rows[~rows.isin(keys)]
        if len(alone) < len(rows):
            return f"none such as {alone[0]!r} has one: is the list of positions whole, and of the same run?"
        return f"compare {rows[0]!r} with {keys[0]!r}: do both files belong to this section?"
    if bare.has_duplicates:
        ends = ", ".join(sorted(set(rows.str.extract(f"({SUFFIX})")[0].dropna())))
        return f"libraries ({ends}) share barcodes: keep one (of Space Ranger's aggregated matrix by `library:`)"
    return 'they differ by a suffix such as "-1": set `strip_suffix: true`'
