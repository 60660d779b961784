"""Intervals of what is told of cells not counted: they hold the true rates, and widen as less is known of anchors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from aivc_graph.graph.anchors import AnchorConfig
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.hiding import hide_observations
from aivc_graph.model.settings import ModelConfig
from aivc_graph.operators.part import AFTER_TRAINING, BEFORE_TRAINING
from aivc_graph.query.virtual_tissue import VirtualTissue
from tests.fitting import fit_stages, fitting_of, fold_of, model_of

N, GENES = 900, 30
EDGES = {"cell": {"kind": "knn", "k": 8}, "patch": {"kind": "knn", "k": 6}}
ANCHORS: dict[str, dict[str, float]] = {
    "exact": {},
    "few": {"share": 0.05},
    "blurred": {"sigma_um": 40.0},
    "vague": {"sigma_um": 120.0},
    "moved": {"sigma_um": 40.0, "shift_um": 60.0},
}


@pytest.fixture(scope="module")
def told(striped_section: Callable[..., Any]) -> dict[str, Any]:
    """Return what is told of the cells, and of the spots, of a section where none was counted, by what anchors are."""
    told = {name: answers(made_by(striped_section), AnchorConfig(**said)) for name, said in ANCHORS.items()}
    misled = answers(made_by(striped_section, tiles=True), AnchorConfig())[1]
    return {name: cells for name, (cells, _) in told.items()} | {"spots": told["exact"][1], "misled": misled}


def made_by(striped_section: Callable[..., Any], *, tiles: bool = False) -> list[Any]:
    """Return three sections, the last of them held out, with or without `tiles`, which in each mean something else."""
    made = [striped_section(f"s{i}", n=N, seed=i, levels=("cell", "patch"), donor=f"d{i}") for i in range(3)]
    for section in made:
        section.shapes["patch"]["radius"] = 9.0  # so that few cells are anchors
        if not tiles:
            del section.tables["patch_histology"]
    for level in ("cell", "patch"):
        made[2].shapes[level]["split"] = "test"
    return made


def answers(made: list[Any], anchors: AnchorConfig) -> list[Any]:
    graph = build_graph(made, GraphConfig(edges=EDGES, anchors=anchors))
    model = model_of(graph, ModelConfig(latent=3, rings=(4, 8)))
    held_out = {level: graph.in_split(level, "validation").numpy() for level in graph.levels}
    fit_stages(
        fitting_of(graph, model, [fold_of(graph, model)], [fold_of(graph, model, held_out)]),
        (*BEFORE_TRAINING, *AFTER_TRAINING),
    )
    return [
        VirtualTissue(hide_observations(graph, {(level, "rna"): graph.in_split(level, "test").numpy()}), model).ask(
            "expression", at=level
        )
        for level in ("cell", "patch")
    ]


def true_rates(answer: Any) -> np.ndarray:
    stripe = np.minimum((answer.obsm["spatial"][:, 0] / (12.0 * np.sqrt(N)) * 3).astype(int), 2)
    profile = np.where(np.arange(GENES)[None] // 10 == np.arange(3)[:, None], 4.0, 1.0)
    rates = 1e4 * profile / profile.sum(axis=1, keepdims=True)
    return rates[stripe][:, [int(gene[1:]) for gene in answer.var_names]]


def coverage_and_width(answer: Any) -> tuple[float, float]:
    low, high = answer.layers["lower"], answer.layers["upper"]
    told, true = np.isfinite(low), true_rates(answer)
    assert told.sum() > 500
    return float(((low <= true) & (true <= high))[told].mean()), float(np.log(high[told] / low[told]).mean())


@pytest.mark.parametrize("name", ANCHORS)
def test_intervals_hold_true_rates(told: dict[str, Any], name: str) -> None:
    assert coverage_and_width(told[name])[0] > 0.93


def test_intervals_widen_as_less_is_known_of_anchors(told: dict[str, Any]) -> None:
    width = {name: coverage_and_width(told[name])[1] for name in ANCHORS}
    assert 1.5 * width["exact"] < width["few"]
    # Exact anchors leave cells between spots, told by their neighbours: those are no surer than by blurred ones.
    assert width["blurred"] < min(width["vague"], width["moved"])


def test_spots_told_by_the_cells_beneath_have_intervals_too(told: dict[str, Any]) -> None:
    covered, width = coverage_and_width(told["spots"])
    assert covered > 0.93 and 0 < width < np.inf  # of three cells each


def test_what_tiles_say_is_dropped_where_cells_beneath_contradict_it(told: dict[str, Any]) -> None:
    assert coverage_and_width(told["misled"])[0] > 0.93
    errors = {}
    for name in ("spots", "misled"):
        answer = told[name]
        asked, true = np.isfinite(answer.layers["lower"]), true_rates(answer)
        errors[name] = np.sqrt(np.mean((np.asarray(answer.X)[asked] / true[asked] - 1) ** 2))
    alike = np.sqrt(np.mean((1e4 / GENES / true[asked] - 1) ** 2))
    assert errors["spots"] < errors["misled"] < 0.8 * alike  # what cells say is left of it


def test_cells_that_were_counted_or_lie_beneath_no_spot_have_none(told: dict[str, Any]) -> None:
    answer = told["exact"]
    there = np.isfinite(answer.layers["lower"])
    counted = (answer.obs["section"] != "s2").to_numpy()
    assert not there[counted].any() and 0 < there[~counted].any(axis=1).mean() < 1
    expected = answer.X[there]
    assert (answer.layers["lower"][there] < expected).all() and (expected < answer.layers["upper"][there]).all()
