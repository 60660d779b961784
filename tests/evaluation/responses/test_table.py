"""A table of responses: profiles by hand, the noise of a profile, replicates, and data that is neither of two kinds."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from aivc_graph.errors import AivcError, ReadError
from aivc_graph.evaluation.responses.cells import are_counts
from aivc_graph.evaluation.responses.table import responses_of
from aivc_graph.operators.intervention.condition_profiles import DEPTH

RNG = np.random.default_rng(0)


def table(x: Any, condition: list[str], context: list[str] | None = None) -> ad.AnnData:
    obs = pd.DataFrame({"condition": condition, "line": context or ["a"] * len(condition)})
    obs.index = obs.index.astype(str)
    made = ad.AnnData(sparse.csr_matrix(np.asarray(x, float)), obs=obs)
    made.var_names = [f"G{i}" for i in range(made.n_vars)]
    return made


def counted(n: int = 40, genes: int = 12) -> ad.AnnData:
    names = ["ctrl"] * n + ["A"] * n + ["A+B"] * n
    return table(RNG.poisson(3.0, (3 * n, genes)), names)


def test_profiles_and_effects_by_hand() -> None:
    x = [[1, 3], [3, 1], [0, 4], [2, 2], [5, 5]]
    found = responses_of(table(x, ["ctrl", "ctrl", "A", "A", "A"]), "condition", "ctrl")
    assert found.condition.tolist() == ["A", "ctrl"] and found.parts == (("A",), ())
    np.testing.assert_allclose(found.profile, np.log1p(DEPTH * np.array([[7, 11], [4, 4]]) / [[18], [8]]))
    np.testing.assert_allclose(found.effect, found.profile - found.profile[1])
    assert found.n_cells.tolist() == [3, 2] and found.is_control.tolist() == [False, True]


def test_of_log_normalised_values_it_is_the_mean_over_cells() -> None:
    x = RNG.random((9, 4)) * 3
    found = responses_of(table(x, ["ctrl"] * 4 + ["A"] * 5), "condition", "ctrl")
    np.testing.assert_allclose(found.profile, [x[4:].mean(axis=0), x[:4].mean(axis=0)])
    np.testing.assert_allclose(found.variance[0], x[4:].var(axis=0, ddof=1) / 5)


def test_noise_of_a_profile_is_the_delete_one_jackknife() -> None:
    given = counted(7)
    found = responses_of(given, "condition", "ctrl")
    own = given.X.toarray()[given.obs["condition"] == "A"]
    left = own.sum(axis=0) - own
    v = np.log1p(DEPTH * left / left.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(found.variance[0], 6 / 7 * ((v - v.mean(axis=0)) ** 2).sum(axis=0), rtol=1e-6)


def test_noise_is_that_of_repeated_measurements() -> None:
    rng = np.random.default_rng(1)
    made = [table(rng.poisson(2.0, (60, 8)), ["ctrl"] * 30 + ["A"] * 30) for _ in range(150)]
    tables = [responses_of(one, "condition", "ctrl") for one in made]
    spread = np.stack([one.profile for one in tables]).var(axis=0)
    np.testing.assert_allclose(np.mean([one.variance for one in tables], axis=0).mean(), spread.mean(), rtol=0.1)


def test_every_context_has_its_own_control() -> None:
    x = [[1.5, 0], [2.5, 0], [0, 1.5], [0, 3.5]]
    found = responses_of(table(x, ["ctrl", "A"] * 2, ["a", "a", "b", "b"]), "condition", "ctrl", "line")
    np.testing.assert_allclose(found.effect[~found.is_control], [[1.0, 0.0], [0.0, 2.0]])


def test_halves_are_disjoint_even_and_of_the_same_seed() -> None:
    given = counted(41)
    found = responses_of(given, "condition", "ctrl")
    one, two = found.halves(3)
    np.testing.assert_array_equal(one, found.halves(3)[0])
    assert not np.allclose(one, found.halves(4)[0]) and not np.allclose(one, two)
    shares = (np.expm1(one) + np.expm1(two)) / 2
    np.testing.assert_allclose(shares, np.expm1(found.profile), rtol=0.05)


def test_the_order_of_cells_does_not_matter() -> None:
    given = counted()
    found, again = (responses_of(one, "condition", "ctrl") for one in (given, given[RNG.permutation(given.n_obs)]))
    np.testing.assert_allclose(found.profile, again.profile)
    np.testing.assert_allclose(found.variance, again.variance, atol=1e-12)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([[0.5, -1.0]], "not centred or scaled"),
        ([[0.5, 250.0]], "neither counts nor log-normalised"),
        ([[0.5, np.nan]], "not finite"),
    ],
)
def test_what_is_neither_counts_nor_logarithm_is_refused(values: list[list[float]], said: str) -> None:
    with pytest.raises(ReadError, match=said):
        are_counts(sparse.csr_matrix(np.array(values)), "x.h5ad")


def test_kinds_are_told_by_the_values() -> None:
    assert are_counts(sparse.csr_matrix([[1.0, 900.0]]), "x") and not are_counts(sparse.csr_matrix([[1.0, 0.5]]), "x")


def test_what_is_missing_is_named_with_what_there_is() -> None:
    given = counted()
    with pytest.raises(ReadError, match="did you mean 'condition'"):
        responses_of(given, "conditions", "ctrl")
    with pytest.raises(ReadError, match=r"no control named 'ctrll'; did you mean 'ctrl'"):
        responses_of(given, "condition", "ctrll")
    given.obs["line"] = ["b" if name == "A" else "a" for name in given.obs["condition"]]
    with pytest.raises(ReadError, match="a control in every context, found no cell of 'ctrl' in b"):
        responses_of(given, "condition", "ctrl", "line")


@pytest.mark.parametrize(
    ("names", "control", "said"),
    [
        (["ctrl", "A", "B", "A_B"], "ctrl", "'A_B', which reads as a pair of two conditions that are there"),
        (["ctrl", "NAD", "NAD+"], "ctrl", r"condition 'NAD\+': .* an empty part"),
        (["ctrl", "NTC", "safe-targeting", "A"], "ctrl", "'NTC', 'safe-targeting' beside 'ctrl'"),
    ],
)
def test_names_that_could_be_taken_for_something_else_are_refused(names: list[str], control: str, said: str) -> None:
    with pytest.raises(AivcError, match=said):
        responses_of(table(RNG.poisson(2.0, (len(names), 8)) + 1.0, names), "condition", control)


def test_a_vehicle_is_no_part_and_a_plus_in_brackets_is_of_the_name() -> None:
    names = ["Vehicle", "A+DMSO", "B+A", "(+)-JQ1"]
    found = responses_of(table(RNG.poisson(2.0, (4, 8)) + 1.0, names), "condition", "Vehicle")
    parts = dict(zip(found.condition.tolist(), found.parts, strict=True))
    assert parts == {"Vehicle": (), "A+DMSO": ("A",), "B+A": ("A", "B"), "(+)-JQ1": ("(+)-JQ1",)}
