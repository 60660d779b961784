"""Whether what shares a frame lies on the same tissue at all."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from aivc_graph import names
from aivc_graph.errors import Faults, TissueError
from aivc_graph.tissue.frame import Matrix, affine_of, apply_affine, positions_um
from aivc_graph.tissue.schema import spacing_um
from aivc_graph.tissue.section import metadata_of

# Below the first, what is in one frame has nothing to do with each other; below the second, it is worth a look.
NOWHERE, POOR = 0.05, 0.5
# Nodes of a slide whose pixels are taken for twice as large as they are reach no farther on it.
CORNER = 0.51
POINT_UM = 1e-6  # the size of a box around one node
MEND = "are the units, the axes and the origin of both the same, and both files of this section? else register one"


def shared_ground(a_um: Matrix, b_um: Matrix) -> float:
    """Return how much of the smaller of two sets of nodes ``(node, 2)`` lies on the same ground as the other, 0–1.

    The lesser of two shares: of the smaller bounding box inside the other one, and of the nodes of one that have a node
    of the other within twice the spacing of the coarser (of the set for which that is more, since one may well cover a
    part of the other). Invariant to moving both.
    """
    from scipy.spatial import cKDTree

    spacing = [one for one in (spacing_um(a_um), spacing_um(b_um)) if np.isfinite(one)]
    if not spacing:
        return 1.0
    reach = 2 * max(spacing)
    pairs = ((a_um, b_um), (b_um, a_um))
    near = max(float((cKDTree(far).query(own, distance_upper_bound=reach)[0] <= reach).mean()) for own, far in pairs)
    low, high = (np.stack([edge(one, axis=0) for one in (a_um, b_um)]) for edge in (np.min, np.max))
    both = np.clip(high.min(axis=0) - low.max(axis=0) + POINT_UM, 0, None)
    return min(near, float((both / (high - low + POINT_UM).min(axis=0)).clip(max=1).prod()))


def check_overlap(section: Any) -> list[str]:
    """Compare where the cells, the spots and the slide of a section lie; return what overlaps poorly.

    Raises
    ------
    TissueError
        If two of them hardly overlap: less than 5 % of either.
    """
    faults, warnings = Faults(TissueError), []
    where = str(metadata_of(section)["section"])
    for a, b, share in _shares(section):
        if share < POOR:
            found = (
                f"{share:.0%} of the nodes on the slide"
                if b == names.SLIDE
                else f"{share:.0%} of either near the other"
            )
            part = TissueError(f"{where} · {a} and {b}", found, f"≥ {POOR:.0%} in one frame", MEND)
            if share < NOWHERE:
                faults.messages.append(str(part))
            else:
                warnings.append(str(part))
    faults.raise_if_any()
    return [*warnings, *_corners(section, where)]


def _corners(section: Any, where: str) -> list[str]:
    """Say which nodes lie in the first quarter of a slide alone, whose frame is its own: its pixels may be smaller."""
    slide = affine_of(section, names.SLIDE) if names.SLIDE in section.images else None
    if slide is None or not np.allclose(slide, np.diag(np.diag(slide))):
        return []
    size = np.array(section.images[names.SLIDE].shape[:0:-1])
    found = []
    for level in (v for v in (names.CELL, names.PATCH) if v in section.shapes and affine_of(section, v) is not None):
        reach = apply_affine(positions_um(section, level), np.asarray(np.linalg.inv(slide))).max(axis=0) / size
        if (reach < CORNER).all():
            told = f"nodes in the first {reach[0]:.0%} × {reach[1]:.0%} of the slide, of {slide[0, 0]:.4g} µm a pixel"
            mend = "is its pixel size (`mpp:`) right, and the unit of the positions?"
            found.append(str(TissueError(f"{where} · {level} and {names.SLIDE}", told, "nodes all over it", mend)))
    return found


def _shares(section: Any) -> list[tuple[str, str, float]]:
    """Return (element, element, share) of every pair that is placed; a node is on a slide or beside it."""
    levels = [v for v in (names.CELL, names.PATCH) if v in section.shapes and affine_of(section, v) is not None]
    placed = {level: positions_um(section, level) for level in levels}
    found = [(a, b, shared_ground(placed[a], placed[b])) for a, b in itertools.combinations(levels, 2)]
    slide = affine_of(section, names.SLIDE) if names.SLIDE in section.images else None
    if slide is not None:
        size = np.array(section.images[names.SLIDE].shape[:0:-1])
        for level, xy in placed.items():
            pixel = apply_affine(xy, np.asarray(np.linalg.inv(slide)))
            found.append((level, names.SLIDE, float(((pixel >= 0) & (pixel <= size)).all(axis=1).mean())))
    return found
