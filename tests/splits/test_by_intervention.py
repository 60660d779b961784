"""Interventions held out: no target on two sides, seen parts counted right, every condition labelled."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aivc_graph import names
from aivc_graph.errors import ConfigError, TissueError
from aivc_graph.evaluation.responses.questions import conditions_of_table, question_of
from aivc_graph.evaluation.responses.table import responses_of
from aivc_graph.splits.by_intervention import InterventionSplit
from aivc_graph.splits.conditions import conditions_of, parts_seen
from aivc_graph.splits.design import split_design
from aivc_graph.tissue.condition_table import as_conditions
from aivc_graph.tissue.intervention import activation, drug, knockout, ligand
from tests.splits.screens import parts_of, screen, section_of

HELD = (names.TEST, names.VALIDATION)


def labelled(split: InterventionSplit, table: pd.DataFrame) -> pd.Series:
    """Return the labels, or give the example up where the lot left a side empty."""
    try:
        return split.label(table)
    except ConfigError as error:
        assume("no condition left" not in str(error) and "to draw out of" not in str(error))
        assume("held out" not in str(error))
        raise


@given(seed=st.integers(0, 50), lot=st.integers(0, 20), n_test=st.integers(1, 3), n_validation=st.integers(0, 2))
@settings(max_examples=60, deadline=None)
def test_no_held_out_target_is_on_another_side(seed: int, lot: int, n_test: int, n_validation: int) -> None:
    table = screen(seed=seed)
    split = InterventionSplit(n_test=n_test, n_validation=n_validation, seed=lot)
    labels = labelled(split, table)
    assert set(labels) <= set(names.SPLITS) and list(labels.index) == list(table.index)
    targets = sorted({part for row in table["condition"] for part in parts_of(row)})
    side = split.sides(targets)
    held = {of: {t for t in targets if side[t] == of} for of in HELD}
    assert len(held[names.TEST]) == n_test and len(held[names.VALIDATION]) == n_validation
    for condition, label in zip(table["condition"], labels, strict=True):
        touched = {of for of in HELD if parts_of(condition) & held[of]}
        expected = {0: names.TRAIN, 2: names.UNUSED}.get(len(touched))
        assert label == (expected or touched.pop())


@given(seed=st.integers(0, 50), lot=st.integers(0, 20), seen=st.integers(0, 2), n_validation=st.integers(0, 2))
@settings(max_examples=80, deadline=None)
def test_exactly_so_many_parts_of_a_held_out_combination_train(
    seed: int, lot: int, seen: int, n_validation: int
) -> None:
    table = screen(seed=seed)
    labels = labelled(
        InterventionSplit(hold="combination", seen=seen, n_test=3, n_validation=n_validation, seed=lot), table
    )
    counted = parts_seen(table, labels)
    training = table["condition"][labels == names.TRAIN].map(parts_of)
    other = {of: set().union(*table["condition"][labels == of].map(parts_of)) for of in HELD}
    for condition, label, n in zip(table["condition"], labels, counted, strict=True):
        if label in HELD:
            parts = parts_of(condition)
            assert n == seen and len(parts) == 2
            ever = {part for part in parts if any(part in row for row in training)}
            assert len(ever) == seen  # an unseen part is in no training condition, not even combined
            mine = parts - ever
            assert not mine & other[HELD[1 - HELD.index(label)]]
        if condition == "control":
            assert label == names.TRAIN
    of_condition = pd.DataFrame({"c": as_conditions(table)["condition"], "l": labels}).drop_duplicates()
    assert of_condition["c"].is_unique  # all contexts of a condition stand on one side


def test_parts_that_train_alone_are_counted_in_their_own_context() -> None:
    table = pd.DataFrame(
        {
            "condition": ["A", "B", "A+B", "B+A", "A+C", "C+D", "control", "ctrl+A"],
            "context": ["x", "y", "x", "y", "x", "x", "x", "y"],
        }
    )
    labels = pd.Series([*[names.TRAIN] * 2, *[names.TEST] * 4, names.TRAIN, names.TRAIN])
    assert list(parts_seen(table, labels)) == [1, 1, 1, 2, 1, 0, 0, 1]
    assert list(parts_seen(table.drop(columns="context"), labels)) == [1, 1, 2, 2, 1, 0, 0, 1]
    labels[0] = names.UNUSED
    assert list(parts_seen(table, labels))[2] == 0


def test_the_order_of_parts_is_nothing_and_the_seed_decides() -> None:
    table = screen(seed=3)
    turned = table.assign(condition=["+".join(c.split("+")[::-1]) for c in table["condition"]])
    split = InterventionSplit(hold="combination", seen=1, n_test=2, seed=4)
    pd.testing.assert_series_equal(split.label(table), split.label(turned))
    shuffled = table.sample(frac=1, random_state=1)
    pd.testing.assert_series_equal(split.label(table), split.label(shuffled).sort_index())
    draws = {tuple(InterventionSplit(n_test=2, seed=s).label(table)) for s in range(6)}
    assert len(draws) > 1
    name = next(c for c in table["condition"] if "+" in c)
    flipped = "+".join(name.split("+")[::-1])
    assert set(InterventionSplit(hold="combination", test=[flipped]).label(table)[table["condition"] == name]) == {
        names.TEST
    }


def test_folds_test_every_target_once() -> None:
    table = pd.DataFrame({"condition": ["control", *"ABCDE"]})
    tested = [table["condition"][InterventionSplit(n_test=2, fold=f).label(table) == names.TEST] for f in range(3)]
    assert sorted(itertools.chain(*tested)) == list("ABCDE")


def test_sections_are_labelled_by_what_was_done_to_them() -> None:
    both = (knockout("TP53"), drug("ruxolitinib", targets={"JAK1": -1}))
    sections = [
        section_of("none"),
        section_of("p53", knockout("TP53")),
        section_of("up", activation("TP53")),
        section_of("both", *both),
        section_of("rux", both[1]),
        section_of("vehicle", drug("ruxolitinib", targets={"JAK1": -1}, dose=0)),
    ]
    counts = split_design("by_intervention", test=["TP53"])(sections)
    found = [section.shapes[names.CELL]["split"].unique().tolist() for section in sections]
    assert found == [["train"], ["test"], ["test"], ["test"], ["train"], ["train"]]
    assert counts == {"cell": {"train": 18, "test": 18}}


def test_what_is_done_counts_for_parts_and_not_for_targets() -> None:
    ifng, jak = ligand("IFNG"), drug("ruxolitinib", targets={"JAK1": -1})
    sections = [
        section_of("none"),
        section_of("ko", knockout("IFNG")),
        section_of("rux", jak),
        section_of("both", ifng, jak),
        section_of("tnf", knockout("TNF")),
    ]
    table = conditions_of(sections)
    assert table["condition"].tolist()[3] == "drug:ruxolitinib+ligand:IFNG"
    labels = InterventionSplit(hold="combination", n_test=1).label(table)
    assert parts_seen(table, labels)["both"] == 1  # IFNG was only ever taken away
    for seen in (0, 1):
        labels = InterventionSplit(hold="combination", seen=seen, n_test=1).label(table)
        assert labels["ko"] == names.UNUSED and labels["both"] == names.TEST
        assert labels["rux"] == (names.TRAIN if seen else names.UNUSED)
    assert InterventionSplit(test=["IFNG"]).label(table).tolist() == ["train", "test", "train", "test", "train"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": ["KLF"]}, "split · test: no target named 'KLF'; did you mean 'KLF1'"),
        (
            {"hold": "combination", "test": ["KLF1+MAPK"]},
            r"no combination named 'KLF1\+MAPK'; did you mean 'KLF1\+MAPK1'",
        ),
        ({"hold": "combination", "seen": 2, "test": ["KLF1+CEBPA"]}, r"\(known: KLF1\+MAPK1\)"),
        ({"test": ["KLF1"], "n_test": 1}, "give either `test` or `n_test`"),
        ({"seen": 1, "n_test": 1}, "`seen` counts parts of combinations"),
        ({"targets": ["KLF1"]}, "targets: Extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_held_out_is_named(options: dict[str, object], message: str) -> None:
    table = pd.DataFrame({"condition": ["control", "KLF1", "MAPK1", "KLF1+MAPK1"]})
    with pytest.raises(ConfigError, match=message):
        split_design("by_intervention", **options).label(table)


def test_a_table_without_conditions_and_a_dose_too_many_are_named() -> None:
    split = InterventionSplit(n_test=1)
    with pytest.raises(TissueError, match="conditions: no column named 'condition'; did you mean 'conditions'"):
        split.label(pd.DataFrame({"conditions": ["A"]}))
    with pytest.raises(TissueError, match=r"conditions · A\+B: expected one a part, or one for all, found 3 values"):
        split.label(pd.DataFrame({"condition": ["A+B"], "dose": ["1+1+2"]}))


def test_the_doubles_of_a_real_screen(data_dir) -> None:
    import anndata as ad

    path = data_dir / "norman19-mcfaline23-devel/devel.h5ad"
    if not path.exists():
        pytest.skip(f"absent: {path}")
    obs = ad.read_h5ad(path, backed="r").obs.rename(columns={"cell_type": "context"})
    obs = obs[obs["dataset"] == "norman19"]
    labels = InterventionSplit(hold="combination", n_test=15).label(obs)
    doubles = obs["condition"].astype(str).str.contains("+", regex=False)
    assert set(labels[doubles]) == {names.TEST} and set(labels[~doubles]) == {names.TRAIN}
    seen = parts_seen(obs, labels)[doubles].groupby(obs["condition"].astype(str)[doubles]).first()
    assert seen.value_counts().to_dict() == {2: 5, 1: 3, 0: 7}
    labels = InterventionSplit(hold="combination", seen=2, n_test=3).label(obs)
    assert set(parts_seen(obs, labels)[labels == names.TEST]) == {2}


def test_questions_to_a_screen_leave_as_many_parts_as_they_say(data_dir: Path) -> None:
    """Over all its folds a design asks each pair once, and training has seen as many of its parts as it says."""
    import anndata as ad

    path = data_dir / "norman19-mcfaline23-devel/devel.h5ad"
    if not path.exists():
        pytest.skip(f"absent: {path}")
    responses = responses_of(ad.read_h5ad(path), "condition", "control", "cell_type")
    table = conditions_of_table(responses)
    for n_seen, asked in ((2, 5), (1, 8), (0, 15)):
        design = InterventionSplit(hold="combination", seen=n_seen, n_test=1)
        question = question_of(design, responses, table, ["k562"])
        assert question is not None and question.asked.sum() == asked == len(question.folds)
        for fold in question.folds:
            labels = np.where(fold.train, names.TRAIN, np.where(fold.asked, names.TEST, names.UNUSED))
            assert set(parts_seen(table, pd.Series(labels))[fold.asked]) == {n_seen}
