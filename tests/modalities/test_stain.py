"""Stains of one slide: known vectors come back, poor slides fall back, padding is not glass."""

from __future__ import annotations

import numpy as np
import pytest

from aivc_graph.modalities.stain import REFERENCE, fit_stains

VECTORS = np.array([[0.72, 0.62, 0.31], [0.20, 0.90, 0.38]])
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)


def slide_pixels(n: int = 20_000, white: float = 240.0, glass: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    amounts = np.where(rng.random((n, 1)) < 0.4, [[1.0, 0.1]], [[0.03, 0.5]]) * rng.gamma(8, 1 / 8, (n, 2))
    amounts[rng.random(n) < glass] = 0
    return np.clip(white * 10 ** -(amounts @ VECTORS), 0, 255).round().astype(np.uint8), amounts


def test_known_vectors_and_amounts_come_back() -> None:
    pixels, amounts = slide_pixels()
    frame = fit_stains(pixels)
    assert frame.white == pytest.approx(240, abs=2)
    assert np.degrees(np.arccos(np.clip((frame.vectors * VECTORS).sum(axis=1), -1, 1))).max() < 6
    found = frame.stains(pixels)
    assert np.corrcoef(found[0], amounts[:, 0])[0, 1] > 0.98 and np.corrcoef(found[1], amounts[:, 1])[0, 1] > 0.95
    assert found[0][amounts[:, 0] > 0.6].min() > frame.nuclear > np.percentile(found[0][amounts[:, 0] < 0.1], 99)


def test_padding_is_neither_glass_nor_tissue() -> None:
    pixels, amounts = slide_pixels(white=225.0)
    padded = np.concatenate([pixels, np.full((4000, 3), 255, np.uint8), np.zeros((4000, 3), np.uint8)])
    frame = fit_stains(padded)
    assert frame.white == pytest.approx(225, abs=2)
    assert not frame.tissue(padded[len(pixels) :]).any()
    assert (frame.tissue(pixels) == (amounts.sum(axis=1) > 0.2))[amounts.sum(axis=1) != 0].mean() > 0.97


@pytest.mark.parametrize(
    "pixels", [np.zeros((0, 3)), np.full((9000, 3), 255), np.full((9000, 3), 240), np.full((9000, 3), (180, 90, 150))]
)
def test_a_slide_without_two_stains_gets_the_reference(pixels: np.ndarray) -> None:
    frame = fit_stains(pixels.astype(np.uint8))
    np.testing.assert_array_equal(frame.vectors, REFERENCE)
    assert np.isfinite(frame.stains(np.full((2, 2, 3), 128, np.uint8))).all() and (frame.scale > 0).all()
