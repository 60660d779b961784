"""The picture of the tissue that Space Ranger writes beside its spots and cells, and where its pixels lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from aivc_graph.errors import ReadError
from aivc_graph.io.matrices import called
from aivc_graph.io.slides import open_slide
from aivc_graph.io.spaceranger_folder import spatial_folder
from aivc_graph.tissue.doubt import doubt
from aivc_graph.tissue.frame import positions_um, scale_affine
from aivc_graph.tissue.section import add_slide

Picture = Literal["hires", "lowres", "none"]
# A picture this many times as long as the nodes reach, on both sides, is of another scale.
_ROOM = 3.0
_SAME_SIZE = 0.02


def add_full_picture(
    tissue: Any, level: str, outs: Path, slide: Path, factors: dict[str, float], um_per_pixel: float
) -> None:
    """Add the image that Space Ranger was run on, whose pixels the positions count; refuse one of another scale.

    One of another size than the run's own picture was made from is doubted, as is one that its nodes do not lie on.
    """
    pixels, stated = open_slide(slide)
    if stated is not None and not 0.9 < stated / um_per_pixel < 1.1:
        found, expected = f"{stated:.4g} µm a pixel", f"{um_per_pixel:.4g} µm, as the run says"
        raise ReadError(f"{slide} · pixel size", found, expected, "give the image that Space Ranger was run on")
    _check_picture(pixels.shape, um_per_pixel, positions_um(tissue, level), slide)
    sizes = _full_sizes(spatial_folder(outs), factors)
    _check_sizes({**sizes, slide.name: pixels.shape[:0:-1]}, slide)
    add_slide(tissue, pixels, scale_affine(um_per_pixel))


def add_tissue_picture(
    tissue: Any, level: str, outs: Path, factors: dict[str, float], um_per_pixel: float, image: Picture | None
) -> None:
    """Add the picture called `image` as the slide, by default the finer one there is.

    Parameters
    ----------
    level
        Level whose nodes lie on the picture.
    factors
        Scale factors of the run.
    um_per_pixel
        Microns a pixel of full resolution.

    Raises
    ------
    ReadError
        No such picture, or no scale factor of it.
    """
    kinds = ("hires", "lowres") if image is None else () if image == "none" else (image,)
    folder = spatial_folder(outs)
    pictures = {kind: called(folder, f"tissue_{kind}_image.png") for kind in kinds}
    there = [(kind, path) for kind, path in pictures.items() if path is not None]
    if not there:
        if image not in (None, "none"):
            where = str(folder / f"tissue_{image}_image.png")
            raise ReadError(where, "no such file", mend="set `image:` otherwise")
        return
    kind, path = there[0]
    if path.suffix == ".gz":
        doubt(str(path), "a picture packed by gzip, which is left out", "a PNG", f"unpack {path.name}")
        return
    if f"tissue_{kind}_scalef" not in factors:
        found = "no such file" if not factors else f"keys {', '.join(factors)}"
        where = str(folder / "scalefactors_json.json")
        raise ReadError(where, found, f"tissue_{kind}_scalef", "copy the file from the run, or set `image: none`")
    pixels, _ = open_slide(path)
    um_per_pixel /= factors[f"tissue_{kind}_scalef"]
    _check_picture(pixels.shape, um_per_pixel, positions_um(tissue, level), path)
    _check_sizes(_full_sizes(folder, factors), path)
    add_slide(tissue, pixels, scale_affine(um_per_pixel))


def _full_sizes(folder: Path, factors: dict[str, float]) -> dict[str, tuple[float, ...]]:
    """Return how large (x, y) the full image was by each small picture of it and its scale factor [pixels]."""
    sizes = {}
    for kind in ("hires", "lowres"):
        path = called(folder, f"tissue_{kind}_image.png")
        if path is not None and path.suffix != ".gz" and f"tissue_{kind}_scalef" in factors:
            pixels, _ = open_slide(path)
            sizes[path.name] = tuple(n / factors[f"tissue_{kind}_scalef"] for n in pixels.shape[:0:-1])
    return sizes


def _check_sizes(sizes: dict[str, tuple[float, ...]], path: Path) -> None:
    """Doubt pictures of one run whose full image would have had different sizes."""
    whole = np.array(list(sizes.values()))
    if len(whole) > 1 and (np.ptp(whole, axis=0) > _SAME_SIZE * whole.min(axis=0)).any():
        told = "; ".join(f"{width:,.0f} × {height:,.0f} by {name}" for name, (width, height) in sizes.items())
        mend = "is one of another run, turned or shrunk, or its scale factor that of another?"
        doubt(str(path), f"a full image of {told} pixels", "one size", mend)


def _check_picture(shape: tuple[int, ...], um_per_pixel: float, xy_um: np.ndarray, path: Path) -> None:
    """Doubt that a picture goes with its scale factor: the nodes must lie on it, and Space Ranger fits its longer side.

    A picture called hires is 2,000 pixels long (4,000 or 6,000 in HD), one called lowres 600, at most: a lowres one
    under the name of hires ends long before the nodes do, a hires one under the name of lowres far behind them.
    """
    reach = xy_um.max(axis=0) / um_per_pixel
    size = np.array(shape[:0:-1])
    if (reach > size).any():
        found = f"spots up to pixel {reach[0]:.0f}, {reach[1]:.0f} of {size[0]} × {size[1]}"
        doubt(str(path), found, "spots on the picture", "is it the picture of this run, and of this scale factor?")
    elif (size > _ROOM * reach).all():
        found = f"{size[0]} × {size[1]} pixels, spots no farther than {reach[0]:.0f}, {reach[1]:.0f}"
        doubt(str(path), found, "a picture of the spots' size", "is it the picture that this scale factor is of?")
