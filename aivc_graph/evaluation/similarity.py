"""How alike the two sides of a split are: similarity across it, and how near the tested are to what trained."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aivc_graph.evaluation.scoring import rounded
from aivc_graph.tissue.evenly import evenly

Floats = NDArray[np.floating]

SIMILARITY = "cosine of log profiles less the training mean, clipped at 0"
DISTANCE = "Euclidean in the first 20 principal components of training log profiles; median over tested nodes"
SAMPLE, CHUNK, COMPONENTS = 4000, 512, 20


def similarity_across(train: Floats, test: Floats) -> dict[str, Any]:
    """Return L(π), the similarity mass across the split as a share of all pairs' similarity.

    L(π) = Σ_{i train, j test} s_ij / Σ_{i<j} s_ij over both sides; ``by_chance`` is the share of such pairs, which a
    random split has on average. Pairs are summed in blocks, over at most 4,000 rows, each side thinned alike.

    Parameters
    ----------
    train, test
        Log profiles (node, gene).

    References
    ----------
    Joeres et al. 2025 (DataSAIL), doi:10.1038/s41467-025-58606-8.
    """
    share = min(1.0, SAMPLE / max(len(train) + len(test), 1))
    rows = [evenly(len(side), max(int(share * len(side)), 1)) for side in (train, test)]
    centre = train.mean(axis=0)
    both = np.concatenate([train[rows[0]] - centre, test[rows[1]] - centre]).astype(np.float32)
    unit = both / np.maximum(np.linalg.norm(both, axis=1, keepdims=True), 1e-12)
    n = len(rows[0])
    whole = across = 0.0
    for start in range(0, len(unit), CHUNK):
        block = np.maximum(unit[start : start + CHUNK] @ unit.T, 0.0)
        at = np.arange(len(block))
        block[at, start + at] = 0.0
        whole += float(block.sum(dtype=np.float64)) / 2
        across += float(block[: max(n - start, 0), n:].sum(dtype=np.float64))
    pairs = len(unit) * (len(unit) - 1) / 2
    return {
        "similarity": SIMILARITY,
        "value": rounded(across / whole) if whole > 0 else None,
        "by_chance": rounded(n * (len(unit) - n) / max(pairs, 1)),
        "n_train": n,
        "n_test": len(unit) - n,
    }


def nearest_distance(train: Floats, test: Floats) -> dict[str, Any]:
    """Return how far tested nodes are from the nearest training node, and from the nearest other tested node.

    Both among equally many, since the nearest of more is nearer. A ratio near 1: the sides are of one kind; far below
    1: training holds what is nearly the tested nodes themselves; above 1: the test asks for something new.

    Parameters
    ----------
    train, test
        Log profiles (node, gene).
    """
    queries = evenly(len(test), min(SAMPLE, len(train) + 1))
    if len(queries) < 2:
        return {"distance": DISTANCE, "to_train": None, "to_test": None, "ratio": None, "n": len(queries)}
    known = evenly(len(train), len(queries) - 1)
    basis, centre = principal_axes(train)
    asked, trained = (test[queries] - centre) @ basis, (train[known] - centre) @ basis
    to_train, to_test = nearest(trained, asked, 1)[1][:, 0], nearest(asked, asked, 2)[1][:, 1]
    medians = float(np.median(to_train)), float(np.median(to_test))
    return {
        "distance": DISTANCE,
        "to_train": rounded(medians[0]),
        "to_test": rounded(medians[1]),
        "ratio": rounded(medians[0] / medians[1]) if medians[1] > 0 else None,
        "n": len(queries),
    }


def principal_axes(train: Floats) -> tuple[Floats, Floats]:
    """Return the first principal axes (gene, ≤ 20) of at most 4,000 training rows, and their centre (gene,)."""
    centre = train.mean(axis=0)
    centred = (train[evenly(len(train), SAMPLE)] - centre).astype(np.float64)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return vectors[:, ::-1][:, :COMPONENTS], centre


def nearest(known: Floats, asked: Floats, k: int) -> tuple[NDArray[np.int64], Floats]:
    """Return rows and distances (asked, k) of the `k` nearest `known` points, nearest first; in blocks, not at once."""
    rows, away = np.empty((len(asked), k), np.int64), np.empty((len(asked), k))
    square = (known**2).sum(axis=1)
    for start in range(0, len(asked), CHUNK):
        block = asked[start : start + CHUNK]
        squared = np.maximum((block**2).sum(axis=1)[:, None] + square - 2 * block @ known.T, 0.0)
        found = np.argpartition(squared, k - 1, axis=1)[:, :k]
        order = np.argsort(np.take_along_axis(squared, found, axis=1), axis=1, kind="stable")
        rows[start : start + CHUNK] = np.take_along_axis(found, order, axis=1)
        away[start : start + CHUNK] = np.sqrt(np.take_along_axis(squared, rows[start : start + CHUNK], axis=1))
    return rows, away
