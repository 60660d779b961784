"""Two references that name their types otherwise are not pooled without a word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from aivc_graph.pipeline.doubts import doubts_of_types

Maker = Callable[..., Any]
OURS = ("T cell", "B cell", "Tumour", "Stroma")


def sections(make: Maker, *types: tuple[str, ...]) -> list[Any]:
    """Return sections whose cells bear these types."""
    found = [make(f"s{i}", n=60) for i in range(len(types))]
    for section, names in zip(found, types, strict=True):
        section.shapes["cell"]["label"] = np.array(names, dtype=object)[np.arange(60) % max(len(names), 1)]
    return found


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        (("T", "B", "Epithelium", "CAF"), "0 of 8 types shared by s0 and s1: 'B cell', 'Stroma', 'T cell' of s0 alone"),
        (("T_cells", "B cell", "Tumour", "Stroma"), "'T cell' and 'T_cells' differ by spelling alone"),
        (("t-cell", "B cell", "Tumour"), "'T cell' and 't-cell' differ by spelling alone"),
        (("T cell", "NK", "Mast"), "1 of 6 types shared"),
    ],
)
def test_other_names_are_doubted_with_what_is_shared(
    striped_section: Maker, theirs: tuple[str, ...], said: str
) -> None:
    (doubt,) = doubts_of_types(sections(striped_section, OURS, theirs))
    assert doubt.startswith("labels · cell: expected one naming of types, found ") and said in doubt


@pytest.mark.parametrize("theirs", [OURS, OURS[:1], (*OURS, "NK"), (*OURS[1:], "NK"), ()])
def test_the_same_names_some_of_them_and_none_are_fine(striped_section: Maker, theirs: tuple[str, ...]) -> None:
    """A type that one has and the other lacks is no other name; nor are rare types of either."""
    both = sections(striped_section, OURS, theirs or ("",))
    assert doubts_of_types(both) == []


def test_of_many_pairs_one_is_told_and_the_others_counted(striped_section: Maker) -> None:
    (doubt,) = doubts_of_types(sections(striped_section, OURS, OURS, ("T", "B"), ("T", "B")))
    assert "s0 and s2" in doubt and "(and 3 pairs more)" in doubt


@pytest.mark.parametrize(
    ("types", "said"),
    [
        ((*OURS, "T-cells"), "'T cell' and 'T-cells' of s0, which differ by spelling alone"),
        (("α cell", "β cell", "CD4+", "CD4", "+", "-"), ""),
    ],
)
def test_two_spellings_in_one_section_are_doubted_and_other_letters_are_no_spelling(
    striped_section: Maker, types: tuple[str, ...], said: str
) -> None:
    found = doubts_of_types(sections(striped_section, types))
    assert (said in found[0]) if said else found == []
