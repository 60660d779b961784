"""A whole-slide image alone, as a section of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from aivc_graph.errors import ReadError
from aivc_graph.io.options import Positive
from aivc_graph.io.reading import READERS, AbstractReader
from aivc_graph.io.slides import is_slide, open_slide
from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.section import add_slide, new_section


@READERS.register("slide", expects="a TIFF, OME-TIFF, SVS, JPEG, PNG or another slide that OpenSlide knows")
class SlideReader(AbstractReader):
    """Reads a slide lazily; the section's micron frame is the slide's own, origin at its upper left corner.

    Parameters
    ----------
    mpp
        Pixel size [µm] at full resolution, where the file does not state it or states it wrongly; for a thumbnail up
        to 50.
    level
        Resolution to read; 0 is the finest.
    image
        Which of the images of a TIFF, counted from 0; by default the one of most pixels.
    channels
        Names of the channels, in order.

    Raises
    ------
    ReadError
        A damaged slide, no known pixel size, or names for another number of channels.

    Examples
    --------
    >>> section = SlideReader(mpp=0.5).read(Path("slide.ome.tif"), "A1")
    """

    mpp: Positive | None = None
    level: int = Field(default=0, ge=0)
    image: int | None = Field(default=None, ge=0)
    channels: tuple[str, ...] | None = None

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return is_slide(path)

    def read(self, path: Path, section: str) -> Any:
        pixels, um_per_pixel = open_slide(path, mpp=self.mpp, level=self.level, image=self.image)
        if um_per_pixel is None:
            raise ReadError(f"{path} · pixel size", "none", "0.05–5 µm", "give it as `mpp:` under this slide")
        if self.channels is not None and len(self.channels) != pixels.shape[0]:
            names = f"{len(self.channels)} names ({', '.join(self.channels)})"
            raise ReadError(f"{path} · channels", names, f"{pixels.shape[0]}, one a channel")
        tissue = new_section(section)
        channels = None if self.channels is None else list(self.channels)
        add_slide(tissue, pixels, scale_affine(um_per_pixel), channels=channels)
        return tissue
