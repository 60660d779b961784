"""Textures of channels whose statistics are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.feature import local_binary_pattern

from aivc_graph.modalities.texture import texture_features

MPP = 0.75


def test_stripes_are_alike_along_and_unlike_across() -> None:
    stripes = np.where(np.arange(60) // 2 % 2, 1.0, 0.0)[:, None].repeat(60, axis=1).astype(np.float32)
    found = texture_features(stripes, MPP)  # two pixels, the shorter lag, are half a period
    assert found["glcm_1.5um_contrast"] == pytest.approx(12**2 / 2) and found["glcm_6um_contrast"] == 0
    assert found["glcm_1.5um_homogeneity"] == pytest.approx((1 + 1 / 13) / 2) and found["coherence"] == pytest.approx(1)
    assert found["glcm_6um_entropy_bit"] == pytest.approx(1, abs=1e-3)


def test_pairs_are_those_of_every_pixel_and_the_one_a_lag_away() -> None:
    channel = np.random.default_rng(0).random((30, 40)).astype(np.float32)
    grey = np.clip(channel * 16 / 1.25, 0, 15).astype(int)
    for name, lag in (("1.5um", 2), ("6um", 8)):
        apart = np.concatenate([(grey[:-lag] - grey[lag:]).ravel(), (grey[:, :-lag] - grey[:, lag:]).ravel()])
        assert texture_features(channel, MPP)[f"glcm_{name}_contrast"] == pytest.approx((apart**2).mean())


def test_patterns_are_told_as_scikit_image_tells_them_but_for_its_rounded_ring() -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(0).random((80, 80)), 2.0)
    channel = np.asarray(3 * (noise - noise.min()), np.float32)
    grey = np.clip(channel * 200, 0, 255).astype(np.uint8)
    code = local_binary_pattern(grey, 8, 1, "uniform")[1:-1, 1:-1].astype(int)
    theirs = np.bincount(code.ravel(), minlength=10) / code.size
    ours = np.array([texture_features(channel, MPP)[f"lbp_{k}"] for k in range(10)])
    assert ours.sum() == pytest.approx(1) and np.abs(ours - theirs).max() < 0.05
    assert np.corrcoef(ours, theirs)[0, 1] > 0.9


def test_a_flat_or_tiny_channel_has_finite_textures() -> None:
    for channel in (np.full((40, 40), 0.5, np.float32), np.zeros((8, 8), np.float32)):
        found = texture_features(channel, MPP)
        assert np.isfinite(list(found.values())).all() and found["lbp_8"] == 1 and found["glcm_1.5um_entropy_bit"] == 0
