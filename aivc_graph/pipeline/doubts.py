"""What is not wrong for certain, but worth a look before anything is trained on it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from aivc_graph import names
from aivc_graph.config import SourceConfig, TaskConfig
from aivc_graph.errors import TissueError
from aivc_graph.io.embeddings import EmbeddingTable
from aivc_graph.io.reading import recognise
from aivc_graph.splits.design import labels_of, levels_of, split_design
from aivc_graph.splits.leakage import MAX_SHARE, MIN_ROWS, Duplicate
from aivc_graph.tissue.label_agreement import check_labels, types_of
from aivc_graph.tissue.registration.orientation import check_orientation
from aivc_graph.tissue.registration.overlap import check_overlap
from aivc_graph.tissue.section import metadata_of

ONCE = "each piece of tissue once"
# Registrations that look at what the tissue holds; the others know where it lies.
FITTED = {"intensity"}
_PICTURES = ("hires", "lowres")
# Two sections name types alike if they share this part of those of the one that has fewer.
SHARED_TYPES = 0.5
MEND = "drop one of the two, or it counts twice"


def doubts_of_section(section: Any) -> list[str]:
    """Say what of a section overlaps poorly, lies turned or shifted, or bears labels that say nothing of its counts."""
    return [*check_overlap(section), *check_labels(section), *check_orientation(section)]


def doubts_of_paths(task: TaskConfig) -> list[str]:
    """Say which files and folders are given to two sections."""
    found: dict[Path, list[str]] = {}
    for section in task.sections:
        for path in {source.path.resolve() for source in section.sources}:
            found.setdefault(path, []).append(section.name)
    twice = {path: sections for path, sections in found.items() if len(sections) > 1}
    return [str(TissueError(" and ".join(of), f"the same source {path}", ONCE, MEND)) for path, of in twice.items()]


def doubts_of_slides(task: TaskConfig) -> list[str]:
    """Say which slides the user named though nothing is to be learnt from them."""
    if task.features is not None:
        return []
    mend = "set `task.features: {}` to describe the tiles under the patches; else nothing is learnt from it"
    return [
        str(TissueError(f"{section.name} · slide", "no `task.features`", "features", mend))
        for section in task.sections
        if any(_brings_slide(one) for one in section.sources)
    ]


def _brings_slide(source: SourceConfig) -> bool:
    """Say whether the user named a slide: as a source, or by an option of one."""
    named = source.options.get(names.SLIDE) or source.options.get("picture") or source.options.get("image") in _PICTURES
    return bool(named) or (source.reader or recognise(source.path)) == names.SLIDE


def doubts_of_descriptions(task: TaskConfig, sections: Sequence[Any]) -> list[str]:
    """Say what the task asks to be described, and no section holds: tiles without a slide, cells without a shape."""
    shapes = names.table_name(names.CELL, names.MORPHOLOGY)
    missing = {
        ("task.features", "slide", "a slide as a source, or `slide:` of one"): task.features is not None
        and not isinstance(task.features, EmbeddingTable)
        and not any(names.SLIDE in section.images for section in sections),
        ("task.morphology", "outline of a cell", "outlines, or `columns:` that tell shape"): task.morphology is not None
        and not any(shapes in section.tables for section in sections),
    }
    mend = "nothing is learnt of it; add it, or leave the key out"
    return [
        str(TissueError(where, f"no {what} in any section", expected, mend))
        for (where, what, expected), applies in missing.items()
        if applies
    ]


def doubts_of_types(sections: Sequence[Any]) -> list[str]:
    """Say which sections name types otherwise: they share few names, or have some that only spelling tells apart.

    What is learnt of types, and what patches are said to be made of, counts each name as a type of its own.
    """
    found = []
    for level in (names.CELL, names.PATCH):
        of = {metadata_of(one)["section"]: set(types_of(one, level)) for one in sections if level in one.shapes}
        told = [one for name, types in of.items() if (one := _twice(name, types))]
        told += [one for a, b in combinations([one for one in of if of[one]], 2) if (one := _unlike(a, b, of))]
        if told:
            mend = "rename the types of one, give coarser ones that both have by `label:`, or drop the `label:` of one"
            more = f" (and {len(told) - 1} pairs more)" if len(told) > 1 else ""
            found.append(str(TissueError(f"labels · {level}", told[0] + more, "one naming of types", mend)))
    return found


def _twice(section: str, types: set[str]) -> str:
    """Say which two types of one section only spelling tells apart; nothing where none are."""
    pairs = [(a, b) for a, b in combinations(sorted(types), 2) if _bare(a) == _bare(b) != ""]
    return f"{pairs[0][0]!r} and {pairs[0][1]!r} of {section}, which differ by spelling alone" if pairs else ""


def _unlike(a: str, b: str, of: Mapping[str, set[str]]) -> str:
    """Say how two sections name types otherwise; nothing where they do not, or one has some of the other's alone."""
    own, other = of[a] - of[b], of[b] - of[a]
    shared, spelt = len(of[a] & of[b]), {_bare(one): one for one in other}
    alike = [(one, spelt[_bare(one)]) for one in sorted(own) if _bare(one) in spelt]
    if not alike and (not own or not other or shared >= SHARED_TYPES * min(len(of[a]), len(of[b]))):
        return ""
    pairs = f"; {alike[0][0]!r} and {alike[0][1]!r} differ by spelling alone" if alike else ""
    only = (f"{', '.join(map(repr, sorted(some)[:3]))} of {who} alone" for some, who in ((own, a), (other, b)) if some)
    return f"{shared} of {len(of[a] | of[b])} types shared by {a} and {b}: {', '.join(only)}{pairs}"


def _bare(name: str) -> str:
    """Return a name of a type without what spelling varies: capitals, signs between words, a plural."""
    return re.sub(r"[^\w+]|_", "", name.casefold()).removesuffix("s")


def doubts_of_content(duplicates: Sequence[Duplicate]) -> list[str]:
    """Say which tables hold the same pictures, or more than 1 % (and at least two) of the same rows of counts."""
    telling = [one for one in duplicates if one.what == "image" or (one.n >= MIN_ROWS and one.share > MAX_SHARE)]
    return [str(TissueError(one.a, f"the same {one.what} ({one.n:,}) as {one.b}", ONCE, MEND)) for one in telling]


def doubts_of_reach(task: TaskConfig, reach_um: Mapping[str, float]) -> list[str]:
    """Say that the sides of the task's split are closer than messages reach, by level, where they part a section."""
    if not task.split or not reach_um:
        return []
    found = split_design(**task.split).doubt(max(reach_um.values()))
    return [found] if found else []


def doubts_of_registration(task: TaskConfig, sections: Sequence[Any]) -> list[str]:
    """Say which sections are parted by the split, though what both sides hold placed their layers."""
    found = []
    methods = {config.name: {method.kind for method in config.registration} for config in task.sections}
    for section in sections:
        name = metadata_of(section)["section"]
        sides = set().union(*(labels_of(section, level) for level in levels_of(section))) - {names.UNUSED}
        fitted = sorted(methods.get(name, set()) & FITTED)
        if fitted and len(sides) > 1:
            held = f"registration by {fitted[0]} of tissue on the sides {', '.join(sorted(sides))}"
            mend = "place it by landmarks or a known transform, or hold out whole sections"
            found.append(str(TissueError(name, held, "nothing fitted on two sides", mend)))
    return found
