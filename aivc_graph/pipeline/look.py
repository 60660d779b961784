"""What lies in a folder: which files and folders a reader recognises, which sections they make, with which options."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from aivc_graph import names
from aivc_graph.config import SectionConfig
from aivc_graph.errors import AivcError, Faults, ReadError
from aivc_graph.io.any_rows import layer_hint
from aivc_graph.io.reading import READERS, reader_for, recognise, recognising
from aivc_graph.io.rows import AbstractRowsReader, Rows
from aivc_graph.pipeline.build import read_sections
from aivc_graph.tissue.doubt import doubts_heard
from aivc_graph.tissue.schema import MOST_LOG, check_counts, spacing_um
from aivc_graph.tissue.section import metadata_of
from aivc_graph.training.run_folder import FACTS

log = logging.getLogger(__name__)
DEEPEST, MOST_ENTRIES = 5, 20_000
LAYERS = ("counts", "raw", "raw_counts")
SPOT_UM, CELL_UM = 55.0, 10.0
PLAUSIBLE = (2.0, 200.0)
MOST_SECTIONS, MOST_KINDS, MOST_VALUES = 100, 200, 6
DATA = {".csv", ".tsv", ".parquet", ".h5", ".h5ad", ".h5mu", ".hdf5", ".loom", ".mtx", ".gef", ".gem", ".tif", ".tiff"}
SECTION = re.compile(r"(?i)^(library|sample|section|slice|slide|puck|capture_area|orig\.ident)([_ ]?(id|name|key))?$")
DONOR = re.compile(r"(?i)^(donor|patient|subject|individual|participant|mouse|animal)([_ ]?(id|name|key|no))?$")
LABEL = re.compile(
    r"(?i)^(cell_?types?|cell_?class|cell_?label|annotations?|labels?|region|layer_guess|cluster\w*|leiden)$"
)
DONE = re.compile(r"(?i)^(perturbations?|conditions?|treatments?|guide(_identity)?|compound|drug|gene_target|target)$")


@dataclass(frozen=True)
class Source:
    """One file or folder with its reader, its options, and by option what is to be said of it."""

    path: Path
    reader: str
    options: dict[str, Any] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """One entry of ``task.sections``, how it was told, and what could not be told."""

    name: str
    sources: list[Source]
    keys: dict[str, Any] = field(default_factory=dict)
    levels: tuple[str, ...] = ()
    donors: tuple[str, ...] = ()
    slide: bool = False
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
    if not sources:
        if not folder.is_dir():
            recognise(folder)
        expected = "\n".join(f"  {name}: {READERS.facts[name].get('expects', '')}" for name in READERS)
        there = f", in {', '.join(path.name for path in passed[:5])} and all else" if passed else ""
        raise ReadError(str(folder), f"nothing that a reader recognises{there}", mend=f"each expects:\n{expected}")
    sections = []
    for found in _named(_grouped(folder, sources)):
        log.info("reading %s (%s)", found.name, ", ".join(source.reader for source in found.sources))
        sections += _read_or_parted(found)
    options = [value for one in sections for source in one.sources for value in source.options.values()]
    used = {value for value in options if isinstance(value, Path)} | {source.path for source in sources}
    return sections, [path for path in passed if path not in used]


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
        elif path.is_file() and set(path.suffixes[-2:]) & DATA:
            passed.append(path)


def _with_tables(passed: list[Path]) -> Iterator[Source]:
    """Yield the files of `passed` that a reader takes together with what lies beside them."""
    for path in passed:
        for name in READERS:
            with suppress(ReadError):
                if told := READERS[name].options_beside(path):
                    yield Source(path, name, told)
                    break


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
    sources, keys, unclear, donors = [], dict(found.keys), list(found.unclear), found.donors
    for source in found.sources:
        takes = READERS[source.reader].model_fields
        if issubclass(READERS[source.reader], AbstractRowsReader):
            source, told, donors = _rows_options(source, unclear)
            keys |= told
        elif "slide" in takes and len(slides) == 1:
            said = "the full-resolution image that the positions refer to"
            source = replace(source, options={"slide": slides[0].path}, said={"slide": said})
            slides = []
        sources.append(source)
    sources = [source for source in sources if source.reader != names.SLIDE or source in slides]
    return replace(found, sources=sources, keys=keys, unclear=tuple(unclear), donors=donors)


def _rows_options(source: Source, unclear: list[str]) -> tuple[Source, dict[str, Any], tuple[str, ...]]:
    """Return a file of rows with its options, the keys of its section, and the donors its rows name."""
    member = READERS[source.reader]
    assert issubclass(member, AbstractRowsReader)
    given = source.options or member.options_beside(source.path)
    opened = _opened(source, given)
    if isinstance(opened, AivcError):
        unclear.append(str(opened))
        return replace(source, options=given), {}, ()
    options, rows = opened
    told = {"layer": "the layer that holds counts", "values": "CHECK: no counts found"}
    told |= dict.fromkeys(given, "CHECK: it lies beside, and fits in its names or its length")
    told["transpose"] = "a column is a cell or spot, a row a gene"
    said = {option: text for option, text in told.items() if option in options}
    finite = np.asarray(np.isfinite(rows.xy[:, :2]).all(axis=1))
    if not finite.any() and "dissociated" in member.model_fields:
        options["dissociated"] = True
    else:
        _sizes(member, rows, finite, options, said, unclear, source.path.name)
    if "dissociated" in options:
        said["dissociated"] = "no positions found: cells taken out of their tissue"
    columns = rows.columns
    if "label" in member.model_fields and (label := _first(columns, LABEL, MOST_KINDS) or _only_words(columns, given)):
        options["label"], said["label"] = label, f"{columns[label].nunique()} labels; leave out what is no annotation"
    done = _first(columns, DONE, 10**6)
    if done and "dissociated" in options:
        asked = f"whether {done!r} says what was done to the cells (`interventions: {{column: {done}, …}}`)"
        unclear.append(f"{source.path.name}: {asked}")
    keys, donors = _section_keys(columns)
    return replace(source, options=options, said=said), keys, donors


def _opened(source: Source, given: dict[str, Any]) -> tuple[dict[str, Any], Rows] | AivcError:
    """Return a file's rows, and the options under which they are positions and counts; else what is wrong first."""
    fields, path = READERS[source.reader].model_fields, source.path
    layers: list[dict[str, Any]] = [{}, *({"layer": name} for name in LAYERS if "layer" in fields)]
    places: list[dict[str, Any]] = [{}, {"dissociated": True}] if "dissociated" in fields else [{}]
    if "values" in fields:
        layers.append({"values": "log"})
    first: AivcError | None = None
    for place in places:
        for layer in layers:
            try:
                member = reader_for(path, source.reader, **given | place | layer)
                assert isinstance(member, AbstractRowsReader)
                rows = member.rows(path)
                if "values" not in layer:
                    faults = Faults(ReadError)
                    check_counts(rows.counts, str(path), faults, layer_hint(rows.layers))
                    faults.raise_if_any()
                    return given | place | layer, rows
                placed = bool(np.isfinite(rows.xy).any())
                return given | place | {"values": _kind_of(rows.counts, placed=placed)}, rows
            except AivcError as error:
                first = first or error
    assert first is not None
    return first


def _kind_of(table: Any, *, placed: bool) -> str:
    """Return which of the values that are no counts a table holds; below zero in tissue they are none that is read."""
    values = table.X.data if sparse.issparse(table.X) else np.asarray(table.X)
    if np.isnan(values).any() or (values < 0).any():
        return "log" if placed else "effect"
    return "intensity" if (values > MOST_LOG).any() else "log"


def _sizes(
    member: type[AbstractRowsReader],
    rows: Rows,
    finite: np.ndarray,
    options: dict[str, Any],
    said: dict[str, str],
    unclear: list[str],
    name: str,
) -> None:
    """Choose level, unit and diameter where the reader does not know them by itself."""
    open_ = {key for key in ("level", "um_per_unit", "diameter_um") if member.model_fields[key].default is None}
    array = {"array_row", "array_col"} <= set(rows.columns)
    spots = array or "in_tissue" in rows.columns
    spacing = spacing_um(rows.xy[finite, :2])
    if "level" in open_:
        options["level"] = names.PATCH if spots else names.CELL
        said["level"] = "by `array_row` or `in_tissue`" if spots else "CHECK: `cell`, or `patch` for capture spots"
        if not spots:
            unclear.append(f"{name}: whether a row is a cell or a capture spot; taken for a cell")
    if "um_per_unit" in open_ and not (array and _knows_array(member)):
        if PLAUSIBLE[0] <= spacing <= PLAUSIBLE[1]:
            options["um_per_unit"] = 1.0
            said["um_per_unit"] = f"CHECK: nearest neighbours are {spacing:.3g} units apart, so positions may be in µm"
        unclear.append(f"{name}: microns per unit of the positions (nearest neighbours are {spacing:.3g} units apart)")
    if "diameter_um" in open_:
        options["diameter_um"] = SPOT_UM if spots else CELL_UM
        said["diameter_um"] = "Visium's spots" if array else "CHECK: assumed [µm]; or `area:`, the column that has it"


def _knows_array(member: type[AbstractRowsReader]) -> bool:
    """Say whether a reader takes its unit from the array its spots were printed on."""
    return member.scale is not AbstractRowsReader.scale


def _section_keys(columns: pd.DataFrame) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the keys of a section that the annotation of its rows tells: sections, donor and traits."""
    keys: dict[str, Any] = {}
    donor = next((str(c) for c in columns if DONOR.match(str(c)) and columns[c].notna().all()), None)
    by = _first(columns, SECTION, MOST_SECTIONS)
    if by is None and donor is not None and columns[donor].nunique() > 1:
        by = donor
    if by is not None:
        keys["sections_by"] = by
    section = columns[by].astype(str) if by is not None else pd.Series("", columns.index)

    def constant(column: str) -> bool:
        return bool((columns[column].astype(str).groupby(section.to_numpy()).nunique() == 1).all())

    if donor is not None and constant(donor):
        keys["donor_by"] = donor
    else:
        donor = None
    if by is not None:
        words = columns.select_dtypes(include=["object", "string", "category", "bool"])
        few = [str(c) for c in words if 1 < words[c].nunique() <= MOST_VALUES and c not in (by, donor)]
        traits = [c for c in few if words[c].notna().all() and constant(c)]
        keys |= {"traits_by": traits} if traits else {}
    return keys, tuple(sorted(set(columns[donor].astype(str)))) if donor is not None else ()


def _only_words(columns: pd.DataFrame, given: dict[str, Any]) -> str | None:
    """Return the one column of words of an annotation that lies beside its counts, if it has few enough kinds."""
    if "positions" not in given:
        return None
    words = columns.select_dtypes(include=["object", "string", "category"])
    kinds = [str(c) for c in words if 1 < columns[c].nunique() <= min(MOST_KINDS, len(columns) / 2)]
    return kinds[0] if len(kinds) == 1 else None


def _first(columns: pd.DataFrame, pattern: re.Pattern[str], most: int) -> str | None:
    """Return the first column of that name which holds several values, no more than `most`, in every row.

    A label may be missing of some.
    """
    found = [c for c in columns if pattern.match(str(c)) and (pattern is LABEL or columns[c].notna().all())]
    return next((str(c) for c in found if 1 < columns[c].nunique() <= most), None)


def _tried(found: Found) -> Found:
    """Return a section with what reading it as a build does has told; without its slide where that is what fails."""
    if all(source.reader == names.SLIDE for source in found.sources):
        return replace(found, unclear=(*found.unclear, "an image alone: no cells or spots to go with it"), read=False)
    try:
        return _read(found)
    except AivcError as error:
        bare = [replace(s, options={k: v for k, v in s.options.items() if k != "slide"}) for s in found.sources]
        bare = [source for source in bare if source.reader != names.SLIDE]
        said = str(error).removeprefix(f"section {found.name}: ")
        if bare and bare != found.sources:
            try:
                read = _read(replace(found, sources=bare))
                return replace(read, unclear=(*read.unclear, f"its slide is left out: {said}"))
            except AivcError:
                pass
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
    unclear = (*found.unclear, *doubts)
    return replace(found, levels=levels, donors=tuple(sorted(donors)), slide=slide, unclear=unclear)


def as_config(found: Found) -> SectionConfig:
    """Return a section as the YAML will have it."""
    sources = [{"path": s.path, "reader": s.reader, **s.options} for s in found.sources]
    return SectionConfig.model_validate({"name": found.name, **found.keys, "sources": sources})
