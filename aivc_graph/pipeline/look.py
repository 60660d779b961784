"""What lies in a folder: which files and folders a reader recognises, which sections they make, with which options."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from aivc_graph import names
from aivc_graph.config import SectionConfig
from aivc_graph.errors import AivcError, ReadError
from aivc_graph.io.labels import label_tables
from aivc_graph.io.reading import READERS, recognise, recognising
from aivc_graph.io.rows import AbstractRowsReader, AbstractTableReader
from aivc_graph.io.tables import (
    PARQUET_MAGIC,
    POSITION_NAMES,
    column_names,
    first_lines,
    foreign_kind,
    is_number,
    magic_of,
)
from aivc_graph.pipeline.build import read_sections
from aivc_graph.pipeline.row_options import Source, rows_options, what_was_done
from aivc_graph.tissue.doubt import doubts_heard
from aivc_graph.tissue.frame import is_dissociated
from aivc_graph.tissue.section import metadata_of
from aivc_graph.training.run_folder import FACTS

log = logging.getLogger(__name__)
DEEPEST, MOST_ENTRIES = 5, 20_000
DATA = {".csv", ".tsv", ".parquet", ".h5", ".h5ad", ".h5mu", ".hdf5", ".loom", ".mtx", ".gef", ".gem", ".tif", ".tiff"}
# Words in the name of a file that tell what was measured of cells, where its features do not.
NAMED = {"protein": re.compile(r"(?i)adt|protein|antibod|surface"), "atac": re.compile(r"(?i)atac|peak|chromatin")}
# What Xenium Explorer calls the affine of an H&E, and where others are told.
ALIGNMENT, LANDMARKS = "*imagealignment*.csv", "docs/landmarks.md"
LABELS = "CHECK: a table of names and labels that lies there; leave out what is no annotation"
# What a section can be read without, in the order in which it is done without.
OPTIONAL = (("labels",), ("slide",), ("labels", "slide"))
ELEMENTS = "CHECK: by what its elements are called"
# A table of rows has as many values beside its names and positions; a list of names or places has fewer.
LEAST_VALUES, MOST_OF_LIST = 3, 12
GENE = re.compile(r"(?i)^(genes?(_?(id|name|symbol)s?)?|symbols?|features?|hgnc\w*|ensembl\w*|gene_?id)$")
# Two files are of the same cells if they share this part of their names, and of other molecules if less of those.
SAME_CELLS, SAME_MOLECULES = 0.95, 0.5


@dataclass(frozen=True)
class Found:
    """One entry of ``task.sections``, how it was told, and what could not be told.

    `done` is what may say what was done to its cells, as options of ``interventions``; `cells` and `molecules` are what
    was read of it.
    """

    name: str
    sources: list[Source]
    keys: dict[str, Any] = field(default_factory=dict)
    levels: tuple[str, ...] = ()
    donors: tuple[str, ...] = ()
    slide: bool = False
    placed: bool = True
    done: dict[str, str] = field(default_factory=dict)
    cells: pd.Index = field(default_factory=lambda: pd.Index([]), compare=False)
    molecules: pd.Index = field(default_factory=lambda: pd.Index([]), compare=False)
    unclear: tuple[str, ...] = ()
    read: bool = True


def look(folder: Path) -> tuple[list[Found], list[Path]]:
    """Return the sections that lie in a folder, each read once to see whether a build would take it.

    Beside them stand the files of data that no reader recognises.

    Raises
    ------
    ReadError
        Nothing there that a reader recognises: says what each expects.
    """
    passed: list[Path] = []
    sources = list(_recognised(folder, passed))
    sources += _with_tables(passed)
    sources = sources or [Source(path, "plain_table", _turned(path)) for path in passed if _is_table(path)]
    if not sources:
        if not folder.is_dir():
            recognise(folder)
        expected = "\n".join(f"  {name}: {READERS.facts[name].get('expects', '')}" for name in READERS)
        there = f", in {', '.join(map(_called, passed[:5]))} and all else" if passed else ""
        raise ReadError(str(folder), f"nothing that a reader recognises{there}", mend=f"each expects:\n{expected}")
    sections = []
    for found in _named(_grouped(folder, sources)):
        log.info("reading %s (%s)", found.name, ", ".join(source.reader for source in found.sources))
        sections += _read_or_parted(found)
    sections = _paired(sections)
    options = [value for one in sections for source in one.sources for value in source.options.values()]
    used = {one.absolute() for one in (*options, *(source.path for source in sources)) if isinstance(one, Path)}
    return sections, [path for path in passed if path.absolute() not in used]


def _recognised(folder: Path, passed: list[Path]) -> Iterator[Source]:
    """Yield what a reader recognises at or below `folder`, which is not looked into; other data go to `passed`."""
    waiting, seen = [(folder, 0)], set[Path]()
    while waiting and len(seen) < MOST_ENTRIES:
        path, depth = waiting.pop(0)
        if path.resolve() in seen:
            continue  # a link to what was looked at, or above it
        seen.add(path.resolve())
        if (path / FACTS).exists() or (path / "levels").is_dir():
            continue  # a run, or a graph store
        name = recognising(path)
        if name is not None:
            yield Source(path, name)
        elif path.is_dir() and depth < DEEPEST:
            waiting += [(p, depth + 1) for p in sorted(path.iterdir()) if not p.name.startswith(".")]
        elif path.is_file() and (set(path.suffixes[-2:]) & DATA or foreign_kind(path)):
            passed.append(path)


def _with_tables(passed: list[Path]) -> Iterator[Source]:
    """Yield the files of `passed` that a reader takes together with what lies beside them."""
    for path in passed:
        for name in READERS:
            with suppress(ReadError):
                if told := READERS[name].options_beside(path):
                    yield Source(path, name, told)
                    break


def _is_table(path: Path) -> bool:
    """Say whether a file may be a table of rows, by its names of columns and its first row: a few named numbers."""
    given = {name for pair in POSITION_NAMES for name in pair}
    numbers = [one for one in _numbers(path) if one not in given]
    return sum(not one.isdigit() for one in numbers) >= LEAST_VALUES


def _numbers(path: Path) -> list[str]:
    """Return the names of the columns, but the first, whose first value is a number; of Parquet all names."""
    try:
        if magic_of(path) == PARQUET_MAGIC:
            return column_names(path)[1:]
        header, *rows = first_lines(path) or [[]]
    except ReadError:
        return []
    values = rows[0] if rows else []
    return [name for name, value in list(zip(header, values, strict=False))[1:] if is_number(value.replace(",", "."))]


def _turned(path: Path) -> dict[str, Any]:
    """Return the options of a table whose rows are genes, as its first column says; none of another."""
    header = column_names(path)
    return {"transpose": True, "dissociated": True} if header and GENE.match(header[0]) else {}


def _called(path: Path) -> str:
    """Return the name of a file, with what it is and what can be done with it, where that can be told."""
    if (kind := foreign_kind(path)) is not None:
        return f"{path.name} ({kind[0]}: {kind[1]})"
    header = column_names(path)
    if LEAST_VALUES <= len(header) <= MOST_OF_LIST:
        turn = "turn it into one row a cell or condition, and one column a gene"
        return f"{path.name} (a list of {', '.join(header[:4])}: {turn})"
    return path.name


def _grouped(root: Path, sources: list[Source]) -> Iterator[Found]:
    """Yield sections: what lies in one folder is one section, unless two files there are of one kind."""
    if sources[0].path == root:  # recognised as a whole, so nothing else was looked for
        whole = root.resolve()
        yield Found(_stem(whole.parent if whole.name == "outs" else whole), sources)
        return
    for folder in dict.fromkeys(source.path.parent for source in sources):
        here = [source for source in sources if source.path.parent == folder]
        slides = [source for source in here if source.reader == names.SLIDE]
        measured = [source for source in here if source.reader != names.SLIDE]
        of = {source.reader for source in measured}
        if len(measured) == len(of) and (len(measured) > 1 or (measured and folder != root)):
            yield Found(folder.name if folder != root else root.resolve().name, [*measured, *slides])
            continue
        left = list(slides)
        for source in measured:
            stem = _stem(source.path)
            own = [s for s in slides if _stem(s.path).startswith(stem) or stem.startswith(_stem(s.path))]
            own = own or (slides if len(measured) == 1 else [])
            left = [s for s in left if s not in own]
            yield Found(stem, [source, *own])
        for slide in left:
            if measured:
                unclear = f"{slide.path.name}: which section this slide is of"
                yield Found(_stem(slide.path), [slide], unclear=(unclear,))
            else:
                yield Found(_stem(slide.path), [slide])


def _stem(path: Path) -> str:
    return path.name.split(".")[0]


def _named(sections: Iterator[Found]) -> Iterator[Found]:
    """Yield sections of which no two have one name."""
    taken: set[str] = set()
    for found in sections:
        name, number = found.name, 2
        while name in taken:
            name, number = f"{found.name}-{number}", number + 1
        taken.add(name)
        yield replace(found, name=name)


def _with_options(found: Found) -> Found:
    slides = [source for source in found.sources if source.reader == names.SLIDE]
    sources, keys, unclear, donors, done = [], dict(found.keys), list(found.unclear), found.donors, found.done
    for source in found.sources:
        member = READERS[source.reader]
        if issubclass(member, AbstractRowsReader):
            told = rows_options(source, unclear)
            source, donors, done = told.source, told.donors, told.done
            keys |= told.keys
        elif issubclass(member, AbstractTableReader):
            with suppress(AivcError):
                done = what_was_done(member().rows(source.path).columns, source, unclear)
        elif within := _within(source):
            source = replace(source, options=within, said=dict.fromkeys(within, ELEMENTS))
        elif "slide" in member.model_fields and len(slides) == 1:
            source = _with_slide(source, slides[0].path.absolute(), unclear)
            slides = []
        if "labels" in member.model_fields and (tables := label_tables(source.path)):
            options, said = {**source.options, "labels": tables[0].absolute()}, {**source.said, "labels": LABELS}
            source = replace(source, options=options, said=said)
        sources.append(source)
    sources = [source for source in sources if source.reader != names.SLIDE or source in slides]
    return replace(found, sources=sources, keys=keys, unclear=tuple(unclear), donors=donors, done=done)


def _with_slide(source: Source, slide: Path, unclear: list[str]) -> Source:
    """Return a delivery with its slide; without it where an affine must place it, and none lies there."""
    options, said = {"slide": slide}, {"slide": "the full-resolution image that the positions refer to"}
    if "slide_affine" in READERS[source.reader].model_fields:
        affines = sorted(source.path.glob(ALIGNMENT))
        if len(affines) != 1:
            there = "no" if not affines else f"{len(affines)}"
            mend = f"give `slide:` and `slide_affine:`, or register it as a source of its own ({LANDMARKS})"
            unclear.append(f"{slide.name} is left out: {there} {ALIGNMENT} says where it lies; {mend}")
            return source
        options |= {"slide_affine": affines[0].absolute()}
        said = {"slide_affine": f"CHECK: places {slide.name} under the cells"}
    return replace(source, options={**source.options, **options}, said={**source.said, **said})


def _within(source: Source) -> dict[str, Any]:
    """Return the options that a delivery tells of itself; none of a damaged one, of which reading it tells."""
    with suppress(AivcError):
        return READERS[source.reader].options_beside(source.path)
    return {}


def _tried(found: Found) -> Found:
    """Return a section with what reading it as a build does has told; without what is optional where that fails."""
    if all(source.reader == names.SLIDE for source in found.sources):
        return replace(found, unclear=(*found.unclear, "an image alone: no cells or spots to go with it"), read=False)
    try:
        return _read(found)
    except AivcError as error:
        said = str(error).removeprefix(f"section {found.name}: ")
    for left in OPTIONAL:
        bare = [replace(s, options={k: v for k, v in s.options.items() if k not in left}) for s in found.sources]
        bare = [source for source in bare if source.reader not in left]
        if bare and bare != found.sources:
            with suppress(AivcError):
                read = _read(replace(found, sources=bare))
                return replace(read, unclear=(*read.unclear, f"its {' and '.join(left)} left out: {said}"))
    return replace(found, unclear=tuple(dict.fromkeys((*found.unclear, said))), read=False)


def _read_or_parted(found: Found) -> list[Found]:
    """Return what lies in one folder as a section; what cannot be one, as a section each of those that can be read."""
    whole = _tried(_with_options(found))
    measured = [source for source in found.sources if source.reader != names.SLIDE]
    if whole.read or len(measured) < 2:
        return [whole]
    parts = [_tried(_with_options(Found(f"{found.name}-{_stem(one.path)}", [one]))) for one in measured]
    if not any(part.read for part in parts):
        return [whole]
    others = [source.path.name for source in found.sources if source not in measured]
    unclear = "which of the sections of this folder belong together" + (f", and {', '.join(others)}" if others else "")
    return [replace(part, unclear=(unclear, *part.unclear)) for part in parts]


def _read(found: Found) -> Found:
    with doubts_heard() as doubts:
        sections = [section for section, _ in read_sections(as_config(found))]
    levels = tuple(level for level in (names.CELL, names.PATCH) if any(level in s.shapes for s in sections))
    donors = {str(donor) for s in sections if (donor := metadata_of(s).get("donor")) is not None}
    slide = any(names.SLIDE in s.images for s in sections)
    tables = [table for one in sections for table in one.tables.values()]
    return replace(
        found,
        levels=levels,
        donors=tuple(sorted(donors)),
        slide=slide,
        placed=not all(map(is_dissociated, sections)),
        cells=_all(s.shapes[names.CELL].index for s in sections if names.CELL in s.shapes),
        molecules=_all(table.var_names for table in tables).unique(),
        unclear=(*found.unclear, *doubts),
    )


def _all(indices: Iterable[pd.Index]) -> pd.Index:
    return pd.Index([name for index in indices for name in index])


def _paired(sections: list[Found]) -> list[Found]:
    """Return the sections, of which those that hold other molecules of the same cells are one, if it can be read."""
    paired: list[Found] = []
    for found in sections:
        at, whole = next(
            ((i, both) for i, one in enumerate(paired) if (both := _as_one(one, found)) is not None), (None, None)
        )
        if at is None or whole is None:
            paired.append(found)
        else:
            paired[at] = whole
    return paired


def _as_one(one: Found, other: Found) -> Found | None:
    """Return two files of the same cells as one section; None if they are not, or cannot be read so."""
    first, second = sorted((one, other), key=lambda found: -len(found.molecules))
    if not (one.read and other.read) or one.sources[0].path.parent != other.sources[0].path.parent:
        return None
    if min(_share(one.cells, other.cells)) < SAME_CELLS or max(_share(one.molecules, other.molecules)) > SAME_MOLECULES:
        return None
    joined = replace(first, name=min(first.name, second.name, key=len))
    for sources in _joined(first, second):
        with suppress(AivcError):
            return _read(replace(joined, sources=sources))
    return None


def _joined(first: Found, second: Found) -> Iterator[list[Source]]:
    """Yield ways to give both files as sources of one section: dissociated cells by name, placed ones beside."""
    main, *others = first.sources
    if not first.placed and not second.placed:
        further = [_of_others(source) for source in second.sources]
        yield [*first.sources, *further]
        yield [*first.sources, *map(_by_name, further)]
    elif first.placed and main.reader == second.sources[0].reader and "beside" in READERS[main.reader].model_fields:
        more = _by_name(second.sources[0])
        if (modality := more.options.get("modality")) is not None:
            beside, said = {"beside": {modality: more.path.name}}, {"beside": "CHECK: by the name of the file"}
            yield [replace(main, options={**main.options, **beside}, said={**main.said, **said}), *others]


def _share(own: pd.Index, others: pd.Index) -> tuple[float, float]:
    """Return which share of names of each side the other has, none of none."""
    if not (len(own) and len(others)):
        return 0.0, 0.0
    return float(own.isin(others).mean()), float(others.isin(own).mean())


def _of_others(source: Source) -> Source:
    """Return a further source of the cells of another, which says by itself what they are."""
    options = {key: value for key, value in source.options.items() if key != "label"}
    return replace(source, options=options, said={**source.said, "dissociated": "the same cells: joined by name"})


def _by_name(source: Source) -> Source:
    """Return a source with the modality that the name of its file tells, if it tells one."""
    modality = next((one for one, words in NAMED.items() if words.search(source.path.name)), None)
    said = {**source.said, "modality": "CHECK: by the name of the file"}
    return source if modality is None else replace(source, options={**source.options, "modality": modality}, said=said)


def as_config(found: Found) -> SectionConfig:
    """Return a section as the YAML will have it."""
    sources = [
        {"path": s.path, "reader": s.reader} | {k: str(v) if isinstance(v, Path) else v for k, v in s.options.items()}
        for s in found.sources
    ]
    return SectionConfig.model_validate({"name": found.name, **found.keys, "sources": sources})
