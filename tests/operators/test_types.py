"""Labels as a measurement: told with probability where they are missing, and nothing where they mean nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal

from aivc_graph import names
from aivc_graph.errors import ModelError, QueryError
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.hiding import hide_observations
from aivc_graph.graph.panels import labels, types_of
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.model.settings import ModelConfig
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.operators.logistic import cross_fitted, fit_logistic, halves, mixed
from aivc_graph.operators.measurement.distribution import Categorical
from aivc_graph.operators.part import AFTER_TRAINING, BEFORE_TRAINING
from aivc_graph.operators.state import Hidden
from aivc_graph.query.types import told_types, typed_level
from aivc_graph.tissue.frame import scale_affine
from aivc_graph.tissue.section import add_level, new_section
from tests.fitting import fit_stages, fitting_of, fold_of, model_of

EDGES = GraphConfig(edges={"cell": {"kind": "knn", "k": 8}, "patch": {"kind": "knn", "k": 6}})
CONFIG = ModelConfig(latent=3, rings=(4, 8))
TYPES = ("a", "b", "c")


def fitted(graph: TissueGraph, config: ModelConfig = CONFIG) -> TissueModel:
    """Return a model with everything fitted that is fitted in closed form."""
    model = model_of(graph, config)
    fit_stages(fitting_of(graph, model, [fold_of(graph, model)]), (*BEFORE_TRAINING, *AFTER_TRAINING))
    return model


def section_of_types(name: str, n: int, seed: int, *, mixed_up: float = 0.2, donor: str = "d1") -> Any:
    """Return a section whose cells are a, b and c in three stripes, of which a share is drawn at random."""
    rng, side = np.random.default_rng(seed), 12.0 * np.sqrt(n)
    pos = rng.random((n, 2)) * side
    kind = np.minimum((pos[:, 0] / side * 3).astype(int), 2)
    kind = np.where(rng.random(n) < mixed_up, rng.integers(3, size=n), kind)
    section = new_section(name, donor=donor)
    columns = pd.DataFrame({"label": np.array(TYPES)[kind]})
    add_level(section, "cell", [f"cell{i}" for i in range(n)], pos, 5.0, scale_affine(1.0), columns)
    return section


@pytest.fixture(scope="module")
def alone() -> TissueGraph:
    """Three donors of which nothing is known but the types of cells."""
    return build_graph([section_of_types(f"s{d}", 500, d, donor=f"d{d}") for d in range(3)], EDGES)


@pytest.fixture(scope="module")
def of_alone(alone: TissueGraph) -> TissueModel:
    return fitted(alone)


@pytest.fixture(scope="module")
def partly(striped_section: Callable[..., Any]) -> TissueGraph:
    """Four donors with counts, of whom two bear labels: of stripes, a tenth of them drawn at random."""
    sections = [striped_section(f"s{d}", n=400, seed=d, donor=f"d{d}") for d in range(4)]
    for d, section in enumerate(sections):
        cells, rng = section.shapes["cell"], np.random.default_rng(d)
        drawn = rng.random(len(cells)) < 0.1
        truth = np.where(drawn, rng.choice(cells["label"].unique(), len(cells)), cells["label"])
        cells["truth"] = truth
        cells["label"] = truth if d < 2 else None
        cells["split"] = "train" if d < 2 else "test"
    return build_graph(sections, EDGES)


def loss(told: np.ndarray, kind: np.ndarray) -> float:
    return -float(np.log(np.maximum(told[np.arange(len(kind)), kind], 1e-12)).mean())


def test_labels_of_some_sections_are_told_in_others_and_as_surely_as_they_are_right(partly: TissueGraph) -> None:
    model = fitted(partly)
    told, rests = told_types(model, partly, "cell")
    obs = partly.obs("cell")
    new = (obs["label"].isna() | (obs["label"].astype(str).isin(["None", "nan"]))).to_numpy()
    assert 0.3 < new.mean() < 0.7
    kind = np.array([model.plan.types["cell"].index(one) for one in obs["truth"]])
    right = told[new].argmax(axis=1) == kind[new]
    # A tenth was drawn at random, a third of that is right by chance: more than 0.93 cannot be known.
    assert 0.8 < right.mean() < 0.96
    assert abs(told[new].max(axis=1).mean() - right.mean()) < 0.05
    assert loss(told[new], kind[new]) < 0.6 < np.log(3)
    assert (rests[new] > 0).all()


def test_shuffled_labels_tell_nothing(partly: TissueGraph) -> None:
    shuffled = hide_observations(partly, {})
    obs, known = shuffled.obs("cell").copy(), types_of(partly, "cell", labels(partly, "cell")) >= 0
    values = obs["label"].astype(object).to_numpy()
    values[known] = np.random.default_rng(0).permutation(values[known])
    shuffled["cell"].obs = obs.assign(label=values)
    model = fitted(shuffled)
    told, _ = told_types(model, shuffled, "cell")
    kind = np.array([model.plan.types["cell"].index(one) for one in obs["truth"]])
    assert loss(told[~known], kind[~known]) > np.log(3) - 0.03
    assert told.max(axis=1).mean() < 0.5


def test_the_label_of_a_node_is_never_looked_at_when_it_is_told(alone: TissueGraph, of_alone: TissueModel) -> None:
    told, _ = told_types(of_alone, alone, "cell")
    who = np.zeros(int(alone["cell"].num_nodes), bool)
    who[[10, 700, 1300]] = True
    again, _ = told_types(of_alone, changed_labels(alone, who), "cell")
    np.testing.assert_allclose(again[who], told[who], atol=1e-6)
    assert np.abs(again[~who] - told[~who]).max() > 1e-3  # others do look at it


def changed_labels(graph: TissueGraph, who: np.ndarray) -> TissueGraph:
    """Return a graph in which the labels of `who` (node,) are others."""
    changed, obs = hide_observations(graph, {}), graph.obs("cell")
    types = labels(graph, "cell")
    other = dict(zip(types, (*types[1:], types[0]), strict=True))
    label = obs["label"].astype(object)
    changed["cell"].obs = obs.assign(label=label.where(~who, label.map(other)))
    return changed


def test_nor_is_it_where_labels_take_no_part_in_the_state(partly: TissueGraph) -> None:
    model, who = fitted(partly), np.zeros(int(partly["cell"].num_nodes), bool)
    who[np.flatnonzero(types_of(partly, "cell", labels(partly, "cell")) >= 0)[::97]] = True
    part = model.part("measurement", "cell", names.TYPE)
    for one in np.flatnonzero(who)[:3]:
        single = np.arange(len(who)) == one
        inputs = [model.prepare(graph) for graph in (partly, changed_labels(partly, single))]
        first, again = (part.shares_around(model(each), each) for each in inputs)
        for a, b in zip(first, again, strict=True):
            torch.testing.assert_close(a[one], b[one])


def test_hidden_labels_are_not_counted_among_those_around(alone: TissueGraph, of_alone: TissueModel) -> None:
    part = of_alone.part("measurement", "cell", names.TYPE)
    who = np.random.default_rng(0).random(int(alone["cell"].num_nodes)) < 0.3
    hidden = Hidden(nodes={part.key: torch.from_numpy(who).float()})
    inputs = [of_alone.prepare(graph) for graph in (alone, changed_labels(alone, who))]
    first, again = (part.shares_around(of_alone(each, hidden), each) for each in inputs)
    for a, b in zip(first, again, strict=True):
        torch.testing.assert_close(a, b)


def test_hidden_types_are_told_by_the_tissue_around_better_than_by_counting_neighbours(
    alone: TissueGraph, of_alone: TissueModel
) -> None:
    rng = np.random.default_rng(0)
    away = rng.random(int(alone["cell"].num_nodes)) < 0.25
    left = hide_observations(alone, {("cell", names.TYPE): away})
    assert (types_of(left, "cell", TYPES)[away] == -1).all() and (types_of(alone, "cell", TYPES) >= 0).all()
    told, _ = told_types(of_alone, left, "cell", labelled=False)
    kind = types_of(alone, "cell", TYPES)[away]
    model, inputs = of_alone, of_alone.prepare(left)
    part = model.part("measurement", "cell", names.TYPE)
    counted = part.shares_around(model(inputs), inputs)
    assert loss(told[away], kind) < min(loss(one.numpy()[away], kind) for one in counted) + 0.005
    assert loss(told[away], kind) < 0.8 * loss(np.full((away.sum(), 3), 1 / 3), kind)


def test_types_alone_lie_apart_and_their_mean_is_what_a_place_is_made_of(
    alone: TissueGraph, of_alone: TissueModel
) -> None:
    part = of_alone.part("measurement", "cell", names.TYPE)
    assert part.plan.first and part.seen and of_alone.plan.made_of("cell") == names.TYPE
    assert of_alone.plan.latent == len(TYPES) - 1
    apart = torch.cdist(part.loading, part.loading)
    torch.testing.assert_close(apart, (1 - torch.eye(3)) * 2**0.5)  # as far as one-hot labels are
    state = of_alone.encode(of_alone.prepare(alone), Hidden())
    assert bool((state.own["cell"] == 1).all())


def test_without_labels_around_and_anything_seen_it_is_the_class_prior(
    alone: TissueGraph, of_alone: TissueModel
) -> None:
    everybody = np.ones(int(alone["cell"].num_nodes), bool)
    told, _ = told_types(of_alone, hide_observations(alone, {("cell", names.TYPE): everybody}), "cell")
    prior = of_alone.part("measurement", "cell", names.TYPE).prior.numpy()
    np.testing.assert_allclose(told, np.broadcast_to(told[0], told.shape), atol=1e-5)
    np.testing.assert_allclose(told[0], prior, atol=0.05)


def test_labels_take_part_in_the_state_only_where_asked_for(partly: TissueGraph) -> None:
    chosen = {"measurement": {"type": {"kind": "categorical", "encode": True}}}
    plain, encoding = fitted(partly), fitted(partly, CONFIG.model_copy(update=chosen))
    hidden = hide_observations(partly, {("cell", names.TYPE): np.ones(int(partly["cell"].num_nodes), bool)})
    z = {
        name: [model.encode(model.prepare(graph), Hidden()).z["cell"].detach() for graph in (partly, hidden)]
        for name, model in (("plain", plain), ("encoding", encoding))
    }
    torch.testing.assert_close(*z["plain"])
    labelled = torch.from_numpy(types_of(partly, "cell", labels(partly, "cell")) >= 0)
    with_labels, without = z["encoding"]
    torch.testing.assert_close(with_labels[~labelled], without[~labelled])
    # A label leaves less open: states of one class are more alike with it.
    kind = types_of(partly, "cell", labels(partly, "cell"))
    spread = [sum(float(one[torch.from_numpy(kind == c)].var(dim=0).sum()) for c in range(3)) for one in z["encoding"]]
    assert spread[0] < 0.9 * spread[1]


def test_the_likelihood_is_a_distribution() -> None:
    logits = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0))[:1].expand(2000, 3)
    one = Categorical(logits)
    drawn = one.sample(torch.Generator().manual_seed(1))
    torch.testing.assert_close(drawn.mean(dim=0), one.mean()[0], atol=0.04, rtol=0)
    torch.testing.assert_close(one.log_prob(torch.eye(3)[[2] * 2000])[0, 0], one.mean()[0, 2].log())
    assert float(one.log_prob(torch.zeros(2000, 3)).abs().max()) == 0.0  # no label says nothing
    assert float(one.nll(drawn, torch.ones(2000), torch.ones(1))) > 0


def test_the_regression_is_that_of_bayes_where_classes_are_normal() -> None:
    rng = np.random.default_rng(0)
    prior, means = np.array([0.5, 0.3, 0.2]), np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    y = rng.choice(3, 6000, p=prior)
    x = means[y] + rng.normal(size=(6000, 2))
    found, told = cross_fitted(x, y, np.arange(6000) % 6, prior)
    density = np.stack([p * multivariate_normal(m).pdf(x) for p, m in zip(prior, means, strict=True)], axis=1)
    bayes = density / density.sum(axis=1, keepdims=True)
    assert np.abs(np.exp(found.log_probability(x)) - bayes).mean() < 0.02
    assert np.abs(told - bayes).mean() < 0.03
    np.testing.assert_allclose(told.sum(axis=1), 1.0)


def test_without_features_worth_it_the_regression_stays_at_the_prior() -> None:
    rng = np.random.default_rng(1)
    prior = np.array([0.6, 0.3, 0.1])
    y = rng.choice(3, 400, p=prior)
    found, _ = cross_fitted(rng.normal(size=(400, 30)), y, np.arange(400) % 4, prior)
    strict = fit_logistic(rng.normal(size=(400, 30)), y, prior, 1e3, np.ones(30))
    assert np.abs(strict.weight).max() < 1e-2
    assert np.abs(np.exp(found.log_probability(np.zeros((1, 30)))) - prior).max() < 0.06


def test_halves_keep_groups_whole() -> None:
    group = np.repeat([0, 1, 2, 3], [50, 30, 20, 5])
    half = halves(group)
    assert all(len(np.unique(half[group == one])) == 1 for one in range(4))
    assert abs(int((half == 0).sum()) - int((half == 1).sum())) <= 10
    assert set(halves(np.zeros(40, int))) == {0, 1}


def test_a_rule_that_says_nothing_more_gets_nothing() -> None:
    rng = np.random.default_rng(0)
    sure = np.where(rng.random(3000) < 0.8, 0.9, 0.05)
    same = np.full(3000, 1 / 3)
    assert mixed(np.stack([same, sure]))[1] > 0.7
    assert mixed(np.stack([same, same * rng.uniform(0.5, 1.4, 3000)]))[0] > 0.85


def test_tissue_of_too_many_types_is_refused_and_says_how_many() -> None:
    section = section_of_types("s", 300, 0)
    section.shapes["cell"]["label"] = [f"k{i}" for i in range(300)]
    with pytest.raises(ModelError, match=r"2 to 200 types, found 300 labels of cell nodes, and nothing else measured"):
        model_of(build_graph([section], EDGES), CONFIG)
    section.shapes["cell"]["label"] = "one"
    with pytest.raises(ModelError, match="found 1 label of cell nodes"):
        model_of(build_graph([section], EDGES), CONFIG)


def test_too_many_labels_beside_counts_are_told(striped_section: Callable[..., Any]) -> None:
    section = striped_section("s", n=300, seed=0)
    section.shapes["cell"]["label"] = [f"k{i}" for i in range(300)]
    graph = build_graph([section], EDGES)
    with pytest.raises(QueryError, match=r"labels of 2 to 200 types, found 2\d\d labels of cell nodes"):
        typed_level(model_of(graph, CONFIG), graph, None)


def test_what_pandas_and_r_write_for_no_label_is_no_type() -> None:
    section = section_of_types("s", 300, 0)
    section.shapes["cell"]["label"] = np.array(["a", "b", "NaN", "<NA>", "NA", "nan"])[np.arange(300) % 6]
    assert labels(build_graph([section], EDGES), "cell") == ("a", "b")
