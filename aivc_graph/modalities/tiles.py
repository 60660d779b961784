"""Cut tiles out of a lazily read slide, region by region, so that a tiled slide is never whole in memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph.errors import TissueError
from aivc_graph.modalities.tile_features import TileGeometry
from aivc_graph.tissue.frame import Matrix, affine_of, apply_affine
from aivc_graph.tissue.section import metadata_of

log = logging.getLogger(__name__)

Tile = NDArray[np.uint8]

REGION_PX = 2048
GLASS = 255


@dataclass(frozen=True)
class SlideReader:
    """One resolution of a slide.

    Parameters
    ----------
    image
        Dask array ``(3, y, x)``, 0–255.
    to_um
        ``(3, 3)`` affine from its pixel corners to microns.
    """

    image: Any
    to_um: Matrix

    @property
    def mpp(self) -> float:
        """Pixel size [µm]."""
        return float(np.sqrt(abs(np.linalg.det(self.to_um[:2, :2]))))

    def tiles(self, centres_um: Matrix, geometry: TileGeometry) -> Iterator[tuple[int, Tile | None]]:
        """Yield (position in `centres_um`, tile ``(pixel, pixel, 3)``), in the order the slide is best read.

        A tile stands square in the slide's own frame; what lies beyond the slide's border is glass. A tile that cannot
        be decoded is `None`.
        """
        centres = apply_affine(centres_um, np.asarray(np.linalg.inv(self.to_um), np.float64))
        half = geometry.tile_um / self.mpp / 2
        edge = max(REGION_PX, *(max(axis) for axis in self.image.chunks[1:]))
        region = np.floor(centres / edge).astype(np.int64)
        order = np.lexsort((region[:, 0], region[:, 1]))
        for rows in np.split(order, np.flatnonzero(np.diff(region[order], axis=0).any(axis=1)) + 1):
            try:
                tiles: list[Tile | None] = list(self._cut(centres[rows], half, geometry.pixels))
            except Exception as error:  # every codec raises a kind of its own
                log.warning("a region of %d tiles cannot be decoded, trying them one by one: %s", len(rows), error)
                tiles = [self._cut_alone(centres[row : row + 1], half, geometry.pixels) for row in rows]
            yield from zip(map(int, rows), tiles, strict=True)

    def _cut(self, centres: Matrix, half: float, edge: int) -> Iterator[Tile]:
        """Read the region around `centres` (x, y) [pixel] once and cut a tile at each."""
        low = np.floor(centres.min(axis=0) - half).astype(np.int64)
        pixels = self._region(low, np.ceil(centres.max(axis=0) + half).astype(np.int64) + 1)
        return (cut_tile(pixels, centre - low, half, edge) for centre in centres)

    def _cut_alone(self, centre: Matrix, half: float, edge: int) -> Tile | None:
        try:
            return next(self._cut(centre, half, edge))
        except Exception as error:
            x, y = centre[0]
            log.warning("tile at pixel x %.0f, y %.0f cannot be decoded: %s", x, y, error)
            return None

    def _region(self, low: NDArray[np.int64], high: NDArray[np.int64]) -> Tile:
        """Read ``(y, x, 3)`` between two corners (x, y), with glass beyond the border."""
        size = np.array(self.image.shape[:0:-1])
        out = np.full((*(high - low)[::-1], 3), GLASS, np.uint8)
        a, b = np.clip(low, 0, size), np.clip(high, 0, size)
        if (b > a).all():
            read = np.asarray(self.image[:, a[1] : b[1], a[0] : b[0]].compute())
            out[a[1] - low[1] : b[1] - low[1], a[0] - low[0] : b[0] - low[0]] = np.moveaxis(read, 0, -1)
        return out


def slide_reader(section: Any, slide: str, wanted_mpp: float) -> SlideReader:
    """Return the coarsest resolution of image `slide` that is still as fine as `wanted_mpp` [µm], else the finest.

    Raises
    ------
    TissueError
        No such image; not placed in microns; not RGB with values 0–255.
    """
    where = f"{metadata_of(section)['section']} · image {slide!r}"
    if slide not in section.images:
        raise TissueError(where, "no such image", mend=f"images here: {', '.join(section.images) or 'none'}")
    to_um = affine_of(section, slide)
    if to_um is None:
        raise TissueError(where, "no transform to microns", mend="give its `mpp`, or register it")
    arrays = [_array(level) for level in _levels(section.images[slide])]
    if arrays[0].shape[0] != 3 or arrays[0].dtype != np.uint8:
        found = f"{arrays[0].shape[0]} channels of {arrays[0].dtype}"
        raise TissueError(where, found, "3 channels of uint8 (an H&E in RGB)")
    readers = [SlideReader(array, to_um @ _shrunk(arrays[0].shape, array.shape)) for array in arrays]
    fine = [reader for reader in readers if reader.mpp <= 1.05 * wanted_mpp]
    return max(fine, key=lambda r: r.mpp) if fine else min(readers, key=lambda r: r.mpp)


def cut_tile(pixels: Tile, centre: Matrix, half: float, edge: int) -> Tile:
    """Average the square of half-width `half` around `centre` (x, y) of `pixels` ``(y, x, 3)`` to `edge` pixels."""
    first = np.floor(centre - half).astype(np.int64)
    last = np.ceil(centre + half).astype(np.int64)
    patch = pixels[first[1] : last[1], first[0] : last[0]].astype(np.float32)
    down, across = (_averaging(patch.shape[axis], (centre - half - first)[1 - axis], 2 * half, edge) for axis in (0, 1))
    rows = (down @ patch.reshape(patch.shape[0], -1)).reshape(edge, patch.shape[1], 3)
    columns = across @ np.ascontiguousarray(rows.transpose(1, 0, 2)).reshape(patch.shape[1], -1)
    tile = columns.reshape(edge, edge, 3).transpose(1, 0, 2)
    return np.ascontiguousarray(np.clip(np.rint(tile), 0, 255).astype(np.uint8))


def _averaging(n_in: int, start: float, length: float, n_out: int) -> sparse.csr_matrix:
    """Weights ``(n_out, n_in)`` of the input pixels under each output pixel, by overlap."""
    borders = start + length * np.arange(n_out + 1) / n_out
    low, high = borders[:-1, None], borders[1:, None]
    cell = np.floor(low).astype(np.int64) + np.arange(int(np.ceil(length / n_out)) + 1)
    overlap = np.clip(np.minimum(high, cell + 1) - np.maximum(low, cell), 0, None)
    weight = np.where(cell < n_in, overlap, 0.0)
    weight /= weight.sum(axis=1, keepdims=True)
    rows = np.repeat(np.arange(n_out), cell.shape[1])
    columns = np.minimum(cell, n_in - 1).ravel()
    return sparse.csr_matrix((weight.ravel().astype(np.float32), (rows, columns)), (n_out, n_in))


def _levels(image: Any) -> list[Any]:
    if not hasattr(image, "children"):
        return [image]
    return [next(iter(node.data_vars.values())) for node in image.children.values()]


def _array(level: Any) -> Any:
    return level.transpose("c", "y", "x").data


def _shrunk(full: tuple[int, ...], small: tuple[int, ...]) -> Matrix:
    """Map pixel corners of a coarser level to those of the finest."""
    return np.diag([full[2] / small[2], full[1] / small[1], 1.0])
