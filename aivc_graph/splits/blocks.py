"""Cut a section into square blocks, give each block a label, and leave a gap between blocks of different labels."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aivc_graph import names
from aivc_graph.errors import ConfigError
from aivc_graph.splits.design import levels_of, write_labels
from aivc_graph.tissue.frame import positions_um
from aivc_graph.tissue.section import metadata_of

# Who keeps its nodes at a border: the scores come from the test nodes, so they give way last.
RANK = {names.TEST: 0, names.VALIDATION: 1, names.TRAIN: 2}
Block = tuple[int, int]


def label_blocks(
    sections: Sequence[Any], block_um: float, buffer_um: float, shares: dict[str, float], seed: int
) -> None:
    """Label the nodes of every section by block; all levels of a section share its blocks.

    Blocks are squares of a grid through the origin of the section's frame. Whole blocks are drawn until a label has its
    share of the section's nodes. A node closer than `buffer_um` to an occupied block that ranks above its own (test
    over validation over train) becomes unused; so two nodes of different labels are never closer than `buffer_um`.

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
        where = f"split · {metadata_of(section)['section']}"
        positions = {level: positions_um(section, level) for level in levels_of(section)}
        blocks = {level: np.floor(xy / block_um).astype(np.int64) for level, xy in positions.items()}
        label_of = _draw_blocks(np.concatenate(list(blocks.values())), shares, _generator(section, seed), where)
        labels = {}
        for level, xy in positions.items():
            own = np.array([label_of[x, y] for x, y in blocks[level].tolist()], dtype=object)
            labels[level] = _with_gap(xy, own, label_of, block_um, buffer_um)
        _check_left(labels, shares, where)
        for level, found in labels.items():
            write_labels(section, level, found)


def _generator(section: Any, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(str(metadata_of(section)["section"]).encode())])


def _draw_blocks(
    of_nodes: NDArray[np.int64], shares: dict[str, float], generator: np.random.Generator, where: str
) -> dict[Block, str]:
    """Return the label of each occupied block."""
    occupied, sizes = np.unique(of_nodes, axis=0, return_counts=True)
    wanted = {label: share for label, share in shares.items() if share > 0}
    if len(occupied) < len(wanted) + 1:
        found = f"{len(occupied)} blocks for {len(wanted) + 1} labels"
        raise ConfigError(where, found, mend="take a smaller `block_um`, or split by group")
    order = generator.permutation(len(occupied)).tolist()
    label = {}
    for n_later, (name, share) in zip(range(len(wanted), 0, -1), wanted.items(), strict=True):
        taken = 0.0
        while len(order) > n_later and (taken == 0 or taken + sizes[order[-1]] / 2 <= share * sizes.sum()):
            block = order.pop()
            label[block], taken = name, taken + sizes[block]
    return {(x, y): label.get(i, names.TRAIN) for i, (x, y) in enumerate(occupied.tolist())}


def _with_gap(
    xy: NDArray[np.float64], own: NDArray[Any], label_of: dict[Block, str], block_um: float, buffer_um: float
) -> NDArray[Any]:
    """Return the labels with ``"unused"`` for nodes too near to a block that ranks above their own."""
    out, rank = own.copy(), np.array([RANK[label] for label in own])
    for (i, j), label in label_of.items():
        low = np.array([i, j]) * block_um
        lower = np.flatnonzero(rank > RANK[label])
        away = np.maximum(np.maximum(low - xy[lower], xy[lower] - low - block_um), 0.0)
        out[lower[np.hypot(*away.T) < buffer_um]] = names.UNUSED
    return out


def _check_left(labels: dict[str, NDArray[Any]], shares: dict[str, float], where: str) -> None:
    everywhere = np.concatenate(list(labels.values()))
    for label in (names.TRAIN, *(name for name, share in shares.items() if share > 0)):
        if not (everywhere == label).any():
            found = f"no {label} node left beside the gaps"
            raise ConfigError(where, found, "some", "take larger blocks, a narrower `buffer_um`, or smaller shares")
