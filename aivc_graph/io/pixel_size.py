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


def stated_mpp(tiff: Any) -> float | None:
    """Return the pixel size [µm] of full resolution that an open `tifffile.TiffFile` states, or `None`.

    OME-XML and Aperio's ``MPP`` are taken at their word. The resolution tags count only if they make a plausible slide,
    for most programs write a screen's 72 dots an inch there.

    Raises
    ------
    ReadError
        If OME states two sides of a pixel that differ by more than 1 %.
    """
    page = tiff.series[0].keyframe
    if tiff.is_ome:
        return _ome_mpp(Path(tiff.filehandle.path), tiff.ome_metadata)
    aperio = re.search(r"\bMPP\s*=\s*([0-9.]+)", page.description) if tiff.is_svs else None
    if aperio:
        return float(aperio.group(1))
    return _resolution_mpp(page.tags)


def significant_bits(tiff: Any) -> int | None:
    """Return how many bits of a sample OME-XML says carry signal, or `None`."""
    pixels = _ome_pixels(tiff.ome_metadata) if tiff.is_ome else {}
    return int(pixels["SignificantBits"]) if "SignificantBits" in pixels else None


def _ome_pixels(xml: str) -> dict[str, str]:
    try:
        # A document type is where entity bombs live; OME-XML never has one.
        root = None if "<!DOCTYPE" in xml else ElementTree.fromstring(xml.encode())
    except ElementTree.ParseError:
        return {}
    pixels = None if root is None else root.find(".//{*}Image/{*}Pixels")
    return {} if pixels is None else dict(pixels.attrib)


def _ome_mpp(path: Path, xml: str) -> float | None:
    pixels = _ome_pixels(xml)
    sides = []
    for axis in "XY":
        unit = _UM_PER_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        if unit is None or f"PhysicalSize{axis}" not in pixels:
            return None
        sides.append(float(pixels[f"PhysicalSize{axis}"]) * unit)
    if abs(sides[0] - sides[1]) > 0.01 * max(sides):
        raise ReadError(f"{path} · pixel size", f"{sides[0]:g} × {sides[1]:g} µm", "square pixels", "give it as `mpp:`")
    return sides[0]


def _resolution_mpp(tags: Any) -> float | None:
    unit = _UM_PER_RESOLUTION_UNIT.get(int(tags.valueof("ResolutionUnit", default=1)))
    per_unit, out_of = tags.valueof("XResolution", default=(0, 1))
    if unit is None or per_unit == 0 or out_of == 0:
        return None
    mpp = unit * out_of / per_unit
    return mpp if PLAUSIBLE_MPP[0] <= mpp <= PLAUSIBLE_MPP[1] else None
