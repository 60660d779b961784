"""How large a pixel is, in microns: what a TIFF says about it, and what is believed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from aivc_graph.errors import ReadError

PLAUSIBLE_MPP = (0.05, 5.0)
THUMBNAIL_MPP = 50.0

_UM_PER_UNIT = {"m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "pm": 1e-6, "in": 25_400.0}
_UM_PER_RESOLUTION_UNIT = {2: 25_400.0, 3: 10_000.0}


def checked_mpp(path: Path, given: float | None, stated: float | None) -> float | None:
    """Return the pixel size [µm] to use: `given` by the user wins over `stated` in the file; `None` if neither.

    Raises
    ------
    ReadError
        A stated size outside 0.05–5 µm, or a given one outside 0.05–50 µm (a thumbnail's pixels may be large, but
        only where somebody says so).
    """
    low, high = PLAUSIBLE_MPP
    if given is not None:
        if not low <= given <= THUMBNAIL_MPP:
            raise ReadError(
                f"{path} · mpp", f"{given:g} µm", f"{low:g}–{high:g} µm (a thumbnail: up to {THUMBNAIL_MPP:g})"
            )
        return float(given)
    if stated is not None and not low <= stated <= high:
        raise ReadError(
            f"{path} · pixel size", f"{stated:g} µm", f"{low:g}–{high:g} µm", "give it as `mpp:` under this slide"
        )
    return stated


def stated_mpp(tiff: Any, image: int = 0) -> float | None:
    """Return the pixel size [µm] of full resolution that an open `tifffile.TiffFile` states of an image, or `None`.

    OME-XML and Aperio's ``MPP`` are taken at their word. The resolution tags count only if they make a plausible slide,
    for most programs write a screen's 72 dots an inch there.

    Raises
    ------
    ReadError
        If two sides of a pixel are stated that differ by more than 1 %.
    """
    page = tiff.series[image].keyframe
    if tiff.is_ome:
        return _ome_mpp(Path(tiff.filehandle.path), tiff.ome_metadata, image)
    aperio = re.search(r"\bMPP\s*=\s*([0-9.]+)", page.description) if tiff.is_svs else None
    if aperio:
        return float(aperio.group(1))
    return _resolution_mpp(Path(tiff.filehandle.path), page.tags)


def significant_bits(tiff: Any, image: int = 0) -> int | None:
    """Return how many bits of a sample OME-XML says carry signal, or `None`."""
    pixels = _ome_pixels(tiff.ome_metadata, image) if tiff.is_ome else {}
    return int(pixels["SignificantBits"]) if "SignificantBits" in pixels else None


def _ome_pixels(xml: str, image: int) -> dict[str, str]:
    try:
        # A document type is where entity bombs live; OME-XML never has one.
        root = None if "<!DOCTYPE" in xml else ElementTree.fromstring(xml.encode())
    except ElementTree.ParseError:
        return {}
    found = [] if root is None else root.findall(".//{*}Image/{*}Pixels")
    return dict(found[image].attrib) if image < len(found) else {}


def _ome_mpp(path: Path, xml: str, image: int) -> float | None:
    pixels = _ome_pixels(xml, image)
    sides = []
    for axis in "XY":
        unit = _UM_PER_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        if unit is None or f"PhysicalSize{axis}" not in pixels:
            return None
        sides.append(float(pixels[f"PhysicalSize{axis}"]) * unit)
    return square_side(path, *sides)


def _resolution_mpp(path: Path, tags: Any) -> float | None:
    unit = _UM_PER_RESOLUTION_UNIT.get(int(tags.valueof("ResolutionUnit", default=1)))
    per_unit, out_of = tags.valueof("XResolution", default=(0, 1))
    if unit is None or per_unit == 0 or out_of == 0:
        return None
    mpp = unit * out_of / per_unit
    if not PLAUSIBLE_MPP[0] <= mpp <= PLAUSIBLE_MPP[1]:
        return None
    per_unit, out_of = tags.valueof("YResolution", default=(per_unit, out_of))
    return mpp if per_unit == 0 or out_of == 0 else square_side(path, mpp, unit * out_of / per_unit)


def square_side(path: Path, x: float, y: float) -> float:
    """Return the side [µm] of a pixel; raise `ReadError` if its two sides differ by more than 1 %."""
    if abs(x - y) > 0.01 * max(x, y):
        raise ReadError(
            f"{path} · pixel size", f"{x:g} × {y:g} µm", "square pixels", "resample it, or give it as `mpp:`"
        )
    return x
