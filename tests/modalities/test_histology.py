"""Histology features on painted tissue with known nuclei, and on real H&E."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from anndata import AnnData
from scipy import ndimage

from aivc_graph.errors import ReadError, TissueError
from aivc_graph.modalities.histology import add_histology
from aivc_graph.modalities.histology_features import HistologyFeatures
from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.section import add_level, add_slide, new_section

MPP = 0.5
HEMATOXYLIN, EOSIN = np.array([0.65, 0.70, 0.29]), np.array([0.10, 0.96, 0.25])


Grid = tuple[np.ndarray, np.ndarray]
BLOCK = {"dtype": np.uint8, "meta": np.empty((0, 0, 0), np.uint8)}


def painted(nuclei_px: np.ndarray, size: int = 1200, white: float = 240.0, stain: float = 1.0) -> np.ndarray:
    """RGB (y, x, 3): eosin over the left two thirds, dark discs of 4 µm radius at `nuclei_px` (x, y)."""
    noise = np.random.default_rng(0).normal(0, 0.02, (size, size))
    eosin = np.where(np.arange(size) < size * 2 // 3, 0.35 + noise, 0.0)
    seeds = np.ones((size, size))
    seeds[nuclei_px[:, 1].astype(int), nuclei_px[:, 0].astype(int)] = 0
    blue = (ndimage.distance_transform_edt(seeds) <= 4 / MPP).astype(float)
    density = stain * (blue[..., None] * HEMATOXYLIN + eosin[..., None] * EOSIN)
    return np.clip(white * 10.0**-density, 0, 255).astype(np.uint8)


def lazily(image: np.ndarray, chunk: int = 256) -> da.Array:
    return da.from_array(np.moveaxis(image, -1, 0), chunks=(3, chunk, chunk))


def section_of(image: Any, centres_px: np.ndarray, *, mpp: float = MPP, placed: bool = True) -> Any:
    section = new_section("S1")
    barcodes = [f"b{i}" for i in range(len(centres_px))]
    add_level(section, "patch", barcodes, centres_px, 27.5 / mpp, scale_affine(mpp))
    add_slide(section, lazily(image) if isinstance(image, np.ndarray) else image, scale_affine(mpp) if placed else None)
    return section


def measured(section: Any, **options: Any) -> AnnData:
    add_histology(section, features=HistologyFeatures(), progress=False, **options)
    return section.tables["patch_histology"]


@pytest.fixture(scope="module")
def grid() -> Grid:
    """Nuclei of 4 µm radius on a 20 µm lattice; three patches on tissue, one on glass."""
    lattice = np.stack(np.meshgrid(np.arange(20, 780, 40), np.arange(20, 1180, 40)), -1).reshape(-1, 2)
    return painted(lattice), np.array([[200, 200], [400, 600], [600, 900], [1100, 600]])


def test_nuclei_are_counted_and_measured_in_microns(grid: Grid) -> None:
    table = measured(section_of(*grid))
    row = table[0].to_df().iloc[0]
    tile_mm2 = (82.5e-3) ** 2
    assert row["nuclei_per_mm2"] == pytest.approx(2500, rel=0.25)
    assert row["nuclei_count"] == pytest.approx(2500 * tile_mm2, rel=0.3)
    assert row["nuclei_area_um2_mean"] == pytest.approx(np.pi * 16, rel=0.2)
    assert row["nuclei_spacing_um_mean"] == pytest.approx(20, rel=0.05)
    assert row["nuclei_eccentricity_mean"] < 0.5 and row["nuclei_solidity_mean"] > 0.9


def test_off_tissue_patch_has_no_row_and_is_counted(grid: Grid) -> None:
    table = measured(section_of(*grid))
    assert list(table.obs_names) == ["b0", "b1", "b2"]
    assert table.uns["histology"]["off_tissue"] == 1
    assert table.X.dtype == np.float32 and np.isfinite(table.X).all()


def test_scanner_exposure_and_stain_strength_hardly_matter() -> None:
    rng = np.random.default_rng(1)
    nuclei, centres = rng.uniform(20, 780, (400, 2)), rng.uniform(150, 650, (12, 2))
    scanners = ({"white": 245.0}, {"white": 215.0, "stain": 0.8})
    strong, weak = (measured(section_of(painted(nuclei, **scanner), centres)).to_df() for scanner in scanners)
    for name in ("hematoxylin_mean", "hematoxylin_sd", "nuclei_count", "eosin_p50"):
        assert np.abs(strong[name] - weak[name]).mean() < 0.12 * strong[name].mean() + 1e-3, name


def test_result_does_not_depend_on_chunks_or_cores_or_barcode_order(grid: Grid) -> None:
    image, centres = grid
    one = measured(section_of(image, centres), workers=1)
    other = measured(section_of(lazily(image, 1200), centres), workers=2)
    np.testing.assert_array_equal(one.X, other.X)


def test_only_regions_under_patches_are_read(grid: Grid) -> None:
    image, _ = grid
    read: list[Any] = []

    def noted(block: np.ndarray, block_info: Any) -> np.ndarray:
        read.append(block_info[0]["chunk-location"])
        return block

    measured(section_of(lazily(image, 200).map_blocks(noted, **BLOCK), np.array([[100, 100], [120, 140]])))
    assert {location[1:] for location in read} <= {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_cache_answers_without_measuring_and_survives_damage(
    grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = measured(section_of(*grid), cache=tmp_path, workers=1).X
    (file,) = tmp_path.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr("aivc_graph.modalities.tile_pool._stack", lambda batch: pytest.fail("measured again"))
        np.testing.assert_array_equal(measured(section_of(*grid), cache=tmp_path, workers=1).X, first)
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    file.write_bytes(whole)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(measured(section_of(*grid), cache=tmp_path, workers=1).X, first)
    assert "damaged cache" in caplog.text and [p.name for p in tmp_path.iterdir()] == [file.name]


def test_a_cache_that_cannot_be_written_is_gone_without(
    grid: Grid, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("mine")
    with caplog.at_level(logging.WARNING):
        table = measured(section_of(*grid), cache=tmp_path / "file/cache")
    np.testing.assert_array_equal(table.X, measured(section_of(*grid)).X)
    assert caplog.text.count("cannot be written, tiles are not remembered (Not a directory)") == 1


def test_changed_pixels_are_not_answered_from_the_cache(grid: Grid, tmp_path: Path) -> None:
    image, centres = grid
    measured(section_of(image, centres), cache=tmp_path)
    changed = image.copy()
    changed[150:250, 150:250] = (90, 60, 140)
    table = measured(section_of(changed, centres), cache=tmp_path)
    np.testing.assert_array_equal(table.X, measured(section_of(changed, centres)).X)


def test_thumbnail_leaves_nuclei_out_and_says_so(grid: Grid, caplog: pytest.LogCaptureFixture) -> None:
    image, centres = grid
    with caplog.at_level(logging.INFO):
        table = measured(section_of(image[::8, ::8], centres / 8, mpp=MPP * 8))
    assert not any("nuclei" in name for name in table.var_names) and "too coarse for nuclei" in caplog.text
    assert table.uns["histology"]["um_per_pixel"] == pytest.approx(4.0)


def test_few_undecodable_tiles_are_counted_many_are_refused(grid: Grid) -> None:
    image, _ = grid

    def broken_from(x: int) -> Any:
        def read(block: np.ndarray, block_info: Any) -> np.ndarray:
            if block_info[0]["array-location"][2][0] >= x:
                raise OSError("corrupt JPEG")
            return block

        return lazily(image, 200).map_blocks(read, **BLOCK)

    many = np.stack(np.meshgrid(np.linspace(90, 480, 6), np.linspace(90, 1100, 5)), -1).reshape(-1, 2)
    table = measured(section_of(broken_from(600), np.vstack([many, [[700, 500]]])))
    assert table.uns["histology"]["undecodable"] == 1 and table.n_obs == 30
    with pytest.raises(ReadError, match=r"S1 · histology.*at most 5%, found \d+ of 30 tiles cannot"):
        measured(section_of(broken_from(400), many))


def test_faults_name_the_section_and_the_mend(grid: Grid) -> None:
    image, centres = grid
    with pytest.raises(TissueError, match="S1 · image 'slide': no transform to microns; give its `mpp`"):
        measured(section_of(image, centres, placed=False))
    with pytest.raises(TissueError, match="no such image; images here: slide"):
        measured(section_of(image, centres), slide="he")
    with pytest.raises(TissueError, match=r"no tissue under any of 4 nodes; check the slide's pixel size"):
        measured(section_of(image, centres + 9000))
    with pytest.raises(TissueError, match=r"expected 3 channels of uint8 .*found 3 channels of uint16"):
        measured(section_of(image.astype(np.uint16), centres))


def test_pyramid_is_read_at_the_level_that_suffices(grid: Grid) -> None:
    from spatialdata.models import Image2DModel

    from aivc_graph.modalities.tiles import slide_reader
    from aivc_graph.tissue.frame import place

    image, centres = grid
    section = section_of(image, centres)
    section.images["slide"] = Image2DModel.parse(lazily(image), dims=("c", "y", "x"), scale_factors=[2, 2])
    place(section, "slide", scale_affine(MPP))
    chosen = [slide_reader(section, "slide", wanted).mpp for wanted in (0.3, 0.75, 1.0, 9.0)]
    assert chosen == pytest.approx([0.5, 0.5, 1.0, 2.0])
    add_histology(section, features=HistologyFeatures(target_mpp=1.0), progress=False)
    row = section.tables["patch_histology"].to_df().iloc[0]
    assert row["nuclei_spacing_um_mean"] == pytest.approx(20, rel=0.05)
