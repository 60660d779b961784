"""Niches of patches told by their tiles alone: what tiles leave open of a state flattens what is said."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aivc_graph.graph.build import build_graph
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.operators.prediction.tile import TilePrediction
from aivc_graph.operators.prediction.tile_fit import fit_map
from aivc_graph.pipeline.train import train
from aivc_graph.query.niche_file import load_niches
from aivc_graph.query.niches import NicheRule
from aivc_graph.query.virtual_tissue import VirtualTissue
from tests.fitting import fitting_of, fold_of, model_of
from tests.query.stripes import CONFIG, GRAPH

NOISE = 1.5


def with_tiles(section: Any, seed: int) -> Any:
    """Return the section with tile features of its stripes under much noise."""
    table = section.tables["patch_histology"]
    stripe = section.shapes["patch"]["label"].str.removeprefix("stripe ").astype(int).to_numpy()
    noise = np.random.default_rng(seed).normal(size=table.shape)
    table.X = (np.eye(5)[stripe] + NOISE * noise).astype(np.float32)
    return section


def in_test(graph: TissueGraph) -> np.ndarray:
    return graph.in_split("patch", "test").numpy()


@pytest.fixture(scope="module")
def run(striped_section: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    sections = [
        with_tiles(striped_section(f"s{i}", n=400, levels=("patch",), seed=i, donor=f"d{i}"), i) for i in range(4)
    ]
    sections[2].shapes["patch"]["split"] = "validation"
    sections[3].shapes["patch"]["split"] = "test"
    return train(build_graph(sections, GRAPH), CONFIG, tmp_path_factory.mktemp("open") / "run").folder


@pytest.fixture(scope="module")
def tissue(run: Path) -> VirtualTissue:
    return VirtualTissue.load(run)


def told(tissue: VirtualTissue, rule: NicheRule) -> np.ndarray:
    """Return the shares of niches in test patches as if of them nothing but tiles were there."""
    test = in_test(tissue.graph)
    return rule(tissue.without({("patch", "rna"): test}).surroundings)[test]


def log_loss(said: np.ndarray, right: np.ndarray) -> float:
    return float(-np.log(said[np.arange(len(right)), right] + 1e-3).mean())


def test_what_tiles_leave_open_is_measured_and_kept(run: Path, tissue: VirtualTissue) -> None:
    rule = load_niches(run, tissue.model)
    assert rule is not None and 90 < len(rule.left_open) <= 128
    # Noisy tiles leave open nearly all that a state varies by.
    assert 0.5 < rule.left_open.var(axis=0).sum() / rule.spread.__pow__(2).sum() < 2


def test_niches_of_a_slide_are_surer_than_right_without_it(tissue: VirtualTissue) -> None:
    rule, test = tissue.niche_rule, in_test(tissue.graph)
    right = tissue.niche_shares()["patch"][test].argmax(axis=1)
    flat, sharp = told(tissue, rule), told(tissue, dataclasses.replace(rule, left_open=rule.left_open[:0]))
    assert log_loss(flat, right) < log_loss(sharp, right) - 0.1
    surer = [said.max(axis=1).mean() - (said.argmax(axis=1) == right).mean() for said in (flat, sharp)]
    assert abs(surer[0]) < 0.5 * abs(surer[1])
    np.testing.assert_allclose(flat.sum(axis=1), 1.0, atol=1e-9)


def test_tissue_that_was_counted_keeps_its_niches(tissue: VirtualTissue) -> None:
    rule = tissue.niche_rule
    sharp = dataclasses.replace(rule, left_open=rule.left_open[:0])
    np.testing.assert_array_equal(rule(tissue.surroundings), sharp(tissue.surroundings))
    left = tissue.without({("patch", "rna"): in_test(tissue.graph)}).surroundings
    assert left.by_features[in_test(tissue.graph)].all() and not left.by_features[~in_test(tissue.graph)].any()


def test_stretches_of_tissue_are_left_out_of_the_map_where_no_donor_is(
    tissue: VirtualTissue, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, seen = tissue.graph, list[np.ndarray]()
    model = model_of(graph, CONFIG.model)
    (tile,) = (part for part in model.parts_of("prediction") if isinstance(part, TilePrediction))
    monkeypatch.setattr(tile.map, "fit", lambda x, y, section, apart, there: seen.append(apart))
    fitting = fitting_of(graph, model, [fold_of(graph, model)])
    fit_map(tile, fitting, fitting.training)
    unseen = dataclasses.replace(fitting, new_donor=np.array([-1, -1, 2, 3]))
    fit_map(tile, unseen, fitting.training)
    within, donors = seen
    assert np.unique(within).tolist() == [0, 1, 2, 3, 4] and (np.diff(within) >= 0).all()
    assert len(np.unique(donors)) == 2
