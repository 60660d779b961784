"""Small pictures of the slides, kept beside a graph store so that answers can be drawn over tissue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from aivc_graph.errors import StoreError
from aivc_graph.tissue.section import metadata_of
from aivc_graph.tissue.thumbnail import Thumbnail, thumbnail

INDEX = "slides.json"


def thumbnail_folder(store: Path) -> Path:
    """Return the folder of the pictures that belong to a graph store, such as ``graph.slides`` for ``graph.zarr``."""
    return store.with_suffix(".slides")


def write_thumbnails(sections: list[Any], store: Path) -> None:
    """Write a PNG a placed slide, and where each lies in microns; sections without a slide are left out."""
    from skimage.io import imsave

    folder = thumbnail_folder(store)
    folder.mkdir(parents=True, exist_ok=True)
    index: dict[str, Any] = {}
    for number, section in enumerate(sections):
        small = thumbnail(section)
        if small is None:
            continue
        file = f"slide_{number}.png"
        imsave(folder / file, small.image, check_contrast=False)
        place = {"file": file, "um_per_pixel": small.um_per_pixel, "origin_um": list(small.origin_um)}
        index[metadata_of(section)["section"]] = place
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n")


def read_thumbnails(store: Path) -> dict[str, Thumbnail]:
    """Return the pictures of a graph store by section; empty where there are none.

    Raises
    ------
    StoreError
        If the index or a picture of it is damaged or missing.
    """
    from skimage.io import imread

    folder = thumbnail_folder(store)
    if not (folder / INDEX).exists():
        return {}
    try:
        index = json.loads((folder / INDEX).read_text())
        return {
            section: Thumbnail(
                np.asarray(imread(folder / Path(entry["file"]).name)), entry["um_per_pixel"], tuple(entry["origin_um"])
            )
            for section, entry in index.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SyntaxError) as error:
        mend = f"delete {folder.name} to go without the slides, or build the graph again"
        raise StoreError(str(folder), f"damaged pictures of the slides ({error})", mend=mend) from error
