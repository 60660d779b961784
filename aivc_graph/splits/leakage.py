"""What stands on two sides of a split: donors, and the same content under two names."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import ConfigError, Faults, TissueError
from aivc_graph.splits.copies import copy_labels, row_hashes
from aivc_graph.splits.design import labels_of, levels_of
from aivc_graph.tissue.frame import is_dissociated
from aivc_graph.tissue.section import metadata_of

MAX_SHARE = 0.01
MIN_ROWS = 2
# Features that copies which are not exact are looked for among: of fewer, cells may be alike by chance.
LEAST_COMPARED = 30
MOSTLY = 0.5
IMAGE_GRID = 8
IMAGE_TILE_PX = 64
COMPARED = (names.RNA, names.ADT, names.ATAC, names.LOG_EXPRESSION)
SIDES = (names.TRAIN, names.VALIDATION, names.TEST)


@dataclass(frozen=True)
class Duplicate:
    """Content at two places: `what`, where, how many rows (or 1 image), if a split parts them, `share` of the fewer."""

    what: str
    a: str
    b: str
    n: int
    crosses: bool
    share: float = 1.0


def shared_groups(sections: Sequence[Any]) -> dict[str, dict[str, list[str]]]:
    """Return the donors that stand on several sides, each with its sections by side.

    Sections without a donor are left out.

    Examples
    --------
    >>> shared_groups([])
    {}
    """
    sides: dict[str, dict[str, list[str]]] = {}
    for section in sections:
        metadata = metadata_of(section)
        if metadata.get("donor") is not None:
            for side in sorted(_sides(section)):
                sides.setdefault(str(metadata["donor"]), {}).setdefault(side, []).append(str(metadata["section"]))
    return {donor: found for donor, found in sides.items() if len(found) > 1}


def check_donors(sections: Sequence[Any]) -> None:
    """Raise a `ConfigError` that names every donor on two sides and its sections there."""
    faults = Faults(ConfigError)
    for donor, sides in shared_groups(sections).items():
        found = "; ".join(f"{side}: {', '.join(places)}" for side, places in sides.items())
        mend = "split by donor, or set `share_donors: true` if that is the question"
        faults.add("split", f"donor {donor!r} on both sides ({found})", "each donor on one side", mend)
    faults.raise_if_any()


def duplicate_content(sections: Sequence[Any], *, accept: bool = False) -> list[Duplicate]:
    """Return the content that is there twice, within a section or in two; raise if a split parts it, unless accepted.

    Rows of counts, or of their logarithms, are compared by a hash of feature names and values, whatever their order and
    barcode, where at least ten features were seen; cells without positions also by `copy_labels`, which finds copies
    that were scaled or changed a little, where at least thirty features are shared. Pictures are compared by a hash of
    their size and of 64 tiles of their finest pixels.

    Raises
    ------
    TissueError
        If the two sides of a split share a picture, or more than 1 % (and at least two) of a table's rows, and that is
        not to `accept`; or two modalities of the same nodes are one and the same table.
    """
    tables, faults = [table for section in sections for table in _hashed_tables(section)], Faults(TissueError)
    _one_measurement(tables, faults)
    faults.raise_if_any()
    found = [*_duplicate_rows(tables), *_duplicate_images(sections)]
    for twice in found:
        if twice.crosses:
            both = f"the same {twice.what} ({twice.n:,}) as {twice.b}, on another side of the split"
            mend = "drop one of the two, keep both on one side, or set `share_content: true` if that is the question"
            faults.add(twice.a, both, "no content on two sides", mend)
    if not accept:
        faults.raise_if_any()
    return found


def accepted_leaks(sections: Sequence[Any], duplicates: Sequence[Duplicate], *, share_donors: bool) -> list[str]:
    """Say in a sentence each what stands on two sides of the split because the user accepts it; none in a clean split.

    Parameters
    ----------
    duplicates
        As `duplicate_content` returns them.
    share_donors
        Whether donors were to be apart, but for the user's word.
    """
    told = []
    for donor, sides in shared_groups(sections).items() if share_donors else ():
        told.append(f"donor {donor} has sections on the sides {' and '.join(sides)}")
    for one in duplicates:
        if one.crosses:
            told.append(f"{one.a} holds the same {one.what} ({one.n:,}) as {one.b}, on another side")
    return told


@dataclass(frozen=True)
class _Hashed:
    """The comparable rows of one table: a hash of each, and a bit for the side it stands on.

    Of cells without positions also their values, by which copies that are not exact are found.
    """

    where: str
    modality: str
    hashes: NDArray[np.uint64]
    side: NDArray[np.int64]
    nodes: tuple[str, str]
    values: Any = None
    features: pd.Index = field(default_factory=lambda: pd.Index([]))


def _duplicate_rows(tables: list[_Hashed]) -> list[Duplicate]:
    found = []
    for modality in sorted({table.modality for table in tables}):
        group = _with_copies([table for table in tables if table.modality == modality])
        values, n = np.unique(np.concatenate([table.hashes for table in group]), return_counts=True)
        twice = values[n > 1]
        for a, b in itertools.combinations_with_replacement(group, 2):
            found += _shared_rows(a, b, twice)
    return found


def _with_copies(group: list[_Hashed]) -> list[_Hashed]:
    """Give cells without positions one hash where they are copies, though scaled or with a little noise."""
    loose = [table for table in group if table.values is not None]
    if not loose:
        return group
    shared = functools.reduce(lambda a, b: a[a.isin(b)], [table.features for table in loose])
    if len(shared) < LEAST_COMPARED:
        return group
    x = sparse.vstack([table.values[:, table.features.get_indexer(shared)] for table in loose], format="csr")
    own, code = (
        np.concatenate([table.hashes for table in loose]),
        np.unique(copy_labels(x, shared)[0], return_inverse=True)[1],
    )
    first = np.full(int(code.max(initial=-1)) + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(first, code, own)
    alike = iter(np.split(first[code], np.cumsum([len(table.hashes) for table in loose])[:-1]))
    return [table if table.values is None else replace(table, hashes=next(alike)) for table in group]


def _one_measurement(tables: list[_Hashed], faults: Faults) -> None:
    """Refuse a table that holds what another of the same nodes holds, as where one file is named for both."""
    for a, b in itertools.combinations(tables, 2):
        same = a.nodes == b.nodes and a.modality != b.modality and len(a.hashes)
        if same and np.isin(a.hashes, b.hashes).mean() > MOSTLY:
            faults.add(b.where, f"the same values as {a.where}", "another modality", "name the file of each modality")


def _shared_rows(a: _Hashed, b: _Hashed, twice: NDArray[np.uint64]) -> list[Duplicate]:
    """Compare two tables, or one with itself, over the hashes that occur twice anywhere."""
    seen, sides = np.zeros((2, len(twice)), np.int64), np.zeros(len(twice), np.int64)
    for i, table in enumerate((a, b)):
        rows = np.isin(table.hashes, twice)
        at = np.searchsorted(twice, table.hashes[rows])
        np.add.at(seen[i], at, 1)
        np.bitwise_or.at(sides, at, table.side[rows])
    shared = seen[0] > 1 if a is b else (seen > 0).all(axis=0)
    if not shared.any():
        return []
    crossing = shared & (sides & (sides - 1) != 0)  # more than one bit
    fewer = min(len(a.hashes), len(b.hashes))
    crosses = bool(crossing.sum() >= max(MIN_ROWS, MAX_SHARE * fewer))
    return [Duplicate("rows of counts", a.where, b.where, int(shared.sum()), crosses, float(shared.sum() / fewer))]


def _hashed_tables(section: Any) -> list[_Hashed]:
    out = []
    for key, table in section.tables.items():
        level, _, modality = key.partition("_")
        if modality in COMPARED and level in section.shapes:
            hashes, rich = row_hashes(table.X, table.var_names)
            labels = labels_of(section, level).reindex(table.obs[names.BARCODE]).to_numpy(dtype=str)
            keep = rich & np.isin(labels, SIDES)
            side = 1 << np.array([SIDES.index(label) for label in labels[keep]], dtype=np.int64)
            name = str(metadata_of(section)["section"])
            loose = sparse.csr_matrix(table.X)[keep] if is_dissociated(section) else None
            one = _Hashed(
                f"{name} · table {key!r}", modality, hashes[keep], side, (name, level), loose, table.var_names
            )
            out.append(one)
    return out


def _duplicate_images(sections: Sequence[Any]) -> list[Duplicate]:
    images = [(section, name) for section in sections for name in section.images]
    hashes = [_image_hash(section.images[name]) for section, name in images] if len(images) > 1 else []
    found = []
    for i, j in itertools.combinations(range(len(hashes)), 2):
        if hashes[i] == hashes[j] and hashes[i]:
            (one, a), (two, b) = images[i], images[j]
            places = [f"{metadata_of(s)['section']} · image {name!r}" for s, name in ((one, a), (two, b))]
            crosses = one is not two and len(_sides(one) | _sides(two)) > 1
            found.append(Duplicate("image", places[0], places[1], 1, crosses))
    return found


def _image_hash(image: Any) -> str:
    """Return a hash of an image's size and of tiles spread over it; empty for a blank one."""
    from dask.base import compute

    height, width = image.shape[1:]
    tiles = []
    for y in np.linspace(0, max(height - IMAGE_TILE_PX, 0), IMAGE_GRID).astype(int):
        for x in np.linspace(0, max(width - IMAGE_TILE_PX, 0), IMAGE_GRID).astype(int):
            tiles.append(image.data[:, y : y + IMAGE_TILE_PX, x : x + IMAGE_TILE_PX].ravel())
    pixels = np.concatenate(compute(*tiles, scheduler="synchronous"))  # at once: tiles share chunks of the file
    if pixels.size == 0 or np.ptp(pixels) == 0:
        return ""
    return hashlib.blake2b(repr(tuple(image.shape)).encode() + pixels.tobytes(), digest_size=16).hexdigest()


def _sides(section: Any) -> set[str]:
    """Return the sides of the split that a section's nodes stand on."""
    return set().union(*(labels_of(section, level).unique() for level in levels_of(section))) & set(SIDES)
