"""The contract of what turns tiles into features, and the size of a tile."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from aivc_graph.modalities.stain import StainFrame
from aivc_graph.settings import Settings

MIN_TILE_UM = 60.0
DIAMETERS = 1.5


@dataclass(frozen=True)
class TileGeometry:
    """A square tile: its edge [µm], its pixel size [µm] and its edge in pixels."""

    tile_um: float
    mpp: float

    @property
    def pixels(self) -> int:
        """Edge of the tile in pixels."""
        return max(8, round(self.tile_um / self.mpp))


class AbstractTileExtractor(ABC):
    """What `AbstractTileFeatures` becomes for one slide: tiles in, features out."""

    names: tuple[str, ...]
    parallel: bool

    @abstractmethod
    def key(self) -> bytes:
        """Return bytes that differ whenever the features of an unchanged tile would."""

    @abstractmethod
    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return features ``(tile, feature)`` of tiles ``(tile, y, x, 3)``; NaN where a tile has no such thing."""


class AbstractTileFeatures(Settings, ABC):
    """Settings of one way to describe tiles.

    Parameters
    ----------
    tile_um
        Edge of the tile [µm]; by default 1.5 patch diameters and at least 60 µm.
    target_mpp
        Pixel size the tiles are resampled to [µm]; a coarser slide keeps its own.
    min_tissue
        Least share of tissue in a tile; below it the patch is unmeasured.
    """

    tile_um: float | None = Field(None, gt=0)
    target_mpp: float = Field(0.75, gt=0)
    min_tissue: float = Field(0.05, ge=0, lt=1)

    def geometry(self, diameter_um: float, slide_mpp: float) -> TileGeometry:
        """Return the tile for patches of `diameter_um` on a slide of `slide_mpp` µm a pixel."""
        edge = self.tile_um or max(MIN_TILE_UM, DIAMETERS * diameter_um)
        return TileGeometry(edge, max(self.target_mpp, slide_mpp))

    @abstractmethod
    def extractor(self, frame: StainFrame, geometry: TileGeometry, where: str) -> AbstractTileExtractor:
        """Return the extractor for a slide with these stains; `where` names it in messages."""
