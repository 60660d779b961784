"""Fewer and wrong anchors: what cells and spots then tell of each other, beside the nearest join, on the run's page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aivc_graph import cli
from aivc_graph.config import Config, load_config
from aivc_graph.errors import QueryError
from aivc_graph.evaluation.records import read_evaluation
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.model.settings import ModelConfig
from aivc_graph.pipeline import anchor_curves as curves
from aivc_graph.pipeline.tasks.task import Asked
from aivc_graph.pipeline.train import train
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.report.anchors import anchors_of
from aivc_graph.training.settings import TrainingConfig


@pytest.fixture(scope="module")
def run(striped_section: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run on three donors, one of them held out; each cell lies beneath one spot, or two."""
    made = [striped_section(f"s{i}", n=400, seed=i, levels=("cell", "patch"), donor=f"d{i}") for i in range(3)]
    for level in ("cell", "patch"):
        made[2].shapes[level]["split"] = "test"
    for section in made:
        del section.tables["patch_histology"]  # which in each section mean something else
    graph = build_graph(made, GraphConfig(edges={one: {"kind": "knn", "k": 6} for one in ("cell", "patch")}))
    training = TrainingConfig(epochs=0, window_nodes=400, device="cpu")
    config = Config(model=ModelConfig(latent=4, rings=(6,)), training=training)
    return train(graph, config, tmp_path_factory.mktemp("anchors") / "run").folder


@pytest.fixture(scope="module")
def evaluated(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of its scores and its page, anchors all known and as they are, and moved by 100 µm."""
    out = tmp_path_factory.mktemp("scores")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "SHARES", (1.0,))
        patch.setattr(curves, "SHIFTS_UM", (100.0,))
        assert cli.main(["evaluate", str(run), "--anchors", "--out", str(out), "--quiet"]) == 0
    return out


def test_wrong_anchors_cost_what_cells_and_spots_tell_of_each_other(evaluated: Path) -> None:
    records = read_evaluation(evaluated / "evaluation.json").anchors
    assert {(one["told"], one["by"]) for one in records} == {("cell", "patch"), ("patch", "cell")}
    for level in ("cell", "patch"):
        right, wrong, told = (
            next(one for one in records if (one["told"], one["shift_um"], one["error_told"]) == (level, *done))
            for done in ((0.0, False), (100.0, False), (100.0, True))
        )
        assert right["n"] == wrong["n"] == told["n"] > 10  # the same nodes, whatever lies beneath them now
        assert right["nearest_join"]["value"] > wrong["nearest_join"]["value"] + 0.05
        assert right["model"]["value"] > wrong["model"]["value"] + 0.05
        assert wrong["nearest_join"] == told["nearest_join"] and wrong["model"] != told["model"]
        for one in (right, wrong):
            assert one["model"]["lower"] <= one["model"]["upper"]
            assert one["share"] == 1.0 and one["relative_sd"] > 0


def test_the_page_shows_them(evaluated: Path) -> None:
    page = (evaluated / "report.html").read_text(encoding="utf-8")
    assert 'id="anchors"' in page and 'href="#anchors"' in page
    records = read_evaluation(evaluated / "evaluation.json").anchors
    shown = anchors_of(records)
    assert shown is not None and len(shown["rows"]) == len(records)
    for row in shown["rows"]:
        assert f'<td class="n">{row["model"]}</td>' in page
    assert {row["done"] for row in shown["rows"]} == {
        "all anchors", "cells moved by 100 µm", "cells moved by 100 µm, and so told"
    }  # fmt: skip
    assert "moved by 100 µm: the model falls from" in shown["picture"].alt


def test_without_being_asked_there_are_none(tiny_demo: Path) -> None:
    assert json.loads((tiny_demo / "evaluation.json").read_text())["anchors"] == []
    assert 'id="anchors"' not in (tiny_demo / "report.html").read_text(encoding="utf-8")
    assert anchors_of([]) is None


def test_a_run_whose_cells_lie_beneath_no_spots_is_refused(run: Path) -> None:
    tissue = VirtualTissue.load(run)
    asked = Asked(tissue, load_config(run / "config.yaml", []))
    asked.graph["patch"].rna_mask[:] = False
    with pytest.raises(QueryError, match="no scored cells beneath spots") as told:
        curves.anchor_curves(asked)
    assert "leave --anchors out" in str(told.value)


def test_conditions_are_thinned_or_moved_and_what_moves_is_told_or_not(run: Path) -> None:
    asked = Asked(VirtualTissue.load(run), load_config(run / "config.yaml", []))
    done = list(curves._conditions(asked))
    assert [(one.share, one.shift_um) for one, told in done if not told] == [
        *((share, 0.0) for share in curves.SHARES),
        *((1.0, shift) for shift in curves.SHIFTS_UM),
    ]
    left = [one.sigma_um for one, told in done if told]
    assert np.all(np.array(left) >= np.array(curves.SHIFTS_UM) / np.sqrt(2) - 1e-9)
    assert len({one.seed for one, _ in done}) == 1
