"""Deliveries of several tables in one folder, such as counts, a list of cells, outlines and transcripts of a slide."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from aivc_graph import names
from aivc_graph.errors import ReadError, unknown_name
from aivc_graph.io.rows import AbstractRowsReader, Rows
from aivc_graph.io.tables import column_names
from aivc_graph.tissue.doubt import doubt
from aivc_graph.tissue.section import metadata_of

COUNTS, CELLS = "counts", "cells"
# The column [µm²] that such a reader makes of what the delivery says of the size of its cells; and its slide.
AREA, SLIDE = "cell_area_um2", "slide"
_TABLE = re.compile(r"\.(?:csv|tsv|txt|parquet)(?:\.gz)?$", re.IGNORECASE)
_MOST_FILES = 200

Files = dict[str, Path]


@dataclass(frozen=True)
class FlatRows(Rows):
    """Rows of one slide: its scale, its files by kind, the columns that name a cell in all of them, its outlines."""

    um_per_unit: float = 1.0
    files: Files = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    outlines: pd.DataFrame | None = None


class AbstractFlatFilesReader(AbstractRowsReader):
    """Reads a folder of tables as level ``cell``; what a table is, its columns tell, whatever its name.

    Parameters
    ----------
    slide
        What the names of the files begin with, where a folder holds those of several slides; or the name of its
        folder, where each has one of its own.
    outlines, transcripts
        Whether to add the outlines of cells and the transcripts, where the folder has them.

    See `aivc_graph.io.rows.AbstractRowsReader` for the others; `columns`, `keep` and `label` are those of the list of
    cells. ``sections_by: slide``, or a column of that list, reads each slide as a section of its own.
    """

    platform: ClassVar[str] = ""
    # What the vendor calls the counts and the list of cells, and how the names of all its files end.
    vendor_names: ClassVar[dict[str, str]] = {}
    endings: ClassVar[re.Pattern[str]] = re.compile("$")
    level: Literal["cell", "patch"] | None = names.CELL
    area: str | None = AREA
    slide: str | None = None
    outlines: bool = True
    transcripts: bool = True

    @classmethod
    @abstractmethod
    def kind_of(cls, columns: list[str], path: Path) -> str | None:
        """Return what a table of these columns is: `COUNTS`, `CELLS`, another kind, or `None`."""

    @abstractmethod
    def slide_rows(self, slide: str, files: Files) -> FlatRows:
        """Return what the files of one slide hold."""

    @abstractmethod
    def complete(self, tissue: Any, rows: FlatRows) -> None:
        """Add what belongs to the cells besides their counts: outlines, transcripts, a picture."""

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return path.is_dir() and any({COUNTS, CELLS} & set(files) for files in cls.slides(path).values())

    @classmethod
    def slides(cls, folder: Path) -> dict[str, Files]:
        """Return the tables of each slide in `folder` by kind; or those of its folders, where each holds one slide."""
        found = _by_slide(folder, cls.kind_of, cls.endings)
        for inner in [] if found else _folders_in(folder):
            slides = list(_by_slide(inner, cls.kind_of, cls.endings).values())
            if len(slides) != 1 or not {COUNTS, CELLS} & set(slides[0]):
                return {}
            found[inner.name] = slides[0]
        return found

    def preview(self, path: Path) -> dict[str, Any] | None:
        return None

    def rows(self, path: Path) -> FlatRows:
        return self.slide_rows(*self._files(path))

    def scale(self, rows: Rows, path: Path) -> float | None:
        return rows.um_per_unit if isinstance(rows, FlatRows) else self.um_per_unit

    def read_by(self, path: Path, by: tuple[str, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for slide in self.slides(path) if self.slide is None else (self.slide,):
            one = self.model_copy(update={"slide": slide})
            parts = super(AbstractFlatFilesReader, one).read_by(path, by)
            if twice := sorted(set(parts) & set(found)):
                mend = f"name `{SLIDE}` in `sections_by:` too"
                raise ReadError(f"{path} · {slide}", f"a second {twice[0]!r}", "a name each", mend)
            found |= parts
        return found

    def laid(self, rows: Rows, path: Path, section: str) -> Any:
        if self.area == AREA and AREA not in rows.columns:
            return self.model_copy(update={"area": None}).laid(rows, path, section)
        tissue = super().laid(rows, path, section)
        metadata_of(tissue)["platform"] = self.platform
        if isinstance(rows, FlatRows):
            self.complete(tissue, rows)
        return tissue

    def _files(self, path: Path) -> tuple[str, Files]:
        """Return the slide and its files by kind."""
        slides = self.slides(path)
        if self.slide is not None and self.slide not in slides:
            raise unknown_name(ReadError, str(path), SLIDE, self.slide, slides)
        if self.slide is None and len(slides) > 1:
            mend = f"choose one by `slide: {next(iter(slides))}`, or read each as a section by `sections_by: {SLIDE}`"
            raise ReadError(str(path), f"files of {len(slides)} slides: {', '.join(slides)}", "one", mend)
        slide = next(iter(slides), "") if self.slide is None else self.slide
        files = slides.get(slide, {})
        if missing := [name for kind, name in self.vendor_names.items() if kind not in files]:
            there = ", ".join(sorted(file.name for file in path.iterdir())[:10]) or "nothing"
            raise ReadError(str(path), there, " and ".join(missing), "copy it from the same slide")
        if len({_slide_of(files[kind], self.endings) for kind in (COUNTS, CELLS)}) > 1:
            found = f"{files[COUNTS].name} beside {files[CELLS].name}"
            doubt(str(path), found, "files of one slide", "are both of the same slide?")
        return slide, files


def known_areas(areas: np.ndarray) -> dict[str, np.ndarray]:
    """Return areas [µm²] as a column, nothing if none is known; one that is not takes the median of the others."""
    known = np.isfinite(areas) & (areas != 0)
    return {AREA: np.where(known, areas, np.median(areas[known]))} if known.any() else {}


def _by_slide(
    folder: Path, kind_of: Callable[[list[str], Path], str | None], endings: re.Pattern[str]
) -> dict[str, Files]:
    """Group tables by what their names begin with; where there are counts and cells of one alone, all are of one."""
    found: dict[str, dict[str, list[Path]]] = {}
    for path, columns in _tables_in(folder, endings):
        kind = kind_of(columns, path)
        if kind is not None:
            found.setdefault(_slide_of(path, endings), {}).setdefault(kind, []).append(path)
    if all(sum(kind in files for files in found.values()) < 2 for kind in (COUNTS, CELLS)):
        parts: dict[str, list[Path]] = {}
        for kind, paths in (item for files in found.values() for item in files.items()):
            parts.setdefault(kind, []).extend(paths)
        slide = next((name for name, files in found.items() if COUNTS in files), "")
        return {slide: {kind: _named_so(paths, endings) for kind, paths in parts.items()}} if parts else {}
    slides = {name: files for name, files in sorted(found.items()) if COUNTS in files or CELLS in files}
    return {name: {kind: _named_so(paths, endings) for kind, paths in files.items()} for name, files in slides.items()}


def _tables_in(folder: Path, endings: re.Pattern[str]) -> list[tuple[Path, list[str]]]:
    """Return the tables in `folder` with their columns; of very many, those that are named as the vendor names his."""
    try:
        files = sorted(path for path in folder.iterdir() if _TABLE.search(path.name) and path.is_file())
        few = files if len(files) <= _MOST_FILES else [path for path in files if endings.search(path.name)]
        return [(path, column_names(path)) for path in few]
    except OSError:
        return []


def _folders_in(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []


def _slide_of(path: Path, endings: re.Pattern[str]) -> str:
    """Return what the name of a file begins with; nothing if it is not named as the vendor names his."""
    return endings.sub("", path.name) if endings.search(path.name) else ""


def _named_so(paths: list[Path], endings: re.Pattern[str]) -> Path:
    """Return the one that is named as the vendor names his, or else the widest: others are annotation of users."""
    return max(paths, key=lambda path: (bool(endings.search(path.name)), len(column_names(path))))
