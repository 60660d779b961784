"""Which picture of a Xenium run is meant, in all its versions: one file, or a folder of one file a channel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aivc_graph.errors import ReadError
from aivc_graph.io.slides import open_slide
from aivc_graph.tissue.doubt import tell

_ENDINGS = (".tif", ".tiff", ".btf")
# The whole stack of planes of focus; what is in focus is called morphology_focus.
_STACK = "morphology.ome"


def xenium_picture(folder: Path, name: str) -> Path:
    """Return the picture called `name`; of a folder of pictures, one a channel, the first, which is told.

    Raises
    ------
    ReadError
        No such picture: lists those there are.
    """
    path = folder / name
    if path.is_dir() and (pictures := sorted(one for one in path.iterdir() if one.suffix in _ENDINGS)):
        if len(pictures) > 1:
            tell(f"{path}: {pictures[0].name} is taken, of {len(pictures)} pictures of one channel each")
        return pictures[0]
    if not path.is_file():
        there = ", ".join(_pictures(folder)) or "none"
        raise ReadError(str(path), "no such picture", mend=f"name one of those that are here ({there})")
    return path


def open_picture(path: Path, folder: Path, mpp: float | None) -> tuple[Any, float | None]:
    """Return the pixels of a picture and its size as `open_slide` does; a stack of planes is refused with advice."""
    try:
        return open_slide(path, mpp=mpp)
    except ReadError as error:
        focus = [name for name in _pictures(folder) if not Path(name).name.startswith(_STACK)]
        if not path.name.startswith(_STACK) or not focus:
            raise
        raise ReadError(str(path), str(error), mend=f"what is in focus is in {', '.join(focus)}") from error


def _pictures(folder: Path) -> list[str]:
    found = (path for place in (folder, *filter(Path.is_dir, folder.glob("morphology*"))) for path in place.iterdir())
    return sorted(str(path.relative_to(folder)) for path in found if path.suffix in _ENDINGS)
