"""Small pictures of the slides inside a graph store, so that answers can be drawn over tissue."""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr

from aivc_graph.graph.store_elements import write_array
from aivc_graph.tissue.thumbnail import Thumbnail

SLIDES = "slides"


def write_thumbnails(root: zarr.Group, slides: dict[str, Thumbnail]) -> None:
    """Write each section's picture as an array (y, x, 3) whose attributes say where it lies in microns."""
    group = root.require_group(SLIDES)
    for number, (section, slide) in enumerate(slides.items()):
        place: dict[str, Any] = {
            "section": section,
            "um_per_pixel": slide.um_per_pixel,
            "origin_um": list(slide.origin_um),
        }
        write_array(group, str(number), slide.image).attrs.update(place)


def thumbnails_of(root: Any) -> dict[str, Thumbnail]:
    """Return the pictures by section; empty where there are none."""
    if SLIDES not in root:
        return {}
    arrays = [root[f"{SLIDES}/{number}"] for number in sorted(root[SLIDES].array_keys(), key=int)]
    return {
        str(a.attrs["section"]): Thumbnail(np.asarray(a[...]), a.attrs["um_per_pixel"], tuple(a.attrs["origin_um"]))
        for a in arrays
    }
