"""Cofactors: found where the truth is known, of no unit, and as given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from aivc_graph.errors import GraphError
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.cofactors import fitted_cofactors
from aivc_graph.graph.hiding import hide_observations
from aivc_graph.graph.seen_as import seen_as
from tests.imaged import imaged

ALONE = np.zeros(6000, int)


def _values(cofactor: float, seed: int = 0) -> np.ndarray:
    return cofactor * np.sinh(np.random.default_rng(seed).normal(1.0, 1.2, (6000, 1)))


@pytest.mark.parametrize("cofactor", [0.02, 1.0, 150.0])
def test_the_cofactor_that_made_values_normal_is_found_whatever_the_unit(cofactor: float) -> None:
    found = fitted_cofactors(_values(cofactor), ALONE)[0]
    assert 0.6 * cofactor < found < 1.7 * cofactor
    assert found == pytest.approx(cofactor * fitted_cofactors(_values(1.0), ALONE)[0])


def test_zeros_do_not_make_it_small() -> None:
    values = _values(2.0)
    values[::2] = 0.0
    assert 1.0 < fitted_cofactors(values, ALONE)[0] < 4.0


def test_sections_of_another_brightness_are_looked_at_on_their_own() -> None:
    terms = np.random.default_rng(0).normal(1.0, 0.5, (6000, 1))
    section = np.arange(6000) % 2
    values = 3.0 * np.sinh(terms + 2.0 * section[:, None])
    assert 1.5 < fitted_cofactors(values, section)[0] < 6.0


@pytest.mark.parametrize("values", [np.zeros((50, 1)), np.full((50, 1), np.nan), np.zeros((0, 1))])
def test_a_marker_without_values_has_one(values: np.ndarray) -> None:
    assert fitted_cofactors(values, np.zeros(len(values), int)).tolist() == [1.0]


def test_one_is_given_for_all_or_for_some_and_a_wrong_marker_is_named(striped_section: Callable[..., Any]) -> None:
    section = imaged(striped_section, "a")
    assert set(build_graph([section], GraphConfig(cofactor=5.0))["cell"].intensity_cofactor.tolist()) == {5.0}
    with pytest.raises(GraphError, match=r"graph.cofactor: no marker named 'M33'; did you mean 'M3'"):
        build_graph([section], GraphConfig(cofactor={"M33": 2.0}))
    with pytest.raises(ValidationError, match="greater than 0"):
        GraphConfig(cofactor={"M3": 0.0})


def test_hiding_and_other_tissue_keep_the_cofactors_and_sections_their_own_means(
    striped_section: Callable[..., Any],
) -> None:
    graph = build_graph([imaged(striped_section, "a")], GraphConfig())
    cofactor = graph["cell"].intensity_cofactor
    left = hide_observations(graph, {("cell", "intensity"): np.arange(600) < 300})
    assert (left["cell"].intensity_cofactor == cofactor).all()
    other = build_graph([imaged(striped_section, "b", seed=3, unit=9.0)], GraphConfig())
    assert not np.allclose(other["cell"].intensity_cofactor, cofactor)
    seen = seen_as(other, graph)
    assert (seen["cell"].intensity_cofactor == cofactor).all()
    train = other.in_split("cell", "train").numpy()
    mean = np.arcsinh(other["cell"].intensity.numpy()[train] / cofactor.numpy()).mean(axis=0)
    np.testing.assert_allclose(seen["section"].cell_intensity_mean[0], mean, rtol=1e-4)
