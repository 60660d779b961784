"""Where things lie: affine maps from an element's own frame to the section's microns."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aivc_graph import names
from aivc_graph.errors import TissueError

Matrix = NDArray[np.float64]


def scale_affine(um_per_unit: float) -> Matrix:
    """Return the (3, 3) affine that turns vendor units (pixels, array steps) into microns."""
    return np.diag([um_per_unit, um_per_unit, 1.0])


def apply_affine(xy: ArrayLike, affine: Matrix) -> Matrix:
    """Map points ``(point, 2)`` through a ``(3, 3)`` affine that acts on columns ``(x, y, 1)``."""
    points = np.asarray(xy, dtype=np.float64)
    return points @ affine[:2, :2].T + affine[:2, 2]


def affine_of(section: Any, element: str) -> Matrix | None:
    """Return the ``(3, 3)`` map of `element` to microns, or ``None`` while it is not placed."""
    from spatialdata.transformations import get_transformation

    transforms = get_transformation(section[element], get_all=True)
    if names.MICRONS not in transforms:
        return None
    return np.asarray(transforms[names.MICRONS].to_affine_matrix(("x", "y"), ("x", "y")), dtype=np.float64)


def place(section: Any, element: str, affine: Matrix) -> None:
    """Give `element` its ``(3, 3)`` map to the section's micron frame, replacing an earlier one."""
    from spatialdata.transformations import Affine, set_transformation

    if abs(np.linalg.det(affine[:2, :2])) < 1e-12 or not np.isfinite(affine).all():
        raise TissueError(f"element {element!r}", "a transform that is singular or not finite", "an invertible affine")
    set_transformation(section[element], Affine(affine, ("x", "y"), ("x", "y")), names.MICRONS)


def is_dissociated(section: Any) -> bool:
    """Say whether the cells of a section were taken out of their tissue, so that they have no positions."""
    return bool(section.attrs.get(names.METADATA, {}).get(names.DISSOCIATED, False))


def note_slide_frame(section: Any) -> None:
    """Keep in the metadata where the slide's pixels lie, for whoever draws over it without having it."""
    affine = affine_of(section, names.SLIDE) if names.SLIDE in section.images else None
    if affine is not None:
        section.attrs[names.METADATA][names.SLIDE_AFFINE] = json.dumps([float(v) for v in affine[:2].ravel()])


def positions_um(section: Any, level: str) -> Matrix:
    """Return the centres ``(node, 2)`` of a level's nodes in microns, in order; NaN where there are none."""
    if is_dissociated(section):
        return np.full((len(section.shapes[level]), 2), np.nan)
    affine = affine_of(section, level)
    if affine is None:
        raise TissueError(f"level {level!r}", "no transform to microns", mend="give `um_per_unit` or register it")
    return apply_affine(native_positions(section, level), affine)


def native_positions(section: Any, level: str) -> Matrix:
    """Return the centres ``(node, 2)`` of a level's nodes in the vendor's own units."""
    geometry = section.shapes[level].geometry
    centres = geometry.centroid if (geometry.geom_type != "Point").any() else geometry
    return np.column_stack([centres.x.to_numpy(), centres.y.to_numpy()]).astype(np.float64)


def diameters_um(section: Any, level: str) -> NDArray[np.float64]:
    """Return each node's diameter in microns; polygons count as the circle of equal area. NaN if dissociated."""
    if is_dissociated(section):
        return np.full(len(section.shapes[level]), np.nan)
    shapes, affine = section.shapes[level], affine_of(section, level)
    if affine is None:
        raise TissueError(f"level {level!r}", "no transform to microns", mend="give `um_per_unit` or register it")
    scale = float(np.sqrt(abs(np.linalg.det(affine[:2, :2]))))
    radius = shapes["radius"] if "radius" in shapes else np.sqrt(shapes.geometry.area / np.pi)
    return 2.0 * scale * np.asarray(radius, dtype=np.float64)
