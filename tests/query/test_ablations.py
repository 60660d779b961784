"""Each ablation takes away what it says, and loses where, and only where, that told something."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aivc_graph import names
from aivc_graph.graph.build import build_graph
from aivc_graph.graph.hiding import hide_observations
from aivc_graph.pipeline.train import train
from aivc_graph.query.ablations import ABLATIONS, CLOSED_FORM, Given, ablated
from aivc_graph.query.predictions import expected_log_expression, measured_log_expression
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.training.checkpoint import save_tensors
from tests.query.stripes import BOTH, CONFIG, GRAPH

CELLS = (names.CELL, names.RNA)


def given(tissue: VirtualTissue, run: Path) -> Given:
    return Given(run, {level: np.ones(int(tissue.graph[level].num_nodes), bool) for level in BOTH})


def hidden_answer(tissue: VirtualTissue, rows: np.ndarray) -> np.ndarray:
    left = hide_observations(tissue.graph, {CELLS: rows})
    return np.asarray(expected_log_expression(tissue.model, left, names.CELL, rows))


def some_rows(tissue: VirtualTissue) -> np.ndarray:
    return np.random.default_rng(0).random(int(tissue.graph[names.CELL].num_nodes)) < 0.25


def test_what_is_hidden_is_answered_otherwise_by_each(tissue: VirtualTissue, trained: Path) -> None:
    tissues, missing = ablated(tissue, given(tissue, trained))
    assert set(tissues) | set(missing) == set(ABLATIONS) and {*tissues} >= {"messages_off", "rewired_graph"}
    rows = some_rows(tissue)
    whole = hidden_answer(tissue, rows)
    for name, one in tissues.items():
        if name != "closed_form_only":
            assert np.abs(hidden_answer(one, rows) - whole).max() > 0.1, name


def test_without_messages_a_hidden_node_is_the_mean_of_its_section(tissue: VirtualTissue, trained: Path) -> None:
    alone = ablated(tissue, given(tissue, trained))[0]["messages_off"]
    rows = some_rows(tissue)
    told = hidden_answer(alone, rows)
    section = tissue.graph[names.CELL].section_index.numpy()[rows]
    for one in np.unique(section):
        assert np.ptp(told[section == one], axis=0).max() < 1e-5
    states, whole = alone.states[names.CELL], tissue.states[names.CELL]
    assert not states.context.any()
    # What is left is what the corrections make of a node's own state.
    assert np.abs(states.z - states.own).max() < 0.1 * np.abs(whole.z - whole.own).max()


def test_features_only_sees_no_counts(tissue: VirtualTissue, trained: Path) -> None:
    left = ablated(tissue, given(tissue, trained))[0]["features_only"]
    for level in BOTH:
        assert left.graph.counts(level, names.RNA).values().numel() == 0
        assert not left.graph[level][names.mask_name(names.RNA)].any()
    assert torch.equal(left.graph[names.PATCH].histology, tissue.graph[names.PATCH].histology)
    assert tissue.graph.counts(names.CELL, names.RNA).values().numel() > 0


def test_the_closed_form_is_read_from_the_run_or_its_lack_is_told(
    tissue: VirtualTissue, trained: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("graph.zarr", CLOSED_FORM)))
    assert CLOSED_FORM in ablated(tissue, given(tissue, run))[1]["closed_form_only"]
    weights = {name: torch.zeros_like(t) for name, t in tissue.model.state_dict().items()}
    save_tensors(weights, {}, run / CLOSED_FORM)
    found = ablated(tissue, given(tissue, run))[0]["closed_form_only"].model
    assert not any(t.any() for t in found.state_dict().values())
    assert found.plan == tissue.model.plan and any(t.any() for t in tissue.model.state_dict().values())


@pytest.mark.parametrize("structure", [True, False])
def test_the_graph_tells_where_neighbours_are_alike_and_nowhere_else(
    structure: bool, striped_section: Callable[..., Any], tmp_path: Path
) -> None:
    """Error of hidden cells by blocks of 25 cells: beyond doubt larger without the graph, or within chance of it."""
    sections = [striped_section(f"s{i}", n=600, levels=("cell",), seed=i, structure=structure) for i in range(2)]
    run = train(build_graph(sections, GRAPH), CONFIG, tmp_path / "run").folder
    tissue = VirtualTissue.load(run)
    rows = some_rows(tissue)
    true = measured_log_expression(tissue.model, tissue.graph, names.CELL, rows)
    tissues = ablated(tissue, Given(run, {names.CELL: rows}))[0]

    def error(one: VirtualTissue) -> np.ndarray:
        by_cell = ((hidden_answer(one, rows) - true) ** 2).mean(axis=1)
        return np.array([part.mean() for part in np.array_split(by_cell, len(by_cell) // 25)])

    for name in ("messages_off", "rewired_graph"):
        loss = error(tissues[name]) - error(tissue)
        t = loss.mean() / (loss.std(ddof=1) / np.sqrt(len(loss)) + 1e-12)
        assert t > 6 if structure else abs(t) < 4, (name, t)
