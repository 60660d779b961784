"""Measure a stream of tiles on several cores, few batches in memory at a time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aivc_graph.modalities.tile_features import AbstractTileExtractor

BATCH = 16
IN_FLIGHT = 4
WORTH_PROCESSES = 800

Rows = NDArray[np.float32]
Named = tuple[int, str, NDArray[np.uint8]]
Keys = list[tuple[int, str]]


def measure_tiles(
    tiles: Iterator[Named], extractor: AbstractTileExtractor, workers: int, expected: int
) -> Iterator[tuple[Keys, Rows]]:
    """Yield ((row, name) of each tile of a batch, features) in the order of `tiles`.

    Parameters
    ----------
    tiles
        (row, name, tile) one after the other.
    workers
        Cores; with one, or for an extractor that uses many by itself, all is done in this thread.
    expected
        About how many tiles will come. Threads start at once but share an interpreter; processes take two seconds to
        start and then are a third faster on two cores, so they pay from about 800 tiles.
    """
    batches = iter(lambda: list(islice(tiles, BATCH)), [])
    if workers < 2 or not extractor.parallel:
        for batch in batches:
            yield _keys(batch), extractor(_stack(batch))
        return
    waiting: list[tuple[Keys, Future[Rows]]] = []
    with _pool(workers, expected) as pool:
        for batch in batches:
            waiting.append((_keys(batch), pool.submit(_call, extractor, _stack(batch))))
            if len(waiting) > IN_FLIGHT * workers:
                keys, future = waiting.pop(0)
                yield keys, future.result()
        for keys, future in waiting:
            yield keys, future.result()


def _pool(workers: int, expected: int) -> Executor:
    if expected < WORTH_PROCESSES:
        return ThreadPoolExecutor(workers)
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))


def _call(extractor: AbstractTileExtractor, tiles: NDArray[np.uint8]) -> Rows:
    return extractor(tiles)


def _keys(batch: list[Named]) -> Keys:
    return [(row, name) for row, name, _ in batch]


def _stack(batch: list[Named]) -> NDArray[Any]:
    return np.stack([tile for _, _, tile in batch])
