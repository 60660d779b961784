"""A slide as a section: pixel size known or asked for, channels named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aivc_graph.errors import ConfigError, ReadError
from aivc_graph.io.reading import read, recognise
from aivc_graph.tissue.frame import affine_of


def test_svs_is_recognised_and_placed_by_its_own_pixel_size(data_dir: Path) -> None:
    path = data_dir / "slides" / "CMU-1-Small-Region.svs"
    assert recognise(path) == "slide"
    section = read(path)
    assert section.attrs["aivc"]["section"] == "CMU-1-Small-Region"
    assert section.images["slide"].shape == (3, 2967, 2220)
    np.testing.assert_allclose(affine_of(section, "slide"), np.diag([0.499, 0.499, 1]))


def test_unknown_pixel_size_is_refused_and_mpp_offered(data_dir: Path) -> None:
    path = data_dir / "slides" / "openslide-fixtures" / "boxes.png"
    with pytest.raises(ReadError, match=r"pixel size: expected 0\.05–5 µm, found none; give it as `mpp:`"):
        read(path)
    thumbnail = read(path, mpp=20.0)
    np.testing.assert_allclose(affine_of(thumbnail, "slide"), np.diag([20, 20, 1]))


def test_coarser_level_has_larger_pixels(data_dir: Path) -> None:
    section = read(data_dir / "slides" / "openslide-fixtures" / "boxes.tiff", mpp=0.5, level=1)
    assert section.images["slide"].shape == (3, 125, 150)
    np.testing.assert_allclose(affine_of(section, "slide"), np.diag([1.0, 1.0, 1]))


def test_channels_are_named_and_counted(data_dir: Path) -> None:
    path = data_dir / "slides" / "test.ome.tif"
    section = read(path, mpp=0.5, channels=("dapi", "cd3", "ck"))
    assert list(section.images["slide"].c.values) == ["dapi", "cd3", "ck"]
    with pytest.raises(ReadError, match="channels: expected 3, one a channel, found 2 names"):
        read(path, mpp=0.5, channels=("dapi", "cd3"))


def test_unknown_option_is_refused(data_dir: Path) -> None:
    with pytest.raises(ConfigError, match=r"it takes: channels, image, level, mpp"):
        read(data_dir / "slides" / "test.ome.tif", reader="slide", micron=1)
