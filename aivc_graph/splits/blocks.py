"""Cut a section into square blocks, give each block a label, and leave a gap between blocks of different labels."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.errors import ConfigError
from aivc_graph.splits.design import levels_of, write_labels
from aivc_graph.tissue.frame import is_dissociated, positions_um
from aivc_graph.tissue.section import metadata_of

# Who keeps its nodes at a border: the scores come from the test nodes, so they give way last.
RANK = (names.TEST, names.VALIDATION, names.TRAIN)


def label_blocks(
    sections: Sequence[Any], block_um: float, buffer_um: float, shares: dict[str, float], seed: int
) -> None:
    """Label the nodes of every section by block; all levels of a section share its blocks.

    Blocks are squares of a grid through the origin of the section's frame. Whole blocks are drawn until a label has its
    share of the section's nodes. A node closer than `buffer_um` to an occupied block that ranks above its own (test
    over validation over train) becomes unused; so two nodes of different labels are never closer than `buffer_um`.
    Dissociated cells lie in no block: all of them train.

    Parameters
    ----------
    block_um, buffer_um
        Edge of a block and width of the gap [µm].
    shares
        Share of the nodes, each 0–1, for ``"test"`` and ``"validation"``; the rest trains.
    seed
        With the section's name it fixes the draw, whatever other sections there are.

    Raises
    ------
    ConfigError
        If a section has too few blocks, or if the gaps leave a label without nodes.
    """
    for section in sections:
        if is_dissociated(section):
            write_labels(section, names.CELL, names.TRAIN)
            continue
        where = f"split · {metadata_of(section)['section']}"
        positions = {level: positions_um(section, level) for level in levels_of(section)}
        steps = np.floor(np.concatenate(list(positions.values())) / block_um).astype(np.int64)
        grid = _draw_blocks(steps - steps.min(axis=0), shares, _generator(section, seed), where)
        corner = steps.min(axis=0) * block_um
        labels = {level: _label(xy - corner, grid, block_um, buffer_um) for level, xy in positions.items()}
        _check_left(labels, shares, where)
        for level, found in labels.items():
            write_labels(section, level, found)


def _generator(section: Any, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(str(metadata_of(section)["section"]).encode())])


def _draw_blocks(
    of_nodes: NDArray[np.int64], shares: dict[str, float], generator: np.random.Generator, where: str
) -> NDArray[np.int64]:
    """Return the rank of each block ``(x, y)``; one below all for a block without nodes."""
    occupied, sizes = np.unique(of_nodes, axis=0, return_counts=True)
    wanted = {label: share for label, share in shares.items() if share > 0}
    if len(occupied) < len(wanted) + 1:
        found = f"{len(occupied)} blocks for {len(wanted) + 1} labels"
        raise ConfigError(where, found, mend="take a smaller `block_um`, or split by group")
    grid = np.full(of_nodes.max(axis=0) + 1, len(RANK))
    grid[tuple(occupied.T)] = RANK.index(names.TRAIN)
    order = generator.permutation(len(occupied)).tolist()
    for n_later, (name, share) in zip(range(len(wanted), 0, -1), wanted.items(), strict=True):
        taken = 0.0
        while len(order) > n_later and (taken == 0 or taken + sizes[order[-1]] / 2 <= share * sizes.sum()):
            block = order.pop()
            grid[tuple(occupied[block])] = RANK.index(name)
            taken += sizes[block]
    return grid


def _label(xy: NDArray[np.float64], grid: NDArray[np.int64], block_um: float, buffer_um: float) -> NDArray[np.str_]:
    """Return each node's label: its block's, or ``"unused"`` if it is too near to a block that ranks above that."""
    reach = int(np.ceil(buffer_um / block_um))
    padded = np.pad(grid, reach, constant_values=len(RANK))
    home = np.clip(np.floor(xy / block_um).astype(np.int64), 0, np.array(grid.shape) - 1)
    own = grid[tuple(home.T)]
    too_near = np.zeros(len(xy), bool)
    for offset in itertools.product(range(-reach, reach + 1), repeat=2):
        block = home + offset
        low = block * block_um
        away = np.maximum(np.maximum(low - xy, xy - low - block_um), 0.0)
        too_near |= (padded[tuple((block + reach).T)] < own) & (np.hypot(*away.T) < buffer_um)
    return np.where(too_near, names.UNUSED, np.array(RANK)[own])


def _check_left(labels: dict[str, NDArray[Any]], shares: dict[str, float], where: str) -> None:
    everywhere = np.concatenate(list(labels.values()))
    for label in (names.TRAIN, *(name for name, share in shares.items() if share > 0)):
        if not (everywhere == label).any():
            found = f"no {label} node left beside the gaps"
            raise ConfigError(where, found, "some", "take larger blocks, a narrower `buffer_um`, or smaller shares")
