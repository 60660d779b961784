"""Labels of another section say nothing of the counts they stand beside, and that is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from aivc_graph.tissue.label_agreement import check_labels, types_of, variance_ratio


def test_the_ratio_is_that_of_a_hand_made_analysis_of_variance() -> None:
    counts = np.array([[5.0, 5.0], [6.0, 4.0], [1.0, 9.0], [2.0, 8.0], [3.0, 7.0]])
    labels = np.array(["a", "a", "b", "b", "b"])
    x = np.log1p(counts / 10 * 1e4)
    means = {k: x[labels == k].mean(axis=0) for k in "ab"}
    between = sum((labels == k).sum() * ((means[k] - x.mean(axis=0)) ** 2).sum() for k in "ab")
    within = sum(((x[labels == k] - means[k]) ** 2).sum() for k in "ab")
    expected = between / 1 / (within / 3)
    assert variance_ratio(sparse.csr_matrix(counts), labels) == pytest.approx(expected)
    order = np.array([4, 2, 0, 3, 1])
    assert variance_ratio(sparse.csr_matrix(counts[order]), labels[order]) == pytest.approx(expected)


def test_own_labels_are_believed_and_those_of_another_section_doubted(striped_section: Callable[..., Any]) -> None:
    section, other = (striped_section("s1", n=300, seed=seed) for seed in (0, 1))
    assert check_labels(section) == []
    section.shapes["cell"]["label"] = other.shapes["cell"]["label"].to_numpy()
    (doubt,) = check_labels(section)
    assert doubt.startswith("s1 · cell · label: genes differ ") and doubt.endswith("are they of this section?")


def test_too_few_to_tell_is_no_doubt(striped_section: Callable[..., Any]) -> None:
    section, other = (striped_section("s1", n=90, seed=seed) for seed in (0, 1))
    section.shapes["cell"]["label"] = other.shapes["cell"]["label"].to_numpy()
    assert check_labels(section) == []


def test_types_are_the_names_that_labels_give(striped_section: Callable[..., Any]) -> None:
    section = striped_section("s1", n=90)
    labels = np.array(["B", "A", "NA", ""], dtype=object)[np.arange(90) % 4]
    section.shapes["cell"]["label"] = labels
    assert types_of(section, "cell") == ["A", "B"]
    section.shapes["cell"] = section.shapes["cell"].drop(columns="label")
    assert types_of(section, "cell") == []


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["T", "B", "Unknown", "doublet"], "44 nodes labelled 'Unknown', 'doublet', which is taken for a type"),
        ([str(i) for i in range(90)], "90 labels of 90 nodes; names or scores are no types"),
        (["T", "B", *[None] * 43], "4 of 90 nodes bear one"),
    ],
)
def test_labels_that_are_no_types_are_told(
    striped_section: Callable[..., Any], labels: list[str | None], said: str
) -> None:
    section = striped_section("s1", n=90)
    section.shapes["cell"]["label"] = np.array(labels, dtype=object)[np.arange(90) % len(labels)]
    (doubt,) = check_labels(section)
    assert doubt.startswith(f"s1 · cell · label: {said}")
