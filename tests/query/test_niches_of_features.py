"""Niches of patches that have a tile alone, where niches are those of cells: told by features, else not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aivc_graph.graph.build import build_graph
from aivc_graph.graph.tissue_graph import TissueGraph
from aivc_graph.pipeline.train import train
from aivc_graph.query.niche_file import load_niches
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.report.caveats import caveats_of
from tests.query.stripes import BOTH, CONFIG, GRAPH


def with_tiles(section: Any, seed: int) -> Any:
    """Return the section with tile features that mean the same in every section: the stripe, and noise."""
    table = section.tables["patch_histology"]
    stripe = section.shapes["patch"]["label"].str.removeprefix("stripe ").astype(int).to_numpy()
    noise = np.random.default_rng(seed).normal(size=table.shape)
    table.X = (np.eye(5)[stripe] + 0.2 * noise).astype(np.float32)
    return section


@pytest.fixture(scope="module")
def graph(striped_section: Callable[..., Any]) -> TissueGraph:
    sections = [with_tiles(striped_section(f"s{i}", n=400, levels=BOTH, seed=i, donor=f"d{i}"), i) for i in range(3)]
    for level in BOTH:
        sections[2].shapes[level]["split"] = "test"
    return build_graph(sections, GRAPH)


@pytest.fixture(scope="module")
def run(graph: TissueGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(graph, CONFIG, tmp_path_factory.mktemp("tiles") / "run").folder


@pytest.fixture(scope="module")
def tissue(run: Path) -> VirtualTissue:
    return VirtualTissue.load(run)


def slide_alone(tissue: VirtualTissue, *more: tuple[str, str]) -> VirtualTissue:
    """Return the tissue as if of the test section nothing but its slide were there."""
    keys = [("cell", "rna"), ("patch", "rna"), ("cell", "type"), ("patch", "type"), *more]
    return tissue.without({key: tissue.graph.in_split(key[0], "test").numpy() for key in keys})


def test_a_slide_alone_is_told_the_niches_that_its_counts_would_tell(tissue: VirtualTissue) -> None:
    test = tissue.graph.in_split("patch", "test").numpy()
    known, told = tissue.niches(level="patch"), slide_alone(tissue).niches(level="patch")
    alike = (known.obs["niche"].astype(str) == told.obs["niche"].astype(str)).to_numpy()[test].mean()
    common = known.obs["niche"][test].value_counts(normalize=True).max()
    assert alike > common + 0.25 and alike > 0.75
    np.testing.assert_allclose(told.X[test].sum(axis=1), 1.0, atol=1e-5)
    assert not told.obs["supported"][test].any()


def test_places_beneath_and_above_follow_and_measured_ones_keep_their_niches(tissue: VirtualTissue) -> None:
    left, inside = slide_alone(tissue), tissue.graph.in_split("cell", "test").numpy()
    shares, before = left.niche_shares(), tissue.niche_shares()
    np.testing.assert_array_equal(shares["cell"][~inside], before["cell"][~inside])
    under = np.asarray(left.graph["cell", "within", "patch"].adj_t.to_dense().sum(dim=0)) > 0
    np.testing.assert_allclose(shares["cell"][inside & under].sum(axis=1), 1.0, atol=1e-5)
    assert not shares["cell"][inside & ~under].any()


def test_without_a_slide_nothing_is_told(tissue: VirtualTissue) -> None:
    nothing = slide_alone(tissue, ("patch", "histology"))
    assert not nothing.niche_shares()["patch"][tissue.graph.in_split("patch", "test").numpy()].any()


def test_shuffled_tiles_tell_nothing(tissue: VirtualTissue) -> None:
    test = np.flatnonzero(tissue.graph.in_split("patch", "test").numpy())
    left = slide_alone(tissue)
    features = left.graph["patch"].histology.clone()
    features[test] = features[np.random.default_rng(0).permutation(test)]
    left.graph["patch"].histology = features
    known, told = (one.niche_shares()["patch"][test].argmax(axis=1) for one in (tissue, left))
    assert (known == told).mean() < 0.55


def test_the_map_is_kept_with_the_run(run: Path, tissue: VirtualTissue) -> None:
    rule = load_niches(run, tissue.model)
    assert rule is not None and set(rule.of_features) == {"patch"}
    again = VirtualTissue.load(run)
    np.testing.assert_array_equal(
        slide_alone(again).niche_shares()["patch"], slide_alone(tissue).niche_shares()["patch"]
    )


def test_tasks_ask_for_niche_and_composition_of_the_slide(tissue: VirtualTissue) -> None:
    from aivc_graph.config import Config
    from aivc_graph.evaluation.scoring import judge
    from aivc_graph.pipeline.tasks.image_composition import image_to_composition
    from aivc_graph.pipeline.tasks.image_niche import image_to_niche
    from aivc_graph.pipeline.tasks.task import Asked

    asked = Asked(tissue, Config())
    for task in (image_to_niche, image_to_composition):
        first = judge(task(asked))[0]
        values = {who: one.value for who, one in first.estimates.items()}
        assert {"model", "ridge", "knn_of_features", "kernel_ridge_of_features", "global_mean"} <= set(values)
        assert values["model"] < 0.8 * values["global_mean"]


def test_the_page_says_where_the_state_adds_nothing_to_the_slide(tissue: VirtualTissue) -> None:
    told = [short for short, _ in caveats_of(tissue, simulated=False, evaluated=True)]
    assert any("its features say by themselves (patch)" in short for short in told)
    (tile,) = (part for part in tissue.model.parts_of("prediction") if hasattr(part, "state_share") and part.yields)
    kept = tile.state_share.clone()
    tile.state_share.fill_(0.3)
    told = [short for short, _ in caveats_of(tissue, simulated=False, evaluated=True)]
    tile.state_share.copy_(kept)
    assert not any("by themselves" in short for short in told)
