"""A planted leak of each kind is found, and a clean split is not accused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.spatial.distance import cdist

from aivc_graph import names
from aivc_graph.evaluation.audit import audit_graph
from aivc_graph.evaluation.leakage import group_overlap
from aivc_graph.evaluation.optimism import optimism_gap
from aivc_graph.evaluation.receptive_field import reach_um, receptive_field, touched_by
from aivc_graph.evaluation.similarity import nearest, nearest_distance, similarity_across
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.model.plan import ModelPlan
from aivc_graph.model.settings import ModelConfig
from aivc_graph.splits.by_block import BlockSplit
from aivc_graph.tissue.intervention import activation, knockout, set_interventions

RNG = np.random.default_rng(0)
KINDS = RNG.normal(size=(8, 60))
GRAPH = GraphConfig(edges={"cell": {"kind": "knn", "k": 6}, "patch": {"kind": "knn", "k": 4}}, region_factor=1.0)


def profiles(kinds: list[int], n: int = 200, seed: int = 0, noise: float = 0.5) -> np.ndarray:
    """Return log profiles of nodes of some of eight kinds."""
    rng = np.random.default_rng(seed)
    return 2 + KINDS[rng.choice(kinds, n)] + noise * rng.normal(size=(n, 60))


def nearly(x: np.ndarray) -> np.ndarray:
    return x + 0.01 * np.random.default_rng(1).normal(size=x.shape)


def test_similarity_is_the_sum_over_pairs_and_finds_copies() -> None:
    train, test = profiles([0, 1, 2, 3], 700), profiles([4, 5, 6, 7], 300, 1)
    both = np.concatenate([train, test]) - train.mean(axis=0)
    like = np.maximum(1 - cdist(both, both, "cosine"), 0)
    np.fill_diagonal(like, 0)
    found = similarity_across(train, test)
    assert found["value"] == pytest.approx(2 * like[:700, 700:].sum() / like.sum(), rel=1e-4)
    assert found["by_chance"] == pytest.approx(700 * 300 / (1000 * 999 / 2), rel=1e-5)
    assert found["value"] < 0.7 * found["by_chance"]
    shuffled = similarity_across(*np.split(np.random.default_rng(2).permutation(np.concatenate([train, test])), [700]))
    assert shuffled["value"] == pytest.approx(shuffled["by_chance"], rel=0.03)
    leaking = similarity_across(train, np.concatenate([test[:150], nearly(train[:150])]))
    assert leaking["value"] > 1.2 * found["value"]


def test_a_thinned_sample_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = profiles([0, 1, 2], 1600), profiles([2, 3], 800, 1)
    whole = similarity_across(train, test)
    monkeypatch.setattr("aivc_graph.evaluation.similarity.SAMPLE", 900)
    part = similarity_across(train, test)
    assert (part["n_train"], part["n_test"]) == (600, 300)
    assert part["value"] == pytest.approx(whole["value"], rel=0.05)


def test_what_training_holds_already_is_nearer_than_other_tested_nodes() -> None:
    train, test = profiles([0, 1], 400), profiles([0, 1], 200, 1)
    assert nearest_distance(train, test)["ratio"] == pytest.approx(1.0, abs=0.1)
    assert nearest_distance(np.concatenate([train[:200], nearly(test)]), test)["ratio"] < 0.8
    assert nearest_distance(train, profiles([5], 200, 1))["ratio"] > 1.3
    assert nearest_distance(train, test[:1])["ratio"] is None


def test_nearest_points_are_those_of_all_distances() -> None:
    known, asked = RNG.normal(size=(700, 5)), RNG.normal(size=(600, 5))
    every = cdist(asked, known)
    rows, away = nearest(known, asked, 3)
    np.testing.assert_array_equal(rows, np.argsort(every, axis=1)[:, :3])
    np.testing.assert_allclose(away, np.sort(every, axis=1)[:, :3], atol=1e-6)


def test_a_split_that_asks_something_new_has_a_gap_and_copies_close_it() -> None:
    x = np.concatenate([profiles([0, 1, 2, 3], 300), profiles([4, 5, 6, 7], 300, 1)])
    asked = np.arange(600) >= 450
    where = (np.random.default_rng(0).uniform(0, 1000, (600, 2)), np.zeros(600, int))
    honest = np.where(np.arange(600) < 300, True, asked)
    gap = optimism_gap(x[honest], where[0][honest], where[1][honest], ~asked[honest], asked[honest])["profile"]
    assert gap["gap"] > 0.15 and gap["random_split"] > gap["this_split"]
    x[300:450] = nearly(x[450:])
    leaking = optimism_gap(x, *where, ~asked, asked)["profile"]
    assert leaking["gap"] < 0.05
    assert optimism_gap(x, *where, ~asked, asked)["profile"] == leaking


def test_a_random_split_of_neighbours_flatters_and_blocks_do_not() -> None:
    rng = np.random.default_rng(0)
    pos = rng.uniform(0, 1000, (1500, 2))
    field = np.sin(pos[:, :1] / np.linspace(40, 90, 30)) + np.cos(pos[:, 1:] / np.linspace(30, 70, 30))
    x, section = field + 0.3 * rng.normal(size=field.shape), np.zeros(1500, int)
    block = pos[:, 0] > 700
    found = optimism_gap(x, pos, section, ~block & (pos[:, 0] < 600), block)["place"]
    assert found["random_split"] > 0.8 and found["gap"] > 0.3
    shuffled = rng.permutation(block)
    assert abs(optimism_gap(x, pos, section, ~shuffled, shuffled)["place"]["gap"]) < 0.03


def test_groups_on_both_sides_are_counted_and_unnamed_ones_are_no_group() -> None:
    sections = pd.DataFrame({"donor": ["a", "a", "b", None], "site": ["x", "y", "x", "x"]})
    section = np.repeat([0, 1, 2, 3], 10)
    train, asked = np.isin(section, [0, 3]), np.isin(section, [1, 2])
    assert group_overlap(sections, section, train, asked) == {"section": 0.0, "donor": 0.5, "site": 0.5}
    assert group_overlap(sections.drop(columns="donor"), section, ~asked, ~train)["site"] == 0.5


@pytest.fixture(scope="module")
def section(striped_section: Callable[..., Any]) -> Any:
    return striped_section("s", n=4000, levels=("cell", "patch"), structure=False)


def cut_and_whole(section: Any, buffer_um: float) -> tuple[Any, Any, Any, Any, Any]:
    """Return the graph with its split, the same without, steps, and the sides by level in either's order."""
    BlockSplit(block_um=250, buffer_um=buffer_um, test_share=0.2, validation_share=0.0)([section])
    cut = build_graph([section], GRAPH)
    for level in (names.CELL, names.PATCH):
        section.shapes[level] = section.shapes[level].drop(columns="split")
    whole = build_graph([section], GRAPH)
    steps = ModelPlan.of(whole, ModelConfig(latent=4, rings=(2, 4))).steps
    sides = []
    for split in (names.TRAIN, names.TEST):
        by_level = {}
        for level in (names.CELL, names.PATCH):
            of = pd.Series(cut.in_split(level, split).numpy(), index=cut.obs(level)[names.BARCODE])
            by_level[level] = of[whole.obs(level)[names.BARCODE]].to_numpy()
        sides.append(by_level)
    return cut, whole, steps, *sides


def test_a_gap_wider_than_edges_times_layers_needs_no_cut(section: Any) -> None:
    """The reach of messages is that of the graph's edges over all layers: proved on the graph whose edges stand."""
    _, whole, steps, *_ = cut_and_whole(section, 0)
    reach = max(reach_um(whole, steps).values())
    assert 50 < reach < 700
    _, whole, steps, train, test = cut_and_whole(section, reach)
    found = receptive_field(whole, steps, train, test)
    for level in (names.CELL, names.PATCH):
        assert test[level].sum() > 10 and found[level]["gap_um"] >= reach
        assert found[level]["overlap"] == found[level]["cut"] == 0.0


def test_without_a_gap_only_cut_edges_keep_training_out(section: Any) -> None:
    cut, whole, steps, train, test = cut_and_whole(section, 0)
    planted = receptive_field(whole, steps, train, test)
    assert planted["cell"]["overlap"] > 0.3 and planted["cell"]["cut"] >= planted["cell"]["overlap"]
    sides = [{v: cut.in_split(v, split).numpy() for v in ("cell", "patch")} for split in (names.TRAIN, names.TEST)]
    clean = receptive_field(cut, steps, *sides)
    assert clean["cell"]["overlap"] == clean["patch"]["overlap"] == 0.0 and clean["cell"]["cut"] > 0.3


def test_messages_touch_what_a_walk_over_edges_touches(section: Any) -> None:
    _, whole, steps, train, _ = cut_and_whole(section, 0)
    one = {v: np.zeros(len(rows), bool) for v, rows in train.items()}
    one["cell"][100] = True
    heard = touched_by(whole, steps, one)["cell"]
    away = np.hypot(*(whole["cell"].pos.numpy() - whole["cell"].pos.numpy()[100]).T)
    near = np.argsort(away)[:3]
    assert heard[near].all() and away[heard].max() <= reach_um(whole, steps)["cell"]
    assert 5 < heard.sum() < len(heard)


def test_the_audit_of_a_graph_names_every_kind(striped_section: Callable[..., Any]) -> None:
    sections = [striped_section(f"s{i}", n=300, seed=i, donor=f"d{i // 2}") for i in range(4)]
    for one, split in zip(sections, ("train", "train", "test", "test"), strict=True):
        one.shapes["cell"]["split"] = split
    found = {}
    for leaking in (False, True):
        if leaking:  # the tested sections are the training ones again, counted anew
            for i in (2, 3):
                counts = sections[i - 2].tables["cell_rna"].X.toarray()
                counts += np.random.default_rng(i).random(counts.shape) < 0.1
                sections[i].tables["cell_rna"].X = sparse.csr_matrix(counts)
                sections[i].attrs["aivc"]["donor"] = "d0"
        graph = build_graph(sections, GRAPH)
        sides = [{"cell": graph.in_split("cell", split).numpy()} for split in ("train", "test")]
        steps = ModelPlan.of(graph, ModelConfig(latent=4, rings=(2, 4))).steps
        found[leaking] = audit_graph(graph, *sides, steps)
    clean, planted = found[False], found[True]
    assert set(clean) == {"groups", "similarity", "nearest", "optimism", "receptive_field"}
    assert clean["groups"]["cell"]["donor"] == 0.0 and planted["groups"]["cell"]["donor"] == 1.0
    assert planted["nearest"]["cell"]["ratio"] < 0.8 < clean["nearest"]["cell"]["ratio"]
    assert clean["receptive_field"]["cell"]["overlap"] == 0.0
    assert planted["optimism"]["cell"]["profile"]["gap"] < clean["optimism"]["cell"]["profile"]["gap"] + 0.05


def test_interventions_that_training_has_are_counted(striped_section: Callable[..., Any]) -> None:
    done = [(), (knockout("G1"),), (knockout("G1"),), (knockout("G1"), activation("G2"))]
    sections = [striped_section(f"s{i}", n=100, seed=i, donor=f"d{i}") for i in range(4)]
    for one, given, split in zip(sections, done, ("train", "train", "test", "test"), strict=True):
        set_interventions(one, given)
        one.shapes["cell"]["split"] = split
    graph = build_graph(sections, GRAPH)
    sides = [{"cell": graph.in_split("cell", split).numpy()} for split in ("train", "test")]
    assert audit_graph(graph, *sides, ())["groups"]["cell"]["intervention"] == 0.5
