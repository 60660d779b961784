"""A screen of dissociated cells goes through the verbs as every tissue does."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import aivc_graph as ag
from aivc_graph.cli import main
from aivc_graph.errors import QueryError
from aivc_graph.evaluation.records import read_evaluation
from aivc_graph.query.screen_responses import MIN_UNITS
from aivc_graph.query.virtual_tissue import VirtualTissue
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
  split: {kind: by_intervention, hold: combination, seen: 2, n_test: 2}
training: {epochs: 1, device: cpu}
evaluation: {questions: [{kind: by_context}, {kind: by_intervention, n_test: 3, within: [a]}]}
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


def test_every_pair_is_scored_once_and_so_are_further_questions(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--quiet"]) == 0
    found = read_evaluation(run / "evaluation.json")
    tasks = {one.task for one in found.results}
    pairs, context, target = "unseen_combination_2_seen", "unseen_context", "unseen_target_in_a"
    assert {pairs, context, target} <= tasks and "niches" not in tasks
    units = {(one.task, one.unit, one.n_units) for one in found.results}
    assert {(pairs, "combination", 7), (context, "context", 2), (target, "target", 8)} <= units
    assert {one.lower for one in found.results if one.task == context} == {None}
    kinds = {one.kind for one in found.results if one.task == pairs}
    assert {"model", "baseline", "ceiling"} <= kinds
    folds = {one["name"]: one for one in found.card["split"]["questions"]}
    assert (folds[pairs]["asked"], folds[pairs]["folds"]) == (14, 4)
    assert {pairs, context, target} <= set(found.leakage["optimism"])
    page = (run / "report.html").read_text()
    assert "there is no map" in page and "Where the niches are" in page and "of the area" not in page
    assert "Taken for nothing done: control (24 cells)." in page and "14 conditions in 4 folds" in page


def test_a_condition_that_was_never_seen_is_asked_and_its_prediction_scored(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "said.h5ad"
    assert main(["query", str(run), "response", "--out", str(out), "--quiet"]) == 0
    said = ad.read_h5ad(out)
    assert len(said) == 4 and said.obs["supported"].all() and set(said.obs["context"]) == {"a", "b"}
    np.testing.assert_allclose(said.X, said.layers["untreated"] + said.layers["effect"])
    assert (said.layers["lower"] < said.layers["upper"]).all() and (said.obs["n_left_out"] >= 5).all()
    measured = run.parent / "screen.h5ad"
    asked = ["evaluate", "--predictions", str(out), "--measured", str(measured), "--context", "context"]
    assert main([*asked, "--out", str(tmp_path / "scores"), "--quiet"]) == 0
    found = read_evaluation(tmp_path / "scores/evaluation.json")
    value = {(one.metric, one.predictor): one.value for one in found.results}
    assert value["pearson_delta_profile", "model"] > value["pearson_delta_profile", "global_mean"]


def test_a_run_of_a_screen_says_what_it_supports(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def say(*given: str) -> tuple[int, str, str]:
        code = main(["query", str(run), "response", *given])
        return code, *capsys.readouterr()

    pair = ["--intervention", "activation:G2", "--intervention", "activation:G5", "--where", "context=a"]
    code, out, _ = say(*pair, "--genes", "G7")
    assert code == 0 and "G2+G5" in out and "True" in out
    assert main(["query", str(run), "response", *pair, "--out", str(tmp_path / "one.csv"), "--quiet"]) == 0
    table = pd.read_csv(tmp_path / "one.csv")
    assert len(table) == len(GENES) and (table["lower"] < table["estimate"]).all()
    code, out, err = say("--intervention", "activation:G30", "--where", "context=b", "--genes", "G30")
    assert code == 0 and "False" in out and "G30 in b is out of support: G30 was never done in training" in err
    assert "no intervention that trained, or gene that was measured, named 'Z'" in say("--intervention", "drug:Z")[2]
    assert "expected G1 as activation" in say("--intervention", "knockout:G1")[2]
    assert "no context named 'c'" in say(*pair[:2], "--where", "context=c")[2]
    assert "context=NAME of a screen" in say(*pair[:2], "--where", "niche=1")[2]
    assert "a question to tissue" in say(*pair[:2], "--at", "cell")[2]
    said = VirtualTissue.load(run).responses(["G1+G5"], ["a"])
    assert said.obs["condition"].tolist() == ["G1+G5"] and said.n_vars == len(GENES)
    # No column states a dose or a time: none is told, and one that is asked for is nothing training knows.
    assert (said.obs[["dose", "hours"]] == "").all(axis=None)
    said = VirtualTissue.load(run).responses(["G1"], ["a"], 2.0, 48.0)
    assert said.obs[["dose", "hours"]].to_numpy().tolist() == [["2", "48"]] and not said.obs["supported"].any()
    assert "no dose of G1" in said.obs["why"].iloc[0] and "no hours of G1" in said.obs["why"].iloc[0]


def test_an_effect_without_an_interval_says_why(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tissue = VirtualTissue.load(run)
    said = tissue.responses(["G1+G5"], ["a"])
    number = int(said.obs["n_left_out"].iloc[0])
    told = np.isfinite(said.layers["lower"]).all()
    assert told == (number >= MIN_UNITS) and said.obs["why"].eq("").all() == told
    monkeypatch.setattr("aivc_graph.query.screen_responses.MIN_UNITS", number + 1)
    said = tissue.responses(["G1+G5"], ["a"])
    expected = f"no interval: {number} conditions of training could be left out as it is asked, of {number + 1}"
    assert said.obs["why"].tolist() == [expected] and said.obs["supported"].all()
    assert np.isnan(said.layers["lower"]).all()


def test_what_is_given_at_dose_zero_or_for_no_time_does_nothing(run: Path, tmp_path: Path) -> None:
    """For sure, whatever doses and hours training had; beside another part it is as if it had not been named."""
    tissue = VirtualTissue.load(run)
    for dose, hours in ((0.0, None), (0.0, 1000.0), (None, 0.0)):
        said = tissue.responses(["G1+G5"], ["a"], dose, hours)
        assert said.obs["supported"].all() and (said.obs["condition"] == "G1+G5").all()
        for layer in ("effect", "lower", "upper"):
            np.testing.assert_array_equal(said.layers[layer] - (0 if layer == "effect" else said.layers["effect"]), 0)
        np.testing.assert_array_equal(said.X, said.layers["untreated"])
    alone, beside = tissue.responses(["G1"], ["a"], 1.0), tissue.responses(["G1+G5"], ["a"], (1.0, 0.0))
    np.testing.assert_array_equal(alone.layers["effect"], beside.layers["effect"])
    np.testing.assert_array_equal(alone.layers["upper"], beside.layers["upper"])
    with pytest.raises(QueryError, match="found a dose or hours of no intervention"):
        tissue.ask("response", dose=3.0)


def test_cells_that_stand_on_two_sides_are_refused_unless_that_is_accepted(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ad.read_h5ad(run.parent / "screen.h5ad")
    name, where = data.obs["condition"].to_numpy(str), data.obs["context"].to_numpy(str)
    x = data.X.toarray() * 1.0
    x[(name == "G6") & (where == "a")] = 2 * x[(name == "G1+G2") & (where == "a")]  # no exact copy, for the builder
    ad.AnnData(sparse.csr_matrix(x.astype(np.float32)), data.obs, data.var).write_h5ad(tmp_path / "screen.h5ad")
    config = tmp_path / "screen.yaml"
    config.write_text(YAML)
    leaking, told = tmp_path / "run", "G1+G2 in a holds the same cells (12) as G6 in a, which trains"
    assert main(["train", str(config), "--out", str(leaking), "--quiet"]) == 0
    assert main(["evaluate", str(leaking), "--quiet"]) == 2
    message = capsys.readouterr().err
    assert told in message and "share_content: true" in message and not (leaking / "evaluation.json").exists()
    again = ["--set", "task.split.share_content=true", "--out", str(tmp_path / "let"), "--quiet"]
    assert main(["train", str(config), *again]) == 0
    assert main(["evaluate", str(tmp_path / "let"), "--quiet"]) == 0
    assert told in read_evaluation(tmp_path / "let/evaluation.json").leakage["accepted"]


def test_a_what_if_of_tissue_is_refused_with_what_to_ask(run: Path) -> None:
    with pytest.raises(QueryError, match=r"found a run of a screen; .*aivc query RUN response"):
        VirtualTissue.load(run).intervene(ag.knockout("G1"))


def test_niches_of_cells_without_positions_are_said_to_say_nothing(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = "cells without positions are near nobody: all are one niche, which says nothing; ask markers or composition"
    assert main(["query", str(run), "niches"]) == 0
    assert told in capsys.readouterr().err
    assert main(["query", str(run), "expression", "--at", "cell"]) == 0
    assert told not in capsys.readouterr().err


def test_maps_of_cells_without_positions_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["query", str(run), "niches", "--plot", str(tmp_path / "niches.png")]) == 2
    said = capsys.readouterr().err
    assert "cells without positions" in said and "Traceback" not in said
    assert not (tmp_path / "niches.png").exists()


def test_an_effect_in_a_screen_has_no_picture(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "effect.png"
    assert main(["query", str(run), "response", "--plot", str(picture)]) == 2
    assert "found a screen; write the answer with --out" in capsys.readouterr().err and not picture.exists()
