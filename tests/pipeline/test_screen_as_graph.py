"""A screen of dissociated cells goes through the verbs as every tissue does."""

from __future__ import annotations

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from aivc_graph.cli import main
from tests.pipeline.test_conditions_task import GENES, screen

YAML = """
task:
  name: screen
  sections:
    - name: screen
      sections_by: context
      context_by: context
      sources:
        - {path: ./screen.h5ad, dissociated: true, label: type}
      interventions: {column: condition, control: control, kind: activation}
  split: {kind: by_intervention, hold: combination, seen: 2, n_test: 2, n_validation: 1}
training: {epochs: 1, device: cpu}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("screen")
    x, obs = screen(("a", "b"))
    obs["type"] = np.where(np.arange(len(obs)) % 2, "T", "B")  # names of cells are no regions of tissue
    ad.AnnData(sparse.csr_matrix(x.astype(np.float32)), obs, pd.DataFrame(index=list(GENES))).write_h5ad(
        folder / "screen.h5ad"
    )
    (folder / "screen.yaml").write_text(YAML)
    assert main(["train", str(folder / "screen.yaml"), "--out", str(folder / "run"), "--quiet"]) == 0
    return folder / "run"


def test_held_out_pairs_are_scored_and_the_page_is_written(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--quiet"]) == 0
    scores = json.loads((run / "evaluation.json").read_text())
    asked = [one for one in scores["results"] if one["task"] == "conditions"]
    assert "niches" not in {one["task"] for one in scores["results"]}
    kinds = {one["kind"] for one in asked}
    assert {"model", "baseline", "ceiling"} <= kinds
    assert {"additive", "saturating"} <= {one["predictor"] for one in asked if one["kind"] == "baseline"}
    page = (run / "report.html").read_text()
    assert "there is no map of them" in page and "Where the niches lie" in page and "of the area" not in page


def test_a_what_if_of_a_screen_is_refused_as_what_it_is(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", str(run), "response", "--intervention", "activation:G1"]) == 2
    said = capsys.readouterr().err
    assert "a run of a screen" in said and "trained without interventions" not in said


def test_maps_of_cells_without_positions_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["query", str(run), "niches", "--plot", str(tmp_path / "niches.png")]) == 2
    said = capsys.readouterr().err
    assert "cells without positions" in said and "Traceback" not in said
    assert not (tmp_path / "niches.png").exists()
