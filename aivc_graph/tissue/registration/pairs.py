"""Pairs of places that are known in both frames: by name, and what became of them once a map was fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.tissue.frame import Matrix, apply_affine
from aivc_graph.tissue.section import metadata_of

# Where a pair was put by the map, and where it is said to be.
PLACES = ("fine_x_um", "fine_y_um", "coarse_x_um", "coarse_y_um")


@dataclass(frozen=True)
class KnownPairs:
    """Places known in two frames.

    Parameters
    ----------
    names
        ``(pair,)``.
    moving
        ``(pair, 2)``, in the moving element's own units.
    fixed
        ``(pair, 2)``, in microns of the fixed frame, or in pixels until they are mapped there.
    """

    names: tuple[str, ...]
    moving: Matrix
    fixed: Matrix

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: NDArray[Any]) -> KnownPairs:
        """Return some of them, by number or mask."""
        chosen = np.arange(len(self))[rows]
        return KnownPairs(tuple(self.names[i] for i in chosen), self.moving[chosen], self.fixed[chosen])

    @classmethod
    def numbered(cls, rows: Matrix) -> KnownPairs:
        """Return rows ``(pair, 4)`` as pairs called by their number, from 1."""
        return cls(tuple(str(i + 1) for i in range(len(rows))), rows[:, :2], rows[:, 2:])


def pair_table(
    pairs: KnownPairs,
    kind: str,
    placed_um: Matrix,
    sigma_um: Matrix,
    fitted: NDArray[np.bool_],
    doubtful: NDArray[np.bool_],
) -> pd.DataFrame:
    """Return a row a pair: what became of it.

    Columns ``name``, ``kind``, ``fine_x_um``, ``fine_y_um``, where the map puts it, ``coarse_x_um``, ``coarse_y_um``,
    where it is said to be, ``residual_um``, how far that is apart, ``sigma_um``, the standard error of the map there
    along each axis, ``fitted``, and ``doubtful``.
    """
    off = np.linalg.norm(placed_um - pairs.fixed, axis=1)
    places = np.column_stack([placed_um, pairs.fixed])
    told = pd.DataFrame({"name": pairs.names, "kind": kind}).assign(**dict(zip(PLACES, places.T, strict=True)))
    return told.assign(residual_um=off, sigma_um=sigma_um, fitted=fitted, doubtful=doubtful)


def keep_pairs(section: Any, moving: str, fixed: str, told: pd.DataFrame | None) -> None:
    """Keep in a section's metadata what became of the pairs that placed `moving`, in place of earlier ones of it."""
    kept = [one for one in metadata_of(section).pop(names.PAIRS, []) if one["fine"] != moving]
    if told is not None:
        kept += told.assign(fine=moving, coarse=fixed).to_dict("records")
    if kept:
        metadata_of(section)[names.PAIRS] = kept


def move_pairs(section: Any, affine: Matrix) -> None:
    """Move the kept pairs of a section along, when all of it is placed in another frame by a ``(3, 3)`` map."""
    for one in metadata_of(section).get(names.PAIRS, []):
        for x, y in (PLACES[:2], PLACES[2:]):
            one[x], one[y] = apply_affine([[one[x], one[y]]], affine)[0].tolist()
