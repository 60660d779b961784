"""Content on two sides of a split is found and named."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from aivc_graph import names
from aivc_graph.errors import TissueError
from aivc_graph.splits.by_group import GroupSplit
from aivc_graph.splits.leakage import accepted_leaks, duplicate_content, shared_groups
from aivc_graph.tissue.section import add_cells, add_level, add_observation, add_slide, new_section

GENES = [f"G{i}" for i in range(80)]


def counted(name, counts, genes=GENES, image=None, **metadata):
    """Return a section of cells with these counts, and a slide if given."""
    section = new_section(name, **metadata)
    codes = [f"{name}-{i}" for i in range(len(counts))]
    xy = np.random.default_rng(0).uniform(0, 500, (len(codes), 2))
    add_level(section, names.CELL, codes, xy, 5.0, np.eye(3))
    table = AnnData(sparse.csr_matrix(counts.astype(np.float32)), obs=pd.DataFrame(index=codes))
    table.var_names = list(genes)
    add_observation(section, names.CELL, names.RNA, table)
    if image is not None:
        add_slide(section, da.from_array(image), np.eye(3))
    return section


def some_counts(seed, n=200, rate=1.0):
    return np.random.default_rng(seed).poisson(rate, (n, 80))


def some_image(seed):
    return np.random.default_rng(seed).integers(0, 255, (3, 300, 400), dtype=np.uint8)


def test_different_sections_share_nothing():
    sections = [counted(f"s{i}", some_counts(i), image=some_image(i), donor=str(i)) for i in range(3)]
    GroupSplit(test=["2"])(sections)
    assert duplicate_content(sections) == [] and shared_groups(sections) == {}


def test_the_same_counts_under_two_names_fail_and_name_both():
    counts = some_counts(1)
    order = np.random.default_rng(0).permutation(80)
    copy = counted("copy", counts[::-1][:, order], genes=np.array(GENES)[order], donor="B")
    sections = [counted("first", counts, donor="A"), copy]
    GroupSplit(test=["B"])(sections)
    with pytest.raises(TissueError, match=r"first · table 'cell_rna': .*same rows of counts \(200\) as copy · table"):
        duplicate_content(sections)


def test_the_same_content_on_one_side_is_told_but_not_refused():
    counts, image = some_counts(1), some_image(1)
    sections = [counted(name, counts, image=image, donor="A") for name in ("first", "copy")]
    sections.append(counted("other", some_counts(2), donor="B"))
    GroupSplit(test=["B"])(sections)
    found = duplicate_content(sections)
    assert {(d.what, d.n, d.crosses) for d in found} == {("rows of counts", 200, False), ("image", 1, False)}


def test_a_tenth_of_the_rows_is_enough_and_one_row_is_not():
    counts, mixed = some_counts(1), some_counts(2)
    for n, refused in ((1, False), (20, True)):
        mixed[:n] = counts[50 : 50 + n]
        sections = [counted("first", counts, donor="A"), counted("mixed", mixed, donor="B")]
        GroupSplit(test=["B"])(sections)
        if refused:
            with pytest.raises(TissueError, match=r"same rows of counts \(20\) as mixed"):
                duplicate_content(sections)
        else:
            assert [(d.n, d.crosses) for d in duplicate_content(sections)] == [(1, False)]


def test_rows_with_little_in_them_are_no_fingerprint():
    sections = [counted(name, some_counts(i, rate=0.02), donor=name) for i, name in enumerate("AB")]
    GroupSplit(test=["B"])(sections)
    assert duplicate_content(sections) == []


def test_loose_cells_without_a_single_count_are_copies_of_nothing():
    section = new_section("loose")
    table = AnnData(
        sparse.csr_matrix(np.zeros((60, 80), np.float32)), obs=pd.DataFrame(index=[f"c{i}" for i in range(60)])
    )
    table.var_names = GENES
    add_cells(section, table.obs_names, pd.DataFrame({"split": "train"}, table.obs_names))
    add_observation(section, names.CELL, names.RNA, table)
    assert duplicate_content([section]) == []


def test_copies_within_a_section_across_its_blocks_are_found():
    counts = some_counts(1)
    counts[100:] = counts[:100]
    section = counted("s1", counts)
    section.shapes[names.CELL]["split"] = ["train"] * 100 + ["test"] * 100
    with pytest.raises(TissueError, match=r"s1 · table 'cell_rna': .*same rows of counts \(100\) as s1"):
        duplicate_content([section])


def test_the_same_picture_under_two_names_fails_and_names_both():
    image = some_image(7)
    sections = [counted(n, some_counts(i), image=image, donor=n) for i, n in enumerate(("left", "right"))]
    GroupSplit(test=["right"])(sections)
    with pytest.raises(TissueError, match=r"left · image 'slide': .*the same image \(1\) as right · image 'slide'"):
        duplicate_content(sections)
    other = image.copy()
    other[:, ::2] ^= 1
    sections[1].images[names.SLIDE].data = da.from_array(other)
    assert duplicate_content(sections) == []


def test_blank_pictures_are_not_copies_of_each_other():
    blank = np.full((3, 50, 50), 255, np.uint8)
    sections = [counted(n, some_counts(i), image=blank, donor=n) for i, n in enumerate("AB")]
    GroupSplit(test=["B"])(sections)
    assert duplicate_content(sections) == []


def test_unused_nodes_leak_nothing():
    counts = some_counts(1)
    sections = [counted("first", counts), counted("copy", counts)]
    sections[0].shapes[names.CELL]["split"] = "train"
    sections[1].shapes[names.CELL]["split"] = "unused"
    assert duplicate_content(sections) == []


def test_a_shared_donor_is_listed_with_its_sections_by_side():
    sections = [counted(n, some_counts(i, n=5), donor="A") for i, n in enumerate(("one", "two"))]
    GroupSplit(key="section", test=["two"], share_donors=True)(sections)
    assert shared_groups(sections) == {"A": {"train": ["one"], "test": ["two"]}}


def test_a_section_without_labels_counts_as_training():
    counts = some_counts(1)
    sections = [counted("first", counts), counted("copy", counts)]
    assert [(d.n, d.crosses) for d in duplicate_content(sections)] == [(200, False)]
    sections[1].shapes[names.CELL]["split"] = "test"
    with pytest.raises(TissueError, match="same rows of counts"):
        duplicate_content(sections)


def test_what_is_accepted_is_told_and_nothing_else() -> None:
    counts, image = some_counts(1), some_image(1)
    sections = [counted(name, counts, image=image, donor="A") for name in ("first", "copy")]
    sections.append(counted("other", some_counts(2), donor="B"))
    GroupSplit(key="section", test=["copy"], share_donors=True)(sections)
    with pytest.raises(TissueError, match="or set `share_content: true` if that is the question"):
        duplicate_content(sections)
    told = accepted_leaks(sections, duplicate_content(sections, accept=True), share_donors=True)
    assert told[0] == "donor A has sections on the sides train and test"
    assert sorted(part.split(" holds ")[1] for part in told[1:]) == [
        "the same image (1) as copy · image 'slide', on another side",
        "the same rows of counts (200) as copy · table 'cell_rna', on another side",
    ]
    GroupSplit(test=["B"])(sections)
    assert accepted_leaks(sections, duplicate_content(sections), share_donors=False) == []
