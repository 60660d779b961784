"""Hand-made features of H&E tiles: stains, texture and nuclei."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from aivc_graph.modalities.nuclei import segment_nuclei
from aivc_graph.modalities.nucleus_shapes import NucleusShapes, measure_nuclei
from aivc_graph.modalities.stain import StainFrame, channel_range
from aivc_graph.modalities.texture import texture_features
from aivc_graph.modalities.tile_features import AbstractTileExtractor, AbstractTileFeatures, TileGeometry

log = logging.getLogger(__name__)

COARSEST_NUCLEI_MPP = 2.0
VERSION = 1
PERCENTILES = (5, 25, 50, 75, 95)


class HistologyFeatures(AbstractTileFeatures):
    """Stain amounts, texture and nuclei of each tile, in the slide's own stain colours.

    Names end in the unit where there is one; stain amounts are relative to the slide's 99th percentile. Above 2 µm a
    pixel nuclei cannot be seen, so their features are left out.

    Examples
    --------
    >>> HistologyFeatures(tile_um=100).geometry(diameter_um=55, slide_mpp=0.5).pixels
    133
    """

    def extractor(self, frame: StainFrame, geometry: TileGeometry, where: str) -> AbstractTileExtractor:
        """Return the extractor for a slide with these stains."""
        nuclei = geometry.mpp <= COARSEST_NUCLEI_MPP
        if not nuclei:
            limit = f"≤ {COARSEST_NUCLEI_MPP:g} µm"
            log.info("%s: %.3g µm a pixel is too coarse for nuclei (%s): left out", where, geometry.mpp, limit)
        return _Extractor(frame, geometry, nuclei)


@dataclass
class _Extractor(AbstractTileExtractor):
    frame: StainFrame
    geometry: TileGeometry
    nuclei: bool
    names: tuple[str, ...] = field(init=False)
    parallel = True

    def __post_init__(self) -> None:
        blank = np.full((self.geometry.pixels, self.geometry.pixels, 3), 255, np.uint8)
        self.names = tuple(self._describe(blank))

    def key(self) -> bytes:
        """Return bytes for version, stains and tile."""
        return f"{VERSION} {self.geometry} {self.nuclei}".encode() + self.frame.key()

    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return features ``(tile, feature)``."""
        return np.array([list(self._describe(tile).values()) for tile in tiles], np.float32)

    def _describe(self, tile: NDArray[np.uint8]) -> dict[str, float]:
        mask, (hematoxylin, eosin) = self.frame.tissue(tile), self.frame.stains(tile)
        features = {"tissue_fraction": float(mask.mean())}
        darkest, brightest = channel_range(tile)
        saturation = 1.0 - (darkest + np.float32(1)) / (brightest + np.float32(1))
        for name, channel in (("hematoxylin", hematoxylin), ("eosin", eosin), ("saturation", saturation)):
            features |= {f"{name}_{key}": value for key, value in _distribution(channel[mask]).items()}
        mpp = self.geometry.mpp
        for name, channel in (("hematoxylin", hematoxylin), ("eosin", eosin)):
            features |= {f"{name}_{key}": value for key, value in texture_features(channel, mpp).items()}
        if self.nuclei:
            shapes = measure_nuclei(segment_nuclei(hematoxylin, mpp, self.frame.nuclear), hematoxylin, mpp)
            features |= nuclei_features(shapes, float(mask.sum()) * mpp**2)
        return features


def nuclei_features(shapes: NucleusShapes, tissue_um2: float) -> dict[str, float]:
    """Summarise the nuclei of a tile that holds `tissue_um2` of tissue; NaN for the shape and spacing of none."""
    n = len(shapes.area_um2)
    features = {"nuclei_count": float(n), "nuclei_per_mm2": 1e6 * n / max(tissue_um2, 1.0)}
    features["nuclei_area_share"] = float(shapes.area_um2.sum() / max(tissue_um2, 1.0))
    whole = shapes.whole if shapes.whole.any() else np.ones(n, bool)
    columns = {
        "area_um2": shapes.area_um2[whole],
        "eccentricity": shapes.eccentricity[whole],
        "solidity": shapes.solidity[whole],
        "hematoxylin": shapes.hematoxylin[whole],
        "spacing_um": cKDTree(shapes.centre_um).query(shapes.centre_um, k=2)[0][:, 1] if n > 1 else np.zeros(0),
    }
    for name, values in columns.items():
        features[f"nuclei_{name}_mean"] = float(values.mean()) if len(values) else float("nan")
        features[f"nuclei_{name}_sd"] = float(values.std()) if len(values) else float("nan")
    return features


def _distribution(values: NDArray[np.floating]) -> dict[str, float]:
    """Mean, spread and percentiles over tissue pixels; zero stain where there is no tissue at all."""
    values = values if len(values) else np.zeros(1)
    levels = dict(zip((f"p{p}" for p in PERCENTILES), map(float, np.percentile(values, PERCENTILES)), strict=True))
    return {"mean": float(values.mean()), "sd": float(values.std()), **levels}
