"""Open a whole-slide image lazily: tiles are decoded when, and only where, somebody looks."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from aivc_graph.errors import ReadError
from aivc_graph.io.openslide_level import OpenSlideLevel
from aivc_graph.io.picture import JPEG_MAGIC, PNG_MAGIC, PictureLevel
from aivc_graph.io.pixel_size import checked_mpp, stated_mpp
from aivc_graph.io.slide_level import AbstractSlideLevel
from aivc_graph.io.tiff_tiles import TiffLevel
from aivc_graph.io.tile_faults import forget_tile_faults
from aivc_graph.tissue.doubt import doubt

log = logging.getLogger(__name__)

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
DICOM_MAGIC = b"DICM"
BLOCK_PX = 1024
# An image of this share of the pixels of the largest is no overview of it, but another scan.
_RIVAL = 0.25
_SAME_SCALE = 0.05
_FORMATS = "a TIFF, OME-TIFF, SVS, JPEG, PNG, or a slide that OpenSlide knows (DICOM, MRXS, NDPI …)"


def is_slide(path: Path) -> bool:
    """Say by content whether `path` is a file that `open_slide` may open."""
    if not path.is_file():
        return False
    head = _head(path)
    if head.startswith((*TIFF_MAGIC, JPEG_MAGIC, PNG_MAGIC)) or head[128:132] == DICOM_MAGIC:
        return True
    try:
        from openslide import OpenSlide
    except ImportError:
        return False
    return OpenSlide.detect_format(str(path)) is not None


def open_slide(
    path: Path, *, mpp: float | None = None, level: int = 0, image: int | None = None
) -> tuple[Any, float | None]:
    """Return the pixels of one resolution as a lazy dask array ``(c, y, x)`` uint8, and its pixel size [µm].

    Nothing but the header and up to three tiles is decoded here, so a slide of any size opens in little memory. A tile
    that later turns out damaged raises a `ReadError` that names file, page and tile, and is counted by
    `aivc_graph.io.tile_faults.tile_faults`; no pixel is made up in its place.

    Parameters
    ----------
    path
        TIFF (tiled, stripped, pyramidal, OME, SVS) through tifffile; JPEG or PNG, decoded whole on first use; anything
        else, and TIFFs tifffile cannot decode, through OpenSlide where that is installed.
    mpp
        Pixel size [µm] at full resolution, which wins over the file's own; 0.05–5, for a thumbnail up to 50.
    level
        Resolution; 0 is the finest.
    image
        Which of the images of a TIFF, counted from 0; by default the one of most pixels, and others of its kind are
        told.

    Returns
    -------
    pixels, um_per_pixel
        The size is `None` if neither the file nor `mpp` states it.

    Raises
    ------
    ReadError
        Not a slide, damaged or truncated, a header of absurd size, an absurd pixel size, no such level.

    Examples
    --------
    >>> pixels, um_per_pixel = open_slide(Path("slide.ome.tif"))
    """
    if not path.is_file():
        raise ReadError(str(path), "no such file", mend="check the path")
    forget_tile_faults(path)
    head = _head(path)
    if head.startswith((JPEG_MAGIC, PNG_MAGIC)):
        if level != 0:
            raise ReadError(f"{path} · level", str(level), "0", "a JPEG or PNG has one resolution")
        return _lazy(PictureLevel(path), 1), checked_mpp(path, mpp, None)
    if head.startswith(TIFF_MAGIC):
        return _open_tiff(path, mpp, level, image)
    return _open_other(path, mpp, level, reason="")


def _open_tiff(path: Path, mpp: float | None, level: int, image: int | None) -> tuple[Any, float | None]:
    from tifffile import TiffFile

    try:
        with TiffFile(path) as tiff:
            chosen = _main_image(path, tiff.series, image)
            stated = _stated(tiff, chosen, path, mpp)
            full = _size(tiff.series[chosen])
            orientation = _orientation(path, tiff.series[chosen].keyframe)
        pixels = TiffLevel(path, level, chosen)
        fault = pixels.probe()
    except ReadError as error:
        if image is not None:  # OpenSlide knows one image a file
            raise
        return _open_other(path, mpp, level, reason=str(error), cause=error)
    except Exception as error:  # tifffile raises whatever the damage leads to
        return _open_other(path, mpp, level, reason=f"{path}: a damaged TIFF ({error})", cause=error)
    if fault is not None:
        return _open_other(
            path, mpp, level, reason=f"{path} · page 0, tile 0: cannot be decoded ({fault})", cause=fault
        )
    size = checked_mpp(path, mpp, stated)
    shrink = full[1] / pixels.shape[2]
    return _lazy(pixels, orientation), None if size is None else size * shrink


def _stated(tiff: Any, image: int, path: Path, mpp: float | None) -> float | None:
    """Return the pixel size that a TIFF states, unless the user gives another, which is then doubted."""
    try:
        stated = stated_mpp(tiff, image)
    except ReadError:
        if mpp is None:
            raise
        return None
    if mpp is not None and stated is not None and abs(mpp / stated - 1) > _SAME_SCALE:
        mend = "positions that lie on it hang on it: which of the two is right?"
        doubt(f"{path} · mpp", f"{mpp:.4g} µm", f"{stated:.4g} µm, as the file states", mend)
    return stated


def _main_image(path: Path, series: Any, image: int | None) -> int:
    """Return the place of the image asked for, or else of the largest; tell others that are no mere overviews of it."""
    sizes = [_size(one) for one in series]
    listed = ", ".join(f"{i}: {width:,} × {height:,} px" for i, (height, width) in enumerate(sizes))
    if image is not None:
        if not 0 <= image < len(sizes):
            raise ReadError(f"{path} · image", str(image), f"one of {listed}")
        return image
    pixels = [height * width for height, width in sizes]
    largest = pixels.index(max(pixels))
    if sum(n >= _RIVAL * pixels[largest] for n in pixels) > 1:
        found = f"{len(sizes)} images ({listed}), of which {largest} is taken"
        doubt(str(path), found, "one", "choose another by `image:`, reader `slide`")
    return largest


def _open_other(
    path: Path, mpp: float | None, level: int, *, reason: str, cause: Exception | None = None
) -> tuple[Any, float | None]:
    """Open through OpenSlide; if that fails too, the first engine's `reason` is what the user hears."""
    first, _, rest = reason.partition(": ")
    try:
        pixels = OpenSlideLevel(path, level)
        fault = pixels.probe()
    except ImportError:
        fault = ReadError(str(path), "a file of unknown kind", _FORMATS, "install openslide-python and openslide-bin")
    except ReadError as error:
        fault = error
    if fault is not None and not reason:
        raise ReadError(str(path), "a file of unknown kind", _FORMATS, "convert it, for example to OME-TIFF") from fault
    if fault is not None:
        raise (cause if isinstance(cause, ReadError) else ReadError(first, rest, mend="copy it again")) from fault
    size = checked_mpp(path, mpp, pixels.mpp)
    log.info("%s: read by OpenSlide", path)
    return _lazy(pixels, 1), None if size is None else size * pixels.downsample


def _lazy(level: AbstractSlideLevel, orientation: int) -> Any:
    """Wrap a level in dask, in blocks of whole tiles, and set it upright."""
    import dask.array as da

    across = (n * max(1, BLOCK_PX // n) for n in level.tile)
    blocks = (level.shape[0], *(2 * BLOCK_PX,) * 2) if isinstance(level, PictureLevel) else (level.shape[0], *across)
    # `fancy` lets dask hand a slice of a block down to the level, which then decodes no tile too many.
    meta = np.empty((0, 0, 0), np.uint8)
    pixels = da.from_array(level, chunks=blocks, name=False, asarray=False, fancy=True, meta=meta)
    return _upright(pixels, orientation)


def _upright(pixels: Any, orientation: int) -> Any:
    """Turn stored rows and columns into what the eye should see (TIFF 6.0, tag 274)."""
    if orientation >= 5:
        pixels = pixels.transpose(0, 2, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, :, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[:, ::-1, :]
    return pixels


def _orientation(path: Path, page: Any) -> int:
    tag = page.tags.get("Orientation")
    orientation = 1 if tag is None else int(tag.value)
    if 1 <= orientation <= 8:
        return orientation
    doubt(str(path), f"Orientation {orientation}, taken as 1", "1–8", "does the picture stand upright?")
    return 1


def _size(series: Any) -> tuple[int, int]:
    size = dict(zip(series.axes, series.shape, strict=True))
    return size.get("Y", 1), size.get("X", 1)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(132)
