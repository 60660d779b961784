"""Held-out groups: whole, known, and never on two sides."""

from __future__ import annotations

import numpy as np
import pytest

from aivc_graph import names
from aivc_graph.errors import ConfigError
from aivc_graph.splits.by_group import GroupSplit
from aivc_graph.splits.design import DESIGNS, split_design
from aivc_graph.tissue.section import add_level, new_section


def section_of(name, n=6, **metadata):
    """Return a section with `n` cells and two patches."""
    section = new_section(name, **metadata)
    xy = np.random.default_rng(0).uniform(0, 100, (n, 2))
    add_level(section, names.CELL, [f"c{i}" for i in range(n)], xy, 5.0, np.eye(3))
    add_level(section, names.PATCH, ["p0", "p1"], [[25.0, 50.0], [75.0, 50.0]], 25.0, np.eye(3))
    return section


def cohort():
    """Return eight sections of four donors, two sites."""
    return [section_of(f"{d}{i}", donor=d, site="x" if d in "AB" else "y") for d in "ABCD" for i in (1, 2)]


def sides(sections):
    """Return the one label of each section."""
    found = {}
    for section in sections:
        labels = {v for level in (names.CELL, names.PATCH) for v in section.shapes[level]["split"]}
        assert len(labels) == 1
        found[section.attrs[names.METADATA]["section"]] = labels.pop()
    return found


def test_groups_that_no_section_is_of_are_told_before_reading():
    known = [{"section": f"s{i}", "donor": d} for i, d in enumerate("AAB")]
    GroupSplit(test=["B"]).check(known)
    with pytest.raises(ConfigError, match=r"split · test: no donor named 'C' \(known: A, B\)"):
        GroupSplit(test=["C"]).check(known)
    with pytest.raises(ConfigError, match="all 2 groups by donor held out"):
        GroupSplit(test=["A"], validation=["B"]).check(known)
    with pytest.raises(ConfigError, match="no section named 'S0'"):
        GroupSplit(key="section", test=["S0"], share_donors=True).check(known)
    GroupSplit(test=["C"]).check([*known, {"section": "s3"}])  # its file may say the donor
    split_design("everything").check(known)


def test_named_groups_are_held_out_whole_at_every_level():
    sections = cohort()
    counts = GroupSplit(key="donor", test=["B"], validation=["C"])(sections)
    expected = {"A": "train", "B": "test", "C": "validation", "D": "train"}
    assert sides(sections) == {f"{d}{i}": label for d, label in expected.items() for i in (1, 2)}
    assert counts == {
        "cell": {"train": 24, "validation": 12, "test": 12},
        "patch": {"train": 8, "validation": 4, "test": 4},
    }


def test_folds_test_each_group_once_and_depend_on_the_seed_only():
    tested = []
    for fold in range(4):
        sections = cohort()
        GroupSplit(n_test=1, n_validation=1, fold=fold, seed=5)(sections)
        found = sides(sections)
        tested.append({s[0] for s, label in found.items() if label == "test"}.pop())
        assert sum(label == "validation" for label in found.values()) == 2
        again = cohort()[::-1]
        GroupSplit(n_test=1, n_validation=1, fold=fold, seed=5)(again)
        assert sides(again) == found
    assert sorted(tested) == list("ABCD")
    draws = set()
    for seed in range(8):
        sections = cohort()
        GroupSplit(n_test=2, seed=seed)(sections)
        draws.add(frozenset(s[0] for s, label in sides(sections).items() if label == "test"))
    assert len(draws) > 1


def test_an_uneven_last_fold_is_smaller():
    sections = cohort()[:6]
    counts = GroupSplit(n_test=2, fold=1)(sections)
    assert counts["patch"] == {"train": 8, "test": 4}


def test_a_new_split_replaces_the_old():
    sections = cohort()
    GroupSplit(test=["A"])(sections)
    GroupSplit(test=["B"])(sections)
    assert sides(sections)["A1"] == "train"


def test_numbers_as_group_names_are_read_as_text():
    sections = [section_of("s1", batch=1), section_of("s2", batch=2)]
    GroupSplit(key="batch", test=[2])(sections)
    assert sides(sections) == {"s1": "train", "s2": "test"}


def test_unknown_group_lists_the_known_and_the_nearest():
    sections = [section_of("s1", donor="patient_1"), section_of("s2", donor="patient_2")]
    with pytest.raises(ConfigError, match=r"split · test: no donor named 'patient1'; did you mean 'patient_1'"):
        GroupSplit(test=["patient1"])(sections)


def test_a_section_without_the_key_is_named():
    sections = [section_of("s1", donor="A"), section_of("s2"), section_of("s3")]
    with pytest.raises(ConfigError, match=r"(?s)split · s2: no donor; give `donor:`.*split · s3: no donor"):
        GroupSplit(test=["A"])(sections)


def test_a_group_on_both_sides_is_refused():
    with pytest.raises(ConfigError, match="donor 'A' is on both sides, test and validation"):
        split_design("by_group", test=["A", "B"], validation=["A"])


def test_a_donor_on_both_sides_fails_and_names_its_sections():
    with pytest.raises(ConfigError, match=r"donor 'A' on both sides \(train: A1; test: A2\)"):
        GroupSplit(key="section", test=["A2"])(cohort())
    sections = cohort()
    GroupSplit(key="section", test=["A2"], share_donors=True)(sections)
    assert sides(sections)["A2"] == "test" and sides(sections)["A1"] == "train"


def test_site_keeps_its_donors_together():
    sections = cohort()
    GroupSplit(key="site", test=["y"])(sections)
    assert sides(sections)["C1"] == sides(sections)["D2"] == "test"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": ["A", "B", "C", "D"]}, "expected at least one group to train on, found all 4 groups by donor"),
        ({"n_test": 4}, "found all 4 groups by donor"),
        ({"n_test": 3, "n_validation": 2}, r"3 \+ 2 groups to draw out of 4"),
        ({"n_test": 2, "fold": 2}, "expected 0–1, found fold 2 of 2"),
    ],
)
def test_what_leaves_nothing_to_train_on_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        GroupSplit(**options)(cohort())


def test_designs_are_registered_and_their_options_closed():
    with pytest.raises(
        ConfigError, match=r"split · by_group: .*give either `test` or `n_test`.*this design takes: fold"
    ):
        split_design("by_group", test=["A"], n_test=1)
    assert {"by_group", "by_block", "everything"} <= set(DESIGNS)
    with pytest.raises(ConfigError, match="no split design named 'by_blocks'; did you mean 'by_block'"):
        split_design("by_blocks")
    with pytest.raises(ConfigError, match="donors: Extra inputs are not permitted"):
        split_design("by_group", donors=["A"])
