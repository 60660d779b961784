"""The contract of a reader, the registry of readers, and `read`, which picks one by content."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from aivc_graph.errors import AivcError, ConfigError, ReadError
from aivc_graph.io.tables import foreign_kind
from aivc_graph.registry import Registry
from aivc_graph.settings import Settings
from aivc_graph.tissue.schema import check_section


class AbstractReader(Settings, ABC):
    """One vendor or file format. Its fields are the options a YAML source may give."""

    @classmethod
    @abstractmethod
    def recognises(cls, path: Path) -> bool:
        """Say by content, cheaply and without raising, whether this reader can read `path`."""

    @abstractmethod
    def read(self, path: Path, section: str) -> Any:
        """Return `path` as a section (SpatialData): elements in vendor units, placed where the pixel size is known."""

    @classmethod
    def options_beside(cls, path: Path) -> dict[str, Any]:
        """Return the options that files beside `path` tell: what names its rows, or says where they lie."""
        return {}

    def preview(self, path: Path) -> dict[str, Any] | None:
        """Say what `path` holds and which options only the user can give; `None` if there are none."""
        return None

    def read_by(self, path: Path, by: tuple[str, ...]) -> dict[str, Any]:
        """Return the sections that one file holds, by name: the values of the columns `by`, joined by ``-``.

        Raises
        ------
        ReadError
            The reader takes a file for one section; only those that say otherwise part it.
        """
        found = f"a delivery of one section, to be parted by {', '.join(by)}"
        mend = "leave out `sections_by:`, and list several deliveries as sections of their own"
        raise ReadError(str(path), found, "a file that tells sections apart by a column", mend)


_MOST_NEAR = 50
READERS: Registry[type[AbstractReader]] = Registry("reader", "aivc_graph.io.readers")


def recognise(path: Path) -> str:
    """Return the name of the reader whose content test `path` passes.

    Raises
    ------
    ReadError
        If the path does not exist, or no reader recognises it; lists what each reader expects.
    """
    if not path.exists():
        raise ReadError(
            str(path), "no such file or folder", mend="check the path (relative paths resolve against AIVC_DATA)"
        )
    if (name := recognising(path)) is not None:
        return name
    if path.is_file() and (kind := foreign_kind(path)) is not None:
        raise ReadError(str(path), kind[0], "a file that a reader knows", kind[1])
    if (near := _near(path)) is not None:
        raise ReadError(str(path), "no reader recognises it", mend=near)
    expectations = "\n".join(f"  {name}: {READERS.facts[name].get('expects', '')}" for name in READERS)
    raise ReadError(str(path), "no reader recognises it", mend=f"name one as `reader:`. Each expects:\n{expectations}")


def recognising(path: Path) -> str | None:
    """Return the name of the first reader that recognises `path`, `None` if none does."""
    for name in READERS:
        with suppress(Exception):  # what a damaged file breaks in one reader's test is no matter of another's
            if READERS[name].recognises(path):
                return name
    return None


def _near(path: Path) -> str | None:
    """Say which path nearby a reader recognises: the folder that a file is a part of, or what lies in a folder."""
    if path.is_file():
        folder = path.absolute().parent
        name = recognising(folder)
        return None if name is None else f"it is part of a delivery: give its folder {folder} ({name})"
    inside = sorted(one for one in path.iterdir() if not one.name.startswith("."))[:_MOST_NEAR]
    found = [f"{one.name} ({name})" for one in inside if (name := recognising(one)) is not None]
    return f"give what lies in it: {', '.join(found[:5])}; `aivc init` looks deeper" if found else None


def read(
    path: str | Path, *, section: str | None = None, reader: str | None = None, check: bool = True, **options: Any
) -> Any:
    """Read a section from `path` as a SpatialData with one coordinate system, ``microns``.

    Parameters
    ----------
    section
        Name of the section; by default the file's or folder's own.
    reader
        Name of a reader; by default chosen by content.
    check
        Check the section's schema; `False` only for a part that is registered or merged later.
    options
        Options of that reader, such as ``um_per_unit=0.5``.

    Examples
    --------
    >>> section = read("outs", reader="spaceranger")
    """
    path = Path(path)
    with guarded(path):
        tissue = reader_for(path, reader, **options).read(path, section or path.absolute().name.split(".")[0])
        if check:
            check_section(tissue)
    return tissue


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Name the file, as a `ReadError`, where what is wrong with it breaks something deep inside a library.

    Raises
    ------
    ReadError
        In place of any error that is none of ours, and where memory does not suffice.
    """
    try:
        yield
    except AivcError:
        raise
    except MemoryError as error:
        mend = "read it on a larger machine, or a part of it; if it is small, it is damaged"
        raise ReadError(str(path), "more than memory holds when unpacked", mend=mend) from error
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        found = f"content that cannot be read ({type(error).__name__}: {first:.200})"
        mend = "copy it again from its source; if others read it, --debug shows where it fails here"
        raise ReadError(str(path), found, mend=mend) from error


def reader_for(path: Path, reader: str | None = None, **options: Any) -> AbstractReader:
    """Return the reader of a path with its options: the one called `reader`, or else the one that recognises it."""
    name = reader or recognise(path)
    if not path.exists():
        raise ReadError(str(path), "no such file or folder", mend="check the path")
    member = READERS.get(name, where=str(path))
    try:
        return member(**options)
    except ValidationError as error:
        raise ConfigError(f"{path} · reader {name!r}", option_faults(error, member)) from error


def option_faults(error: ValidationError, member: type[Settings]) -> str:
    """Say in one line what pydantic found wrong with the options of `member`."""
    parts = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
    return f"{'; '.join(parts)} (it takes: {', '.join(sorted(member.model_fields)) or 'no option'})"
