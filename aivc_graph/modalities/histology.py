"""Describe the histology around each node and hang it on the section as an observation."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.errors import ReadError, TissueError
from aivc_graph.modalities.stain import StainFrame, fit_stains
from aivc_graph.modalities.tile_cache import TileCache
from aivc_graph.modalities.tile_features import AbstractTileExtractor, AbstractTileFeatures, TileGeometry
from aivc_graph.modalities.tile_pool import measure_tiles
from aivc_graph.modalities.tiles import SlideReader, Tile, slide_reader
from aivc_graph.tissue.evenly import evenly
from aivc_graph.tissue.frame import Matrix, diameters_um, positions_um
from aivc_graph.tissue.section import add_observation, metadata_of

log = logging.getLogger(__name__)

SAMPLED_TILES = 96
MAX_UNDECODABLE = 0.05


def add_histology(
    section: Any,
    *,
    features: AbstractTileFeatures,
    slide: str = names.SLIDE,
    level: str = names.PATCH,
    workers: int = 2,
    cache: Path | None = None,
    progress: bool = True,
) -> None:
    """Add the table ``<level>_histology`` ``(node, feature)``, float32, one square tile of the slide a node.

    A node whose tile holds too little tissue is unmeasured: it has no row. A feature that a tile does not have, such as
    the shape of nuclei where there is none, is the section's median. ``uns["histology"]`` counts both and holds the
    tile's edge and pixel size [µm]. Where the section is labelled by a split and has nodes that train, the slide's
    colours and those medians are theirs alone.

    Parameters
    ----------
    features
        What to measure, such as `HistologyFeatures` or `ExportedEncoder`.
    slide, level
        Image and nodes; both must be placed in microns.
    workers
        Threads that measure tiles.
    cache
        Folder that remembers tiles by content, so that a second run reads the slide only.
    progress
        Show a bar, if this is a terminal.

    Raises
    ------
    TissueError
        No slide, slide or level not placed, or no tile with tissue.
    ReadError
        More than 5 % of the tiles cannot be decoded; fewer are left unmeasured and counted.

    Examples
    --------
    >>> from aivc_graph.modalities.histology_features import HistologyFeatures
    >>> add_histology(section, features=HistologyFeatures())
    """
    where = f"{metadata_of(section)['section']} · histology of level {level!r}"
    centres, diameter = positions_um(section, level), float(np.median(diameters_um(section, level)))
    reader = slide_reader(section, slide, wanted_mpp=features.geometry(diameter, 0.0).mpp)
    geometry = features.geometry(diameter, reader.mpp)
    training = _training(section, level)
    frame = fit_stains(_sample(reader, centres[training], geometry))
    extractor = features.extractor(frame, geometry, where)
    store = TileCache(cache, extractor.key(), extractor.names)
    cut = _with_bar(reader.tiles(centres, geometry), len(centres), where, progress)
    tiles = _Tally(cut, frame, features.min_tissue)
    values = _measure(tiles, extractor, store, workers)
    tiles.check(where, len(centres))
    store.save()
    rows = np.array(sorted(values))
    log.info("%s: %d of %d measured, %d features; %s", where, len(rows), len(centres), len(extractor.names), tiles)
    found = np.array([values[row] for row in rows])
    table = _table(section.shapes[level].index[rows], found, training[rows], extractor.names)
    table.uns["histology"] = {
        "off_tissue": tiles.off_tissue,
        "undecodable": tiles.undecodable,
        "filled": table.uns.pop("filled"),
        "tile_um": geometry.tile_um,
        "um_per_pixel": geometry.mpp,
    }
    add_observation(section, level, names.HISTOLOGY, table)


class _Tally:
    """Passes on the tiles that hold tissue, and counts the others.

    Parameters
    ----------
    tiles
        (row, tile), with `None` for a tile that cannot be decoded.
    frame
        Colours of the slide.
    min_tissue
        Least share of tissue.
    """

    def __init__(self, tiles: Iterator[tuple[int, Tile | None]], frame: StainFrame, min_tissue: float) -> None:
        self._tiles, self._frame, self._min_tissue = tiles, frame, min_tissue
        self.off_tissue = self.undecodable = 0

    def __iter__(self) -> Iterator[tuple[int, Tile]]:
        for row, tile in self._tiles:
            if tile is None:
                self.undecodable += 1
            elif self._frame.tissue(tile[::2, ::2]).mean() < self._min_tissue:
                self.off_tissue += 1
            else:
                yield row, tile

    def __str__(self) -> str:
        return f"{self.off_tissue} off the tissue, {self.undecodable} undecodable"

    def check(self, where: str, total: int) -> None:
        """Raise if more than one tile in twenty cannot be decoded, or none holds tissue."""
        if self.undecodable > MAX_UNDECODABLE * total:
            found = f"{self.undecodable} of {total} tiles cannot be decoded"
            raise ReadError(where, found, f"at most {MAX_UNDECODABLE:.0%}", "is the slide's file whole?")
        if self.off_tissue + self.undecodable == total:
            found = f"no tissue under any of {total:,} nodes"
            raise TissueError(where, found, mend="check the slide's pixel size and its registration")


def _sample(reader: SlideReader, centres: Matrix, geometry: TileGeometry) -> Tile:
    """Pixels ``(pixel, 3)`` of tiles spread evenly over the nodes."""
    picked = centres[evenly(len(centres), SAMPLED_TILES)]
    tiles = (tile for _, tile in reader.tiles(picked, geometry) if tile is not None)
    return np.concatenate([np.zeros((0, 3), np.uint8), *(tile[::3, ::3].reshape(-1, 3) for tile in tiles)])


def _measure(
    tiles: Iterable[tuple[int, Tile]], extractor: AbstractTileExtractor, store: TileCache, workers: int
) -> dict[int, NDArray[np.float32]]:
    """Return row → features of every tile, from the cache or anew."""
    values: dict[int, NDArray[np.float32]] = {}

    def unknown() -> Iterator[tuple[int, str, Tile]]:
        for row, tile in tiles:
            name = store.name(tile)
            known = store.get(name)
            if known is None:
                yield row, name, tile
            else:
                values[row] = known

    for keys, result in measure_tiles(unknown(), extractor, workers):
        for (row, name), features in zip(keys, result, strict=True):
            values[row] = features
            store.put(name, features)
    return values


def _training(section: Any, level: str) -> NDArray[np.bool_]:
    """Return the nodes (node,) that set what is normal on this slide: those that train, or all where none does."""
    shapes = section.shapes[level]
    if names.SPLIT.name not in shapes:
        return np.ones(len(shapes), bool)
    training = (shapes[names.SPLIT.name] == names.TRAIN).to_numpy()
    return training if training.any() else ~training


def _table(
    barcodes: pd.Index, values: NDArray[np.float32], training: NDArray[np.bool_], feature_names: tuple[str, ...]
) -> Any:
    """AnnData ``(node, feature)`` without gaps: what a tile does not have takes the median of the training ones."""
    from anndata import AnnData

    absent = ~np.isfinite(values)
    basis = values[training] if training.any() else values
    known = np.isfinite(basis).any(axis=0)
    middle = np.zeros(values.shape[1], np.float32)
    middle[known] = np.nanmedian(basis[:, known], axis=0)
    obs, var = pd.DataFrame(index=barcodes), pd.DataFrame(index=list(feature_names))
    return AnnData(np.where(absent, middle, values), obs=obs, var=var, uns={"filled": int(absent.sum())})


def _with_bar(tiles: Iterator[Any], total: int, where: str, progress: bool) -> Iterator[Any]:
    from tqdm import tqdm

    return iter(tqdm(tiles, total=total, desc=where, unit="tile", disable=not (progress and sys.stderr.isatty())))
