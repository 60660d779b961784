"""A folder of data → a commented configuration that `aivc build` accepts."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aivc_graph import names
from aivc_graph.atomic import locked, staged
from aivc_graph.config import load_config
from aivc_graph.errors import ConfigError
from aivc_graph.io.staging import check_place
from aivc_graph.pipeline.look import Found, look
from aivc_graph.pipeline.row_options import Source
from aivc_graph.tissue.intervention_kinds.kind import INTERVENTION_KINDS
from aivc_graph.yaml_source import dump_yaml

log = logging.getLogger(__name__)
FILE = "aivc.yaml"
FEW_DONORS = 4
RULES = {names.CELL: "{kind: knn, k: 18}", names.PATCH: "{kind: knn, k: 6}"}


def init(folder: Path, out: Path | None = None) -> dict[str, Any]:
    """Write a configuration for the data in a folder; return where it is, what was found and what could not be told.

    Every section is read once, as a build does. What is a guess is marked CHECK in the file.

    Parameters
    ----------
    out
        The YAML file; by default ``aivc.yaml`` in the folder. A file that is there is kept, and refused.

    Raises
    ------
    ReadError
        Nothing there that a reader recognises.
    ConfigError
        The file is there already.
    """
    folder, out = Path(folder), Path(out) if out is not None else Path(folder) / FILE
    if out.exists():
        with locked(out):  # which takes away the lock of one that was killed
            _refuse_taken(out)
    check_place(out, mend="name a file elsewhere by --out")
    sections, passed = look(folder)
    text = "\n".join(_lines(sections, folder, out)) + "\n"
    with staged(out) as beside:
        _refuse_taken(out)  # while this one read, another may have written
        beside.write_text(text, encoding="utf-8")
        load_config(beside)
    found = [
        f"{one.name}: {', '.join(f'{s.path.name} ({s.reader})' for s in one.sources)}"
        + (f", {len(one.donors)} donors" if len(one.donors) > 1 else "")
        for one in sections
    ]
    unclear = [f"{one.name}: {text}" for one in sections for text in one.unclear]
    unclear += [f"{one.name}: cannot be read as it stands, so it is commented out" for one in sections if not one.read]
    unclear += [f"{path.relative_to(folder)}: no reader recognises it, so it is left out" for path in passed]
    if bare := [one.name for one in sections if not one.donors]:
        of = "each section" if len(bare) == len(sections) else ", ".join(bare)
        unclear.append(f"which donor {of} is from: add `donor:`, so that a split and intervals are over donors")
    then = f"aivc build {out}"
    if not any(one.read for one in sections):
        then = f"settle what is marked CHECK in {out.name} and take the # away before its sections, then {then}"
    return {"config": str(out), "found": found, "unclear": unclear, "next": then}


def _refuse_taken(out: Path) -> None:
    if out.exists():
        raise ConfigError(str(out), "a file that is there already", mend="name another by --out, or remove it")


def _lines(sections: list[Found], folder: Path, out: Path) -> Iterator[str]:
    yield "# Written by `aivc init`: check what is marked CHECK, then"
    yield f"#   aivc build {out}"
    yield "# All keys and options: docs/reference.md, or `aivc schema --reference`. Lengths are in µm."
    yield ""
    yield "task:"
    yield f"  name: {_plain(folder.resolve().name or 'task')}"
    yield from _split(sections)
    yield "  sections:" if any(one.read for one in sections) else "  sections: []"
    for one in sections:
        yield from _section(one, Path(os.path.realpath(out)).parent)
    if any(one.slide for one in sections):
        yield "  features: {}          # describe the H&E tile under each spot or window; leave out to ignore slides"
    placed = [one for one in sections if one.placed]
    levels = [level for level in (names.CELL, names.PATCH) if any(level in one.levels for one in placed)]
    if levels:
        yield ""
        yield "graph:"
        yield "  edges:                # who is a neighbour of whom, at each level"
        yield from (f"    {level}: {RULES[level]}" for level in levels)
        if names.PATCH not in levels:
            guessed = any(source.said.get("level", "").startswith("CHECK") for one in placed for source in one.sources)
            if guessed:
                yield f"    # patch: {RULES[names.PATCH]}   # in place of `cell:`, where you change `level:` to patch"
            yield "  patch_um: 100         # edge of the square windows over the cells"


def _split(sections: list[Found]) -> Iterator[str]:
    """Yield a split by donors of tissue, of which a reference has others, if every section names its own."""
    read = [one for one in sections if one.read] or sections
    tissue = [one for one in read if one.placed] or read
    donors = sorted({donor for one in tissue for donor in one.donors})
    if len(donors) < 2 or not all(one.donors for one in read):
        yield "  # Nothing is held out. With several donors: {kind: by_group, key: donor, test: [NAME]};"
        yield "  # with one section: {kind: by_block, …} holds out blocks of tissue."
        yield "  split: {kind: everything}"
        return
    held = f", validation: [{_plain(donors[-2])}]" if len(donors) >= FEW_DONORS else ""
    yield f"  # {len(donors)} donors: the test donor is never trained on."
    yield f"  split: {{kind: by_group, key: donor, test: [{_plain(donors[-1])}]{held}}}"


def _section(one: Found, base: Path) -> Iterator[str]:
    """Yield the lines of a section; one that cannot be read as it stands is commented out, under the reason."""
    for text in one.unclear:
        yield from (f"    # CHECK: {line}" for line in text.splitlines())
    for line in _entry(one, base):
        yield line if one.read else f"    # {line.removeprefix('    ')}"


def _entry(one: Found, base: Path) -> Iterator[str]:
    yield f"    - name: {_plain(one.name)}"
    for key, value in one.keys.items():
        yield f"      {key}: {_plain(value)}"
    if not one.donors:
        yield "      # donor: D1        # patient or animal it is from"
    if one.done:
        yield f"      # interventions: {_plain(one.done)}   # KIND: {', '.join(sorted(INTERVENTION_KINDS))}"
    yield "      sources:"
    for source in one.sources:
        yield from _source(source, base)


def _source(source: Source, base: Path) -> Iterator[str]:
    yield f"        - path: {_plain(_relative(source.path, base))}"
    yield f"          reader: {source.reader}"
    for option, value in source.options.items():
        shown = _relative(value, base) if isinstance(value, Path) else value
        said = f"   # {source.said[option]}" if option in source.said else ""
        yield f"          {option}: {_plain(shown)}{said}"


def _relative(path: Path, base: Path) -> str:
    """Return a path as the file gives it: from its own folder where it lies below it."""
    path = path.resolve()
    return f"./{path.relative_to(base)}" if path.is_relative_to(base) else str(path)


def _plain(value: Any) -> str:
    """Return a value as YAML on one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_plain(key)}: {_plain(one)}' for key, one in value.items())}}}"
    return dump_yaml([value]).strip().removeprefix("- ")
