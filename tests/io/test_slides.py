"""Slides: every real file opens or is refused for its reason; damage, bombs and pixel sizes; memory of a huge one."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from aivc_graph.errors import ReadError
from aivc_graph.io.slides import is_slide, open_slide
from aivc_graph.io.tile_faults import tile_faults

# path under slides/ → (shape, µm a pixel), or the words of the refusal
EXPECTED: dict[str, tuple[tuple[int, int, int], float | None] | str] = {
    "CMU-1-Small-Region.svs": ((3, 2967, 2220), 0.499),
    "large_image/grey10kx5k.tif": ((1, 5000, 10000), None),
    "large_image/sample_float32_8bit_range.zarr.zip": "expected a TIFF, OME-TIFF, SVS, JPEG, PNG",
    "large_image/small_la.tiff": ((1, 1, 2), None),
    "large_image/test_orient0.tif": ((1, 180, 120), None),
    "large_image/test_orient1.tif": ((1, 180, 120), None),
    "large_image/test_orient6.tif": ((1, 120, 180), None),
    "large_image/yb10kx5k.zstd.tiff": ((3, 5000, 10000), None),
    "openslide-fixtures/boxes.png": ((3, 250, 300), None),
    "openslide-fixtures/boxes.tiff": ((3, 250, 300), None),
    "openslide-fixtures/boxes_0.dcm": ((3, 16, 16), 0.499),
    "openslide-fixtures/boxes_1.dcm": ((3, 16, 16), 0.499),
    "openslide-fixtures/small.svs": ((3, 16, 16), 0.499),
    "openslide-fixtures/unreadable.svs": r"page 0, tile 0: cannot be decoded \(Bogus marker length\)",
    "test.ome.tif": ((3, 167, 439), None),
}


@pytest.fixture(scope="session")
def slides(data_dir: Path) -> Path:
    return data_dir / "slides"


def test_expectations_name_every_slide(slides: Path) -> None:
    files = {str(p.relative_to(slides)) for p in slides.rglob("*") if p.is_file() and p.name != "README.md"}
    assert files == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_real_slide_opens_or_is_refused_for_its_reason(slides: Path, name: str) -> None:
    expected = EXPECTED[name]
    if name.endswith(".dcm"):
        pytest.importorskip("openslide")
    if isinstance(expected, str):
        with pytest.raises(ReadError, match=expected) as refusal:
            open_slide(slides / name)
        assert str(slides / name) in str(refusal.value)
        return
    pixels, um_per_pixel = open_slide(slides / name)
    assert is_slide(slides / name)
    assert (pixels.shape, pixels.dtype) == (expected[0], np.uint8)
    assert um_per_pixel == (None if expected[1] is None else pytest.approx(expected[1]))
    assert pixels[:, :64, :64].compute().shape == (pixels.shape[0], *np.minimum(pixels.shape[1:], 64))


def test_pixels_equal_those_of_the_reference_decoders(slides: Path) -> None:
    svs = open_slide(slides / "CMU-1-Small-Region.svs")[0].compute()
    np.testing.assert_array_equal(np.moveaxis(svs, 0, -1), tifffile.imread(slides / "CMU-1-Small-Region.svs", key=0))
    boxes = open_slide(slides / "openslide-fixtures/boxes.tiff")[0].compute()
    np.testing.assert_array_equal(boxes, open_slide(slides / "openslide-fixtures/boxes.png")[0].compute())
    signed = tifffile.imread(slides / "test.ome.tif")
    np.testing.assert_array_equal(open_slide(slides / "test.ome.tif")[0].compute(), signed.view(np.uint8))


def test_openslide_sees_the_same_pixels(slides: Path) -> None:
    pytest.importorskip("openslide")
    from aivc_graph.io.openslide_level import OpenSlideLevel

    path = slides / "CMU-1-Small-Region.svs"
    region = (slice(0, 3), slice(1000, 1200), slice(700, 1000))
    other = OpenSlideLevel(path, 0)[region].astype(int)
    assert np.abs(open_slide(path)[0][region].compute().astype(int) - other).mean() < 1.0


def test_pyramid_of_a_jpeg_equals_the_jpeg(data_dir: Path, tmp_path: Path) -> None:
    source = next((data_dir / "her2st" / "ST-imgs").glob("C2*.jpg"))
    window = np.s_[:, 4000:5100, 3000:4000]
    jpeg, _ = open_slide(source)
    part = jpeg[window].compute()
    path = _pyramid(tmp_path / "p.tif", np.moveaxis(part, 0, -1), mpp=0.73)
    pixels, um_per_pixel = open_slide(path)
    assert um_per_pixel == pytest.approx(0.73)
    np.testing.assert_array_equal(pixels.compute(), part)
    coarse, um_coarse = open_slide(path, level=1)
    assert (coarse.shape, um_coarse) == ((3, 550, 500), pytest.approx(1.46))
    np.testing.assert_array_equal(coarse[:, 100:300, 50:90].compute(), part[:, 200:600:2, 100:180:2])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_honoured(tmp_path: Path, orientation: int) -> None:
    upright = np.arange(48, dtype=np.uint8).reshape(6, 8)
    # What must be stored so that the tag's rule gives back `upright`: its inverse.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    path = tmp_path / "turned.tif"
    tifffile.imwrite(path, stored, extratags=[("Orientation", "H", 1, orientation, True)])
    np.testing.assert_array_equal(open_slide(path)[0][0].compute(), upright)


def test_invalid_orientation_is_taken_as_upright_with_a_warning(slides: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        zero, _ = open_slide(slides / "large_image/test_orient0.tif")
    assert "expected 1–8, found Orientation 0, taken as 1" in caplog.text
    one, _ = open_slide(slides / "large_image/test_orient1.tif")
    np.testing.assert_array_equal(zero.compute(), one.compute())


def test_pixel_size_of_ome_and_the_argument_that_wins(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    meta = {
        "axes": "CYX",
        "PhysicalSizeX": 250,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 250,
        "PhysicalSizeYUnit": "nm",
    }
    tifffile.imwrite(path, np.zeros((2, 32, 32), np.uint8), metadata=meta)
    assert open_slide(path)[1] == pytest.approx(0.25)
    assert open_slide(path, mpp=0.5)[1] == 0.5


@pytest.mark.parametrize("stated", [0.001, 12.0])
def test_absurd_pixel_size_is_refused_and_mpp_offered(tmp_path: Path, stated: float) -> None:
    path = tmp_path / "absurd.ome.tif"
    meta = {"axes": "YX", "PhysicalSizeX": stated, "PhysicalSizeY": stated}
    tifffile.imwrite(path, np.zeros((32, 32), np.uint8), metadata=meta)
    with pytest.raises(ReadError, match=r"pixel size: expected 0.05–5 µm, found .* give it as `mpp:`"):
        open_slide(path)
    assert open_slide(path, mpp=20.0)[1] == 20.0
    with pytest.raises(ReadError, match=r"mpp: expected 0\.05–5 µm"):
        open_slide(path, mpp=60.0)


def test_16_bits_become_8_by_the_bits_in_use(tmp_path: Path) -> None:
    path = tmp_path / "deep.ome.tif"
    deep = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    tifffile.imwrite(path, deep, metadata={"axes": "YX", "SignificantBits": 12})
    np.testing.assert_array_equal(open_slide(path)[0][0].compute(), (deep >> 4).astype(np.uint8))


def test_planes_and_interleaved_samples_read_alike(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (100, 130, 3), np.uint8)
    together, apart = tmp_path / "contig.tif", tmp_path / "separate.tif"
    tifffile.imwrite(together, rgb, photometric="rgb", tile=(32, 32))
    tifffile.imwrite(apart, np.moveaxis(rgb, -1, 0), photometric="rgb", planarconfig="separate", tile=(32, 32))
    for path in (together, apart):
        pixels, _ = open_slide(path)
        np.testing.assert_array_equal(pixels[1:, 20:90:3, 5:77].compute(), np.moveaxis(rgb, -1, 0)[1:, 20:90:3, 5:77])


def test_ome_spread_over_files_reads_the_channel_of_the_file_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    planes = {"ch0.ome.tif": 10, "ch1.ome.tif": 20}
    data = "".join(
        f'<TiffData IFD="0" PlaneCount="1" FirstC="{i}"><UUID FileName="{name}">urn:uuid:{i:032x}</UUID></TiffData>'
        for i, name in enumerate(planes)
    )
    for i, (name, value) in enumerate(planes.items()):
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{i:032x}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" '
            'SizeX="48" SizeY="32" SizeZ="1" SizeC="2" SizeT="1" PhysicalSizeX="0.2125" PhysicalSizeY="0.2125">'
            f"{data}</Pixels></Image></OME>"
        )
        tifffile.imwrite(tmp_path / name, np.full((32, 48), value, np.uint8), description=xml, metadata=None)
    for name, value in planes.items():
        pixels, um_per_pixel = open_slide(tmp_path / name)
        assert (pixels.shape, um_per_pixel) == ((1, 32, 48), pytest.approx(0.2125))
        assert (pixels.compute() == value).all()
    assert "1 of 2 planes in other files, which are not read" in caplog.text
    (tmp_path / "ch1.ome.tif").unlink()
    assert (open_slide(tmp_path / "ch0.ome.tif")[0].compute() == 10).all()


def test_stack_in_z_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "z.ome.tif", np.zeros((4, 32, 32), np.uint8), metadata={"axes": "ZYX"})
    with pytest.raises(ReadError, match=r"expected one plane \(channel, y, x\), found axes ZYX"):
        open_slide(tmp_path / "z.ome.tif")


def test_bomb_in_a_png_header_is_refused_before_decoding(tmp_path: Path, slides: Path) -> None:
    data = bytearray((slides / "openslide-fixtures/boxes.png").read_bytes())
    data[16:24] = (100_000).to_bytes(4, "big") * 2
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(
        ReadError, match=r"100,000 × 100,000 px × 3 channels .*expected at most 1 GiB|at most 1 GiB"
    ) as refusal:
        open_slide(tmp_path / "bomb.png")
    assert "bomb.png · header" in str(refusal.value)


def test_bomb_in_one_tiff_strip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "strip.tif"
    tifffile.imwrite(
        path, iter([b"\0" * 64]), shape=(60_000, 60_000), dtype=np.uint8, rowsperstrip=60_000, compression="zlib"
    )
    with pytest.raises(ReadError, match="60,000 × 60,000 px × 1 channels to decode in one go"):
        open_slide(path)


def test_tile_whose_own_header_is_a_bomb_is_a_fault(tmp_path: Path) -> None:
    good, bomb = (imagecodecs.jpeg_encode(np.full((n, n), 7, np.uint8)) for n in (64, 512))
    path = _encoded(tmp_path / "tilebomb.tif", [good] * 99 + [bomb], (640, 640), 64)
    pixels, _ = open_slide(path)
    with pytest.raises(ReadError, match=r"page 0, tile 99: cannot be decoded \(its header states 512 × 512 px"):
        pixels.compute()


def test_few_damaged_tiles_are_named_and_counted_and_the_rest_reads(tmp_path: Path) -> None:
    path = _encoded(tmp_path / "hurt.tif", _tiles(400, bad={37}), (1280, 1280), 64)
    pixels, _ = open_slide(path)
    np.testing.assert_array_equal(pixels[0, :64, :64].compute(), np.full((64, 64), 90, np.uint8))
    assert tile_faults(path) == []
    with pytest.raises(ReadError, match=r"hurt\.tif · page 0, tile 37: cannot be decoded"):
        pixels[0, 64:128, 1088:1152].compute()
    assert [fault.tile for fault in tile_faults(path)] == [37]
    assert pixels[0, 128:].compute().min() == 90


def test_more_than_one_damaged_tile_in_twenty_stops(tmp_path: Path) -> None:
    path = _encoded(tmp_path / "ruin.tif", _tiles(100, bad=set(range(20, 26))), (640, 640), 64)
    pixels, _ = open_slide(path)
    for tile in range(20, 26):
        with pytest.raises(ReadError) as refusal:
            pixels[0, 64 * (tile // 10) : 64 * (tile // 10) + 64, 64 * (tile % 10) : 64 * (tile % 10) + 64].compute()
    assert "expected at most 5%, found 6 of 100 tiles that cannot be decoded" in str(refusal.value)


@pytest.mark.parametrize(
    ("keep", "words"),
    [(0.5, "tiles beyond the end of the file, which is truncated"), (0.001, "damaged TIFF|OpenSlide|truncated|tile")],
)
def test_truncated_tiff_is_named(tmp_path: Path, keep: float, words: str) -> None:
    whole = _encoded(tmp_path / "whole.tif", _tiles(100), (640, 640), 64).read_bytes()
    path = tmp_path / "cut.tif"
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(ReadError, match=words) as refusal:
        open_slide(path)
    assert "cut.tif" in str(refusal.value)


def test_truncated_jpeg_and_png_are_named_on_first_use(tmp_path: Path, slides: Path) -> None:
    picture = imagecodecs.jpeg_encode(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8))
    (tmp_path / "cut.jpg").write_bytes(picture[: len(picture) // 2])
    with pytest.raises(ReadError, match=r"cut\.jpg: expected a whole picture, found a JPEG without its end marker"):
        open_slide(tmp_path / "cut.jpg")[0].compute()
    (tmp_path / "cut.png").write_bytes((slides / "openslide-fixtures/boxes.png").read_bytes()[:300])
    with pytest.raises(ReadError, match=r"cut\.png: a picture that cannot be decoded"):
        open_slide(tmp_path / "cut.png")[0].compute()


def test_absent_level_is_refused_and_the_levels_listed(slides: Path) -> None:
    with pytest.raises(ReadError, match="level: expected 0–3, found 7"):
        open_slide(slides / "openslide-fixtures/boxes.tiff", level=7)


def test_lazy_slide_travels_between_processes(slides: Path) -> None:
    pixels, _ = open_slide(slides / "CMU-1-Small-Region.svs")
    corner = pixels[:, :50, :50]
    elsewhere = corner.compute(scheduler="processes", num_workers=1)
    np.testing.assert_array_equal(elsewhere, corner.compute(scheduler="synchronous"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_ten_gigapixels_are_read_by_region_in_less_than_half_a_gigabyte(tmp_path: Path) -> None:
    edge, tile = 100_000, 512
    grey = [imagecodecs.jpeg_encode(np.full((tile, tile, 3), value, np.uint8)) for value in (60, 200)]
    across = -(-edge // tile)
    encoded = (grey[(i // across + i % across) % 2] for i in range(across * across))
    path = tmp_path / "huge.tif"
    tifffile.imwrite(
        path,
        encoded,
        shape=(edge, edge, 3),
        dtype=np.uint8,
        tile=(tile, tile),
        compression="jpeg",
        photometric="rgb",
        bigtiff=True,
    )
    code = (
        "import sys; from pathlib import Path; from aivc_graph.io.slides import open_slide\n"
        "pixels, _ = open_slide(Path(sys.argv[1]), mpp=0.25)\n"
        "assert pixels.shape == (3, 100_000, 100_000)\n"
        "for at in range(0, 96_000, 4_800):\n"
        "    part = pixels[:, at : at + 2048, 97_000 - at : 99_048 - at].compute()\n"
        "    assert part.shape == (3, 2048, 2048) and {60, 200} == set(part[0, ::64, ::64].ravel().tolist())\n"
        "peak = next(s for s in Path('/proc/self/status').read_text().splitlines() if s.startswith('VmHWM'))\n"
        "sys.stdout.write(str(int(peak.split()[1]) / 2**20))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    # The peak of its own address space: ru_maxrss would count the memory of the process that started it as well.
    assert float(done.stdout) < 0.5, f"{done.stdout} GiB"


def _tiles(n: int, bad: set[int] = frozenset()) -> list[bytes]:  # type: ignore[assignment]
    good = imagecodecs.zlib_encode(np.full((64, 64), 90, np.uint8).tobytes())
    return [b"damaged" if i in bad else good for i in range(n)]


def _encoded(path: Path, tiles: list[bytes], shape: tuple[int, int], tile: int) -> Path:
    compression = "jpeg" if tiles[0].startswith(b"\xff\xd8") else "zlib"
    tifffile.imwrite(path, iter(tiles), shape=shape, dtype=np.uint8, tile=(tile, tile), compression=compression)
    return path


def _pyramid(path: Path, rgb: np.ndarray, mpp: float) -> Path:
    options = {"tile": (256, 256), "compression": "zlib", "photometric": "rgb"}
    with tifffile.TiffWriter(path) as out:
        out.write(rgb, subifds=1, resolution=(1e4 / mpp, 1e4 / mpp), resolutionunit="CENTIMETER", **options)
        out.write(rgb[::2, ::2], subfiletype=1, **options)
    return path
