"""Cells of a section that was delivered without any: the nuclei of its slide."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd

from aivc_graph import names
from aivc_graph.errors import ReadError, TissueError
from aivc_graph.modalities.histology import MAX_UNDECODABLE
from aivc_graph.modalities.histology_features import COARSEST_NUCLEI_MPP
from aivc_graph.modalities.morphology import MorphologyFeatures
from aivc_graph.modalities.nuclei import segment_nuclei
from aivc_graph.modalities.nucleus_shapes import measure_nuclei
from aivc_graph.modalities.stain import fit_stains
from aivc_graph.modalities.tile_features import TileGeometry
from aivc_graph.modalities.tiles import SlideReader, Tile, slide_reader
from aivc_graph.tissue.doubt import doubt
from aivc_graph.tissue.evenly import evenly
from aivc_graph.tissue.frame import Matrix, apply_affine, scale_affine
from aivc_graph.tissue.section import add_level, add_observation, metadata_of

log = logging.getLogger(__name__)
# Edge of the pieces that nuclei are found in, and how far they overlap, wider than any nucleus [µm].
PIECE_UM, MARGIN_UM = 400.0, 20.0
SAMPLED, LEAST_TISSUE = 48, 0.02
SHAPES = ("log_area", "eccentricity", "solidity", "hematoxylin")


def add_nuclei(section: Any, features: MorphologyFeatures) -> None:
    """Take the nuclei on the slide of a section without cells for its cells; says so as a doubt.

    A nucleus is found in one piece of the slide only: that in which its centre lies. Its centre and its radius, of the
    circle of the same area, are in microns; ``cell_morphology`` holds its shape and how dark it is.

    Raises
    ------
    TissueError
        A slide that is not placed, is coarser than 2 µm a pixel, or has no nucleus.
    ReadError
        More than 5 % of its pieces cannot be decoded.
    """
    from anndata import AnnData

    if not features.nuclei or names.SLIDE not in section.images or names.CELL in section.shapes:
        return
    where = f"{metadata_of(section)['section']} · nuclei of the slide"
    reader = slide_reader(section, names.SLIDE, wanted_mpp=features.target_mpp)
    if reader.mpp > COARSEST_NUCLEI_MPP:
        fine = f"≤ {COARSEST_NUCLEI_MPP:g} µm a pixel to see nuclei"
        raise TissueError(where, f"{reader.mpp:.3g} µm a pixel", fine, "give a finer slide, or leave out `nuclei:`")
    found = nuclei_on(reader, max(features.target_mpp, reader.mpp), where)
    if found.empty:
        raise TissueError(where, "none", "some nuclei", "is it an H&E, and its pixel size right?")
    doubt(where, f"{len(found):,} nuclei found on the picture stand for cells", "cells that somebody segmented")
    barcodes = [f"nucleus{i}" for i in range(len(found))]
    radius = np.sqrt(np.exp(found["log_area"].to_numpy()) / np.pi)
    add_level(section, names.CELL, barcodes, found[["x", "y"]].to_numpy(), radius, scale_affine(1.0))
    table = AnnData(found[list(SHAPES)].to_numpy(np.float32), pd.DataFrame(index=barcodes), pd.DataFrame(index=SHAPES))
    add_observation(section, names.CELL, names.MORPHOLOGY, table)


def nuclei_on(reader: SlideReader, mpp: float, where: str) -> pd.DataFrame:
    """Return the nuclei of a slide, a row a nucleus: ``x``, ``y`` [µm] and `SHAPES`, in the order of their places."""
    centres, geometry = _pieces(reader), TileGeometry(PIECE_UM + 2 * MARGIN_UM, mpp)
    picked = centres[evenly(len(centres), SAMPLED)]
    sample = [tile[::3, ::3].reshape(-1, 3) for _, tile in reader.tiles(picked, geometry) if tile is not None]
    frame = fit_stains(np.concatenate([np.zeros((0, 3), np.uint8), *sample]))
    tables, missing = [], 0
    for row, tile in reader.tiles(centres, geometry):
        if tile is None:
            missing += 1
        elif frame.tissue(tile[::4, ::4]).mean() >= LEAST_TISSUE:
            tables.append(_nuclei_in(tile, centres[row], geometry.tile_um / len(tile), frame, reader))
    if missing > MAX_UNDECODABLE * len(centres):
        found = f"{missing} of {len(centres)} pieces cannot be decoded"
        raise ReadError(where, found, f"at most {MAX_UNDECODABLE:.0%}", "is the slide's file whole?")
    columns = ["x", "y", *SHAPES]
    log.info("%s: %d pieces at %.3g µm a pixel, %d undecodable", where, len(centres), mpp, missing)
    together = pd.concat([pd.DataFrame(columns=columns, dtype=float), *tables], ignore_index=True)
    return together.sort_values(["y", "x"], kind="stable", ignore_index=True)


def _pieces(reader: SlideReader) -> Matrix:
    """Return the centres [µm] of the squares that a slide is cut into, along its own axes."""
    height, width = reader.image.shape[1:]
    step = PIECE_UM / reader.mpp
    x, y = (np.arange(0, size, step) + step / 2 for size in (width, height))
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    return apply_affine(grid, reader.to_um)


def _nuclei_in(tile: Tile, centre_um: Matrix, mpp: float, frame: Any, reader: SlideReader) -> pd.DataFrame:
    """Return the nuclei whose centre lies in a piece, not in its margin."""
    hematoxylin = frame.stains(tile)[0]
    shapes = measure_nuclei(segment_nuclei(hematoxylin, mpp, frame.nuclear), hematoxylin, mpp)
    away = shapes.centre_um + mpp / 2 - len(tile) * mpp / 2
    inside = np.flatnonzero((away >= -PIECE_UM / 2).all(axis=1) & (away < PIECE_UM / 2).all(axis=1))
    # A tile stands square in the slide's frame, that of microns may be turned.
    place = centre_um + away @ (reader.to_um[:2, :2] / reader.mpp).T
    columns = (np.log(shapes.area_um2), shapes.eccentricity, shapes.solidity, shapes.hematoxylin)
    table = pd.DataFrame({"x": place[:, 0], "y": place[:, 1], **dict(zip(SHAPES, columns, strict=True))})
    return table.iloc[inside]
