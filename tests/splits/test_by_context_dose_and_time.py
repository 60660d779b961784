"""Contexts, doses and times held out: whole, on one side, and inside or outside the range that trains."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aivc_graph import names
from aivc_graph.errors import ConfigError
from aivc_graph.splits.by_context import ContextSplit
from aivc_graph.splits.by_dose import DoseSplit
from aivc_graph.splits.by_time import TimeSplit
from aivc_graph.splits.design import DESIGNS, split_design
from aivc_graph.splits.ranges import place_in_range
from aivc_graph.tissue.intervention import drug
from tests.splits.screens import doses, plate, screen, section_of


def test_a_context_is_held_out_whole_with_its_control() -> None:
    table = screen(contexts="xyz")
    labels = ContextSplit(test=["y"], validation=["z"]).label(table)
    expected = {"x": names.TRAIN, "y": names.TEST, "z": names.VALIDATION}
    assert list(labels) == [expected[where] for where in table["context"]]
    sections = [section_of(f"s{d}", donor=d) for d in "abc"]
    assert ContextSplit(test=["b"])(sections) == {"cell": {"train": 12, "test": 6}}


@given(
    levels=st.lists(st.integers(1, 40), min_size=3, max_size=7, unique=True),
    place=st.sampled_from(["inside", "outside"]),
    n_test=st.integers(1, 3),
    n_validation=st.integers(0, 1),
    seed=st.integers(0, 9),
    quantity=st.sampled_from([DoseSplit, TimeSplit]),
)
@settings(max_examples=80, deadline=None)
def test_held_out_levels_lie_where_they_should(levels, place, n_test, n_validation, seed, quantity) -> None:
    table = doses(levels=tuple(sorted(float(v) for v in levels)))
    options = {"place": place, "n_test": n_test, "n_validation": n_validation}
    split = quantity(**options, seed=seed if place == "inside" else 0)
    try:
        labels = split.label(table)
    except ConfigError as error:
        assert any(part in str(error) for part in ("no condition left", "to draw out of", "held out"))
        return
    held = labels.isin([names.TEST, names.VALIDATION])
    assert set(place_in_range(table, labels, split.column)[held]) == {place}
    value = table[split.column]
    sides = [set(value[(labels == side) & (table["condition"] != "DMSO")]) for side in names.SPLITS[:3]]
    assert all(not a & b for i, a in enumerate(sides) for b in sides[i + 1 :])
    for _, rows in table.assign(label=labels).groupby("condition"):
        training = rows[split.column][rows["label"] == names.TRAIN]
        for asked in rows[split.column][rows["label"].isin([names.TEST, names.VALIDATION])]:
            inside = len(training) and training.min() < asked < training.max()
            assert inside if place == "inside" else not inside


def test_named_levels_are_held_out_for_all_and_the_vehicle_trains() -> None:
    table = doses()
    labels = DoseSplit(test=[3.3]).label(table)
    assert set(table["dose"][labels == names.TEST]) == {3.3}
    assert list(labels[table["condition"] == "DMSO"]) == [names.TRAIN]
    assert set(place_in_range(table, labels, "dose")[labels == names.TEST]) == {"inside"}
    labels = DoseSplit(test=[0.1]).label(table)
    where = place_in_range(table, labels, "dose")
    assert where[table["condition"] == "low"].tolist() == ["unseen"]
    assert set(where[(labels == names.TEST) & (table["condition"] != "low")]) == {"outside"}


def test_of_a_combination_the_farthest_part_counts() -> None:
    table = pd.DataFrame({"condition": ["A", "A", "B", "A+B", "A+B"], "dose": ["1", "4", "1", "2+1", "2+9"]})
    labels = pd.Series([names.TRAIN] * 3 + [names.TEST] * 2)
    assert place_in_range(table, labels, "dose").tolist() == ["seen", "seen", "seen", "inside", "outside"]


def test_a_course_without_interventions_is_split_by_time() -> None:
    table = pd.DataFrame({"condition": "control", "hours": [0, 6, 12, 24]})
    assert TimeSplit(test=[24]).label(table).tolist() == ["train", "train", "train", "test"]
    assert TimeSplit(place="inside", n_test=2).label(table).tolist() == ["train", "test", "test", "train"]


def test_sections_are_split_by_dose_and_by_time() -> None:
    sections = [section_of(f"s{d}", drug("x", targets={"G": -1}, dose=d, hours=10 * d)) for d in (0, 1, 2, 3)]
    assert DoseSplit(place="outside", n_test=1)(sections) == {"cell": {"train": 18, "test": 6}}
    assert sections[3].shapes[names.CELL]["split"].unique().tolist() == ["test"]
    assert TimeSplit(test=[20])(sections)["cell"]["test"] == 6


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("by_dose", {"test": [2]}, r"no dose named '2' \(known: 0.1, 1, 10, 3.3\)"),
        ("by_time", {"place": "within"}, "place: Input should be 'inside' or 'outside'"),
        ("by_dose", {"place": "outside", "n_test": 1, "seed": 2}, "takes the highest levels"),
        ("by_dose", {"place": "inside", "n_test": 2, "n_validation": 1}, r"2 \+ 1 groups to draw out of 2"),
        ("by_dose", {"place": "outside", "n_test": 4}, "all 4 groups by dose held out"),
        ("by_context", {"n_test": 1}, "conditions: no column named 'context'"),
    ],
)
def test_faults_say_what_to_do(kind: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split_design(kind, **options).label(doses())


def test_all_designs_are_known_by_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'by_dose'"):
        split_design("by_doses")
    assert {"by_intervention", "by_context", "by_dose", "by_time"} <= set(DESIGNS)


def test_doses_of_a_real_plate(data_dir: Path) -> None:
    path = data_dir / "l1000-a375-kinase-dose/LJP005_A375_24H_X1_B19_test_l1000.gct"
    if not path.exists():
        pytest.skip(f"absent: {path}")
    table = plate(path)
    inside = DoseSplit(place="inside", n_test=2, n_validation=1).label(table)
    where = place_in_range(table, inside, "dose")
    held = inside.isin([names.TEST, names.VALIDATION])
    assert held.sum() > 100 and set(where[held]) == {"inside"} and set(inside[table["dose"] == 0]) == {names.TRAIN}
    outside = DoseSplit(place="outside", n_test=1).label(table)
    assert set(table["dose"][outside == names.TEST]) == {10.0} and (outside == names.TEST).sum() > 50
    with pytest.raises(ConfigError, match=r"no hours named '6' \(known: 24\)"):
        TimeSplit(test=[6]).label(table)
