"""What registration looks at: points with values, whether they are spots, cells or the pixels of a slide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import RegistrationError
from aivc_graph.tissue.frame import Matrix, affine_of, apply_affine, native_positions
from aivc_graph.tissue.section import metadata_of

THUMBNAIL_PX, POOLED = 256, 4
BLACK = 25


@dataclass(frozen=True)
class Layer:
    """Points with values.

    Parameters
    ----------
    xy
        ``(point, 2)`` in the element's own units.
    values
        ``(point, channel)``: one for a cell, 1 or 0 for a slide's pixel, counts of the shared genes for a profile.
    to_um
        ``(3, 3)`` from those units to microns.
    profile
        The values are expression, to be compared by share of the total; else they are a density.
    framed
        What lies outside the points is unknown (a slide's edge, a profile), rather than empty (around the last cell).
    cuts
        ``(cut, 3)``: lines ``(a, b, c)`` in the element's own units, where the layer was cut off a larger tissue; what
        lies beyond one, where ``a x + b y + c > 0``, is unknown too.
    """

    xy: Matrix
    values: Matrix
    to_um: Matrix
    profile: bool = False
    framed: bool = False
    cuts: Matrix = field(default_factory=lambda: np.zeros((0, 3)))

    def um(self) -> Matrix:
        """Return the points in microns, ``(point, 2)``."""
        return apply_affine(self.xy, self.to_um)

    def moved(self, affine: Matrix) -> Layer:
        """Return the layer after a further ``(3, 3)`` map in microns."""
        return replace(self, to_um=affine @ self.to_um)

    def cuts_um(self) -> Matrix:
        """Return the cuts in microns, ``(cut, 3)``."""
        return self.cuts @ np.linalg.inv(self.to_um)

    def cut_at(self, line_um: Matrix) -> Layer:
        """Return the layer with a further cut ``(3,)``, or more ``(cut, 3)``, given in microns."""
        return replace(self, cuts=np.vstack([self.cuts, line_um @ self.to_um]))

    def diagonal_um(self) -> float:
        """Return the diagonal of its bounding box [µm]."""
        return float(np.hypot(*np.ptp(self.um(), axis=0)))

    def pitch_um(self) -> float:
        """Return the median distance [µm] of a point to the nearest other."""
        from scipy.spatial import cKDTree

        xy = self.um()
        return float(np.median(cKDTree(xy).query(xy, k=2)[0][:, 1])) if len(xy) > 1 else 0.0


def level_layer(section: Any, level: str, genes: Sequence[str] = (), um_per_unit: float | None = None) -> Layer:
    """Return the nodes of a level: each counts one, or by its RNA counts of `genes` if any are given.

    Raises
    ------
    RegistrationError
        If the level has no scale: neither a transform to microns nor `um_per_unit`.
    """
    to_um = _frame(section, level, um_per_unit)
    xy = native_positions(section, level)
    if not genes:
        return Layer(xy, np.ones((len(xy), 1)), to_um)
    table = section.tables[names.table_name(level, names.RNA)][:, list(genes)]
    rows = section.shapes[level].index.get_indexer(table.obs[names.BARCODE])
    counts = table.X.toarray() if sparse.issparse(table.X) else np.asarray(table.X)
    return Layer(xy[rows], counts.astype(np.float64), to_um, profile=True, framed=True)


def slide_layer(
    section: Any, name: str = names.SLIDE, *, stain: bool = False, um_per_unit: float | None = None
) -> Layer:
    """Return a thumbnail of a slide as pixels that are 1 on tissue and 0 elsewhere.

    A pixel is the mean over the slide's own, of which 4 × 4 are looked at where there are as many: tissue is pale
    between its nuclei, and single pixels of it are as bright as glass.

    Parameters
    ----------
    stain
        Weigh the tissue by how much red light it absorbs, which follows hematoxylin, and so the nuclei.
    """
    image = section.images[name]
    stride = max(1, int(np.ceil(max(image.shape[1:]) / (THUMBNAIL_PX * POOLED))))
    pixels = np.asarray(image.data[:, ::stride, ::stride])
    pool = max(1, int(np.ceil(max(pixels.shape[1:]) / THUMBNAIL_PX)))
    density = _tissue(pixels.astype(np.float64), pool, stain)
    rows, columns = np.mgrid[: density.shape[0], : density.shape[1]]
    xy = (np.column_stack([columns.ravel(), rows.ravel()]) + 0.5) * stride * pool
    return Layer(xy.astype(np.float64), density.reshape(-1, 1), _frame(section, name, um_per_unit), framed=True)


def shared_genes(section: Any, moving: str, fixed: str, n: int = 60) -> list[str]:
    """Return the `n` genes, measured at both levels, that the sparser of the two counts most often."""
    one, other = (section.tables[names.table_name(level, names.RNA)] for level in (moving, fixed))
    found = genes_of_both(one, other, n)
    if not found:
        where = f"{metadata_of(section)['section']} · {moving} and {fixed}"
        raise RegistrationError(where, "no gene in common", "shared genes", "set `signal: density`")
    return found


def genes_of_both(one: Any, other: Any, n: int) -> list[str]:
    """Return the `n` genes of two tables that the sparser of them counts most often."""
    shared = one.var_names.intersection(other.var_names)
    seen = [np.asarray((table[:, shared].X > 0).mean(axis=0)).ravel() for table in (one, other)]
    order = np.argsort(-np.minimum(*seen), kind="stable")
    return [str(gene) for gene in shared[order[:n]]]


def _tissue(pixels: Matrix, pool: int, stain: bool) -> Matrix:
    """Density ``(row, col)`` of tissue, pooled: what absorbs light in a colour slide, what shines in any other."""
    if len(pixels) != 3:
        bright = _pooled(pixels.mean(axis=0)[None], pool)[0]
        mask = _dense(bright)
        return (bright * mask if stain else mask).astype(np.float64)
    glass = np.clip(np.percentile(pixels, 99, axis=(1, 2)), 200.0, 255.0)
    painted = pixels.max(axis=0) <= BLACK
    density = -np.log10(np.clip((pixels + 1) / (glass[:, None, None] + 1), 1e-3, 1))
    density = _pooled(np.where(painted, 0.0, density), pool)
    mask = _dense(density.max(axis=0))
    return (density[0] * mask if stain else mask).astype(np.float64)


def _dense(values: Matrix) -> NDArray[np.bool_]:
    """Say where there is tissue; the root keeps pale tissue apart from glass where other tissue is dark."""
    from scipy.ndimage import gaussian_filter
    from skimage.filters import threshold_otsu

    root = np.sqrt(gaussian_filter(values, 1.0))
    return np.asarray(root > threshold_otsu(root)) if np.ptp(values) > 0 else np.zeros(values.shape, bool)


def _pooled(pixels: Matrix, pool: int) -> Matrix:
    """Mean of squares of `pool` × `pool` pixels ``(channel, row, col)``; what is over at the end is left out."""
    rows, columns = (max(1, size // pool) for size in pixels.shape[1:])
    whole = pixels[:, : rows * pool, : columns * pool]
    return np.asarray(whole.reshape(len(whole), rows, -1, columns, pool).mean(axis=(2, 4)))


def _frame(section: Any, element: str, um_per_unit: float | None) -> Matrix:
    affine = affine_of(section, element)
    if um_per_unit is not None:
        return np.diag([um_per_unit, um_per_unit, 1.0])
    if affine is None:
        where = f"{metadata_of(section)['section']} · {element}"
        mend = "give `um_per_unit` (a slide's pixel size) to start from"
        raise RegistrationError(where, "no scale", "microns per unit", mend)
    return affine
