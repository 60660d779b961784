"""The shape of cells as a modality: from their outlines, from columns of their annotation, or of nuclei on a slide."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from aivc_graph import names
from aivc_graph.errors import TissueError, unknown_name
from aivc_graph.settings import Settings
from aivc_graph.tissue.frame import affine_of, apply_affine
from aivc_graph.tissue.section import add_observation, metadata_of

log = logging.getLogger(__name__)
Floats = NDArray[np.float64]
SHAPES = ("log_area", "eccentricity", "solidity", "roundness")


class MorphologyFeatures(Settings):
    """Which shapes of cells are measured; what a YAML file may set under ``task.morphology``.

    Parameters
    ----------
    outlines
        Measure the outlines of cells, where a section holds any.
    columns
        Columns of the cells' annotation that tell shape, such as the area that a segmentation measured; a source keeps
        them by ``columns:``.
    nuclei
        Where a section has a slide and no cells, segment its nuclei and take each for a cell.
    target_mpp
        Pixel size that nuclei are segmented at [µm]; a coarser slide keeps its own.
    """

    outlines: bool = True
    columns: tuple[str, ...] = ()
    nuclei: bool = False
    target_mpp: float = Field(0.5, gt=0, le=2.0)


def add_morphology(section: Any, features: MorphologyFeatures) -> None:
    """Add the table ``cell_morphology`` ``(cell, feature)``, float32, where there is anything to measure.

    Areas as logarithms of µm²; eccentricity is that of the ellipse with the same second moments, solidity the area over
    that of the convex hull, roundness :math:`4 \\pi A / P^2`. A cell without an outline has no such shape: NaN.

    Raises
    ------
    TissueError
        A column that is not there, or holds no number.

    Examples
    --------
    >>> add_morphology(section, MorphologyFeatures())
    """
    from anndata import AnnData

    if names.CELL not in section.shapes or names.table_name(names.CELL, names.MORPHOLOGY) in section.tables:
        return
    cells = section.shapes[names.CELL]
    where = f"{metadata_of(section)['section']} · morphology"
    table = pd.DataFrame({name: _column(cells, name, where) for name in features.columns}, index=cells.index)
    if features.outlines and names.outlines_name(names.CELL) in section.shapes:
        table = pd.concat([table, outline_shapes(section).reindex(table.index)], axis=1)
    if table.empty:
        return
    table = table[table.notna().any(axis=1)].astype(np.float32)
    log.info("%s: %d of %d cells, %s", where, len(table), len(cells), ", ".join(map(str, table.columns)))
    values, var = table.to_numpy(), pd.DataFrame(index=list(table))
    add_observation(section, names.CELL, names.MORPHOLOGY, AnnData(values, pd.DataFrame(index=table.index), var))


def outline_shapes(section: Any) -> pd.DataFrame:
    """Return the shape of each cell with an outline in microns, a row a cell; of several pieces all are one."""
    import shapely

    outlines = section.shapes[names.outlines_name(names.CELL)]
    to_um = affine_of(section, names.outlines_name(names.CELL))
    found = outlines.geometry.to_numpy()
    if to_um is not None:
        found = shapely.transform(found, lambda corners: apply_affine(corners, to_um))
    area, around = shapely.area(found), shapely.length(found)
    hull = shapely.area(shapely.convex_hull(found))
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = (np.log(area), _eccentricity(found), area / hull, 4 * np.pi * area / around**2)
    table = pd.DataFrame(dict(zip(SHAPES, columns, strict=True)), index=outlines.index.astype(str))
    return table.where(np.isfinite(table))


def _eccentricity(outlines: NDArray[Any]) -> Floats:
    """Return the eccentricity of each outline, by the second moments of its largest ring's area (outline,).

    Moments of a polygon are sums over its edges, by Green's theorem.
    """
    import shapely

    parts, owner = shapely.get_parts(outlines, return_index=True)
    order = np.lexsort((-shapely.area(parts), owner))
    largest = parts[order[np.unique(owner[order], return_index=True)[1]]]
    corners, ring = shapely.get_coordinates(shapely.get_exterior_ring(largest), return_index=True)
    corners = corners - np.column_stack([np.bincount(ring, c) / np.bincount(ring) for c in corners.T])[ring]
    edge = np.flatnonzero(np.diff(ring) == 0)
    (x, y), (u, v), of, n = corners[edge].T, corners[edge + 1].T, ring[edge], len(largest)
    cross = x * v - u * y
    area = np.bincount(of, cross, n) / 2
    cx, cy = (np.bincount(of, (a + b) * cross, n) / (6 * area) for a, b in ((x, u), (y, v)))
    xx, yy = (
        np.bincount(of, (a * a + a * b + b * b) * cross, n) / (12 * area) - c**2 for a, b, c in ((x, u, cx), (y, v, cy))
    )
    xy = np.bincount(of, (x * v + 2 * x * y + 2 * u * v + u * y) * cross, n) / (24 * area) - cx * cy
    spread = np.sqrt((xx - yy) ** 2 + 4 * xy**2)
    return np.asarray(np.sqrt(np.clip(2 * spread / (xx + yy + spread), 0.0, 1.0)))


def _column(cells: Any, name: str, where: str) -> Floats:
    if name not in cells:
        raise unknown_name(TissueError, where, "column of cells", name, [c for c in cells if c != "geometry"])
    values = pd.to_numeric(cells[name], errors="coerce").to_numpy(np.float64)
    if not np.isfinite(values).any():
        raise TissueError(where, f"no number in column {name!r}", "numbers, such as an area", "name another column")
    return np.where(np.isfinite(values), values, np.nan)
