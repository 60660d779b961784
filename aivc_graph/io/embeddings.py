"""Embeddings computed elsewhere, hung on the nodes of a section by barcode or by place."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from scipy.spatial import cKDTree

from aivc_graph import names
from aivc_graph.errors import ConfigError, ReadError, TissueError
from aivc_graph.io.embedding_files import Embeddings, read_embeddings
from aivc_graph.settings import Settings
from aivc_graph.tissue.doubt import doubt
from aivc_graph.tissue.frame import Matrix, affine_of, apply_affine, diameters_um, positions_um
from aivc_graph.tissue.section import MIN_OVERLAP, SUFFIX, add_observation, metadata_of

log = logging.getLogger(__name__)

SECTION = "{section}"
SHOWN = 3


class EmbeddingTable(Settings):
    """Embeddings computed elsewhere, such as by UNI, GigaPath or Novae, from a file a section or one for all.

    Rows are joined to nodes by barcode where the file has barcodes, else the nearest row within `tolerance` is taken.
    A node without a row is unmeasured.

    Parameters
    ----------
    table
        HDF5 (CLAM, HEST, .h5ad), Zarr, .npz, Parquet or CSV; ``{section}`` in it stands for the name of each section.
    key
        Array of the values, or key of ``obsm``; by default ``features`` or ``embeddings``, of an AnnData its ``X``.
    section_by
        Column that holds the section of each row, where one file holds several.
    level
        Nodes that the rows are of; by default patches where there are some, else cells.
    by
        Join by ``barcode`` or by ``position``; by default by barcode where the file has barcodes.
    strip_suffix
        Cut a trailing ``-1`` (or other ``-<number>``) from the barcodes of both sides before joining.
    frame
        What coordinates are in: ``microns`` of the section, pixels of its ``slide`` at full size, or the unit that the
        ``nodes`` were delivered in, for Visium pixels of the full image.
    tile
        Edge of the tiles whose upper left corners the coordinates are [unit of `frame`]; 0 for centres; by default as
        the file says beside its ``coords``, as CLAM's patches and TRIDENT do, else 0.
    tolerance
        Farthest that a row may lie from its node [unit of `frame`]; by default the diameter of a node.
    """

    table: Path
    key: str | None = None
    section_by: str | None = None
    level: Literal["cell", "patch"] | None = None
    by: Literal["barcode", "position"] | None = None
    strip_suffix: bool = False
    frame: Literal["microns", "slide", "nodes"] | None = None
    tile: float | None = Field(None, ge=0)
    tolerance: float | None = Field(None, gt=0)

    def path_of(self, section: str) -> Path:
        """Return the file that holds the embeddings of a section."""
        return Path(str(self.table).replace(SECTION, section))

    def files(self) -> list[Path]:
        """Return all files there are."""
        parts = self.table.parts
        named = next((i for i, part in enumerate(parts) if SECTION in part), None)
        if named is None:
            return [self.table]
        pattern = str(Path(*parts[named:])).replace(SECTION, "*")
        return sorted(Path(*parts[:named]).glob(pattern))


def add_embeddings(section: Any, features: EmbeddingTable) -> bool:
    """Hang a section's rows of `features` on its nodes as ``<level>_histology`` ``(node, feature)``, float32.

    Returns whether there were any: a section without a file or rows of its own is left unmeasured, with a doubt.

    Raises
    ------
    ReadError
        As `read_embeddings`; values that are not finite.
    ConfigError
        Rows that only their place tells apart, and no `frame`.
    TissueError
        No such level; a barcode twice; no row that belongs to a node, with examples of both.
    """
    name = metadata_of(section)["section"]
    path = features.path_of(name)
    if path != features.table and not path.exists():
        doubt(name, f"no {path.name}: its nodes have no embeddings", "a file a section", "check `table:`")
        return False
    rows = read_embeddings(path, features.key, features.section_by).of(name)
    if not len(rows.values):
        doubt(name, f"no row of {path.name}: its nodes have no embeddings", "rows of it", "check `section_by:`")
        return False
    level = features.level or (names.PATCH if names.PATCH in section.shapes else names.CELL)
    if level not in section.shapes:
        there = f"levels here: {', '.join(section.shapes)}"
        raise TissueError(f"{name} · {path.name}", f"no {level} nodes", mend=there)
    by_place = features.by == "position" or (features.by is None and rows.barcode is None)
    row = (_by_place if by_place else _by_barcode)(section, level, rows, features, f"{name} · {path.name}")
    found = np.flatnonzero(row >= 0)
    _hang(section, level, rows, row[found], found, f"{name} · {path.name}")
    return True


def _by_barcode(
    section: Any, level: str, rows: Embeddings, features: EmbeddingTable, where: str
) -> NDArray[np.integer]:
    """Return the row of each node (node,), -1 where it has none."""
    if rows.barcode is None:
        raise TissueError(where, "no barcodes", "rows with barcodes", "join them `by: position`")
    nodes: pd.Index = section.shapes[level].index.astype(str)
    barcode: pd.Index = pd.Series(rows.barcode).pipe(pd.Index)
    bare, stripped = nodes.str.replace(SUFFIX, "", regex=True), barcode.str.replace(SUFFIX, "", regex=True)
    if features.strip_suffix:
        nodes, barcode = bare, stripped
    if barcode.has_duplicates:
        twice = barcode[barcode.duplicated()][0]
        raise TissueError(where, f"barcode {twice!r} twice", "a row a node", "name the column of its section_by")
    row = barcode.get_indexer(nodes)
    if (row < 0).all():
        alike = bool(bare.isin(stripped).any())
        mend = "set `strip_suffix: true`" if alike else "are they of this section, and of this level?"
        raise TissueError(where, f"rows {_examples(barcode)}", f"{level} nodes such as {_examples(nodes)}", mend)
    return row


def _by_place(section: Any, level: str, rows: Embeddings, features: EmbeddingTable, where: str) -> NDArray[np.integer]:
    """Return the row nearest to each node (node,), -1 where none lies within the tolerance."""
    if rows.xy is None:
        raise TissueError(where, "no coordinates", "rows with coordinates", "join them `by: barcode`")
    if features.frame is None:
        raise ConfigError(where, "coordinates in a unit unknown", "`frame:`", "say slide, nodes or microns")
    to_um = _frame(section, level, features.frame, where)
    unit = float(np.sqrt(abs(np.linalg.det(to_um[:2, :2]))))
    tile = rows.tile if features.tile is None else features.tile
    centres, nodes = apply_affine(rows.xy + tile / 2, to_um), positions_um(section, level)
    within = float(np.median(diameters_um(section, level)))
    within = within if features.tolerance is None else features.tolerance * unit
    distance, row = cKDTree(centres).query(nodes)
    if (distance > within).all():
        shown = "; ".join(f"{x:,.0f}, {y:,.0f}" for x, y in centres[:SHOWN])
        expected = "; ".join(f"{x:,.0f}, {y:,.0f}" for x, y in nodes[:SHOWN])
        found = f"rows at {shown} µm, the nearest {distance.min():,.0f} µm off"
        mend = "check `frame:`, `tile:` and `tolerance:`"
        raise TissueError(where, found, f"one within {within:,.3g} µm of nodes such as {expected} µm", mend)
    return np.where(distance <= within, row, -1)


def _frame(section: Any, level: str, frame: str, where: str) -> Matrix:
    if frame == "microns":
        return np.eye(3)
    element = names.SLIDE if frame == "slide" else level
    if element not in section:
        raise TissueError(where, "no slide", "one, for coordinates in its pixels", "set another `frame:`")
    to_um = affine_of(section, element)
    if to_um is None:
        raise TissueError(where, f"a {element} without a place in microns", mend="give its `mpp`, or register it")
    return to_um


def _hang(
    section: Any, level: str, rows: Embeddings, row: NDArray[np.integer], node: NDArray[np.integer], where: str
) -> None:
    from anndata import AnnData

    values, index = rows.values[row], section.shapes[level].index
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        found = f"NaN or infinity in {int(bad.sum()):,} of {len(bad):,} rows, first of {index[node][bad][0]!r}"
        raise ReadError(where, found, "finite values", "compute them again, or drop the rows")
    if len(node) < MIN_OVERLAP * len(index):
        found = f"embeddings of {len(node):,} of {len(index):,} {level} nodes, the others are unmeasured"
        doubt(where, found, f"≥ {MIN_OVERLAP:.0%}", "are they of the whole section?")
    log.info("%s: %d of %d %s nodes, %d features", where, len(node), len(index), level, values.shape[1])
    obs, var = pd.DataFrame(index=index[node]), pd.DataFrame(index=list(rows.features))
    add_observation(section, level, names.HISTOLOGY, AnnData(values, obs=obs, var=var))


def _examples(ids: pd.Index) -> str:
    return ", ".join(map(repr, ids[:SHOWN]))
