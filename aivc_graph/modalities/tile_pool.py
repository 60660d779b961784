"""Measure a stream of tiles on several cores, few batches in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aivc_graph.modalities.tile_features import AbstractTileExtractor

BATCH = 16
IN_FLIGHT = 4

Rows = NDArray[np.float32]
Named = tuple[int, str, NDArray[np.uint8]]
Keys = list[tuple[int, str]]


def measure_tiles(
    tiles: Iterator[Named], extractor: AbstractTileExtractor, workers: int
) -> Iterator[tuple[Keys, Rows]]:
    """Yield ((row, name) of each tile of a batch, features) in the order of `tiles`.

    Threads, since most of the work is in SciPy and NumPy calls that let other threads run: two are 1.5 times as fast as
    one. Processes would be a third faster still from some thousand tiles on, but starting them runs a user's script a
    second time unless it is guarded, which a library must not do.

    Parameters
    ----------
    tiles
        (row, name, tile) one after the other.
    workers
        Threads; with one, or for an extractor that uses many cores by itself, all is done in this one.
    """
    batches = iter(lambda: list(islice(tiles, BATCH)), [])
    if workers < 2 or not extractor.parallel:
        for batch in batches:
            yield _keys(batch), extractor(_stack(batch))
        return
    waiting: list[tuple[Keys, Future[Rows]]] = []
    with ThreadPoolExecutor(workers) as pool:
        for batch in batches:
            waiting.append((_keys(batch), pool.submit(extractor, _stack(batch))))
            if len(waiting) > IN_FLIGHT * workers:
                keys, future = waiting.pop(0)
                yield keys, future.result()
        for keys, future in waiting:
            yield keys, future.result()


def _keys(batch: list[Named]) -> Keys:
    return [(row, name) for row, name, _ in batch]


def _stack(batch: list[Named]) -> NDArray[Any]:
    return np.stack([tile for _, _, tile in batch])
