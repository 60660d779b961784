"""A screen becomes a valid ``evaluation.json`` and a page; faults of its file and leaks are refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aivc_graph import cli
from aivc_graph.errors import ConfigError, StoreError
from aivc_graph.evaluation.readouts.footprints import Footprints
from aivc_graph.evaluation.records import read_evaluation
from aivc_graph.evaluation.responses.activities import METRICS, in_pathways
from aivc_graph.evaluation.responses.asking import examine
from aivc_graph.evaluation.responses.questions import unseen_pair
from aivc_graph.evaluation.responses.table import responses_of
from aivc_graph.pipeline.evaluate_predictions import evaluate_predictions
from aivc_graph.pipeline.evaluate_tables import evaluate_table
from aivc_graph.pipeline.scores import board
from aivc_graph.pipeline.table_settings import load_table_config
from aivc_graph.report.write import write_scored_table
from tests.pipeline.screens import CELLS, NAMES, YAML, measured, planted, sets


def test_a_screen_is_asked_scored_and_written(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = written / "out"
    assert cli.main(["evaluate", str(written / "small.yaml"), "--out", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert "How well it predicts" in page and "unseen pair 2 seen" in page and "<script" not in page
    shown = capsys.readouterr()
    assert max(map(len, shown.out.splitlines())) <= 120
    assert "\nunseen_pair_2_seen\n" in shown.out and "pearson_delta_profile" in shown.out
    assert "unseen_pair_2_seen: 5 conditions in 5 folds" in shown.err
    found = read_evaluation(out / "evaluation.json")
    assert {one.kind for one in found.results} == {"model", "baseline", "ceiling"}
    assert found.risk["intervention"]["tasks"] == ["unseen_pair_2_seen"] and found.risk["scale"] == "not evaluated"
    assert found.provenance["collapsed"] == [] and found.leakage["by_split"] == {"test": 0.0}
    assert {one.unit for one in found.results} == {"perturbation"} and {one.n_units for one in found.results} == {5}
    before = (out / "evaluation.json").read_bytes()
    evaluate_table(written / "small.yaml", out)
    assert (out / "evaluation.json").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (YAML.replace("unseen_pair", "unseen_pairs"), "small.yaml:7: screen.questions[0].ask"),
        ("task: {name: a}\n", "train it, and evaluate its run folder"),
        (YAML.replace("condition: condition", "conditon: x"), "did you mean 'condition'"),
        (YAML + "    - {ask: unseen_pair, within: [all]}\n", "unseen_pair is asked twice; ask it once"),
        (YAML + "evaluation: {weights: {scale: 1e308, context: 1e308}}\n", "the sum of all weights is infinite"),
    ],
)
def test_faults_of_the_file_are_told_with_their_line(written: Path, text: str, said: str) -> None:
    (written / "small.yaml").write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_table_config(written / "small.yaml")
    assert said in str(raised.value)


def test_a_screen_that_can_be_asked_nothing_says_so(written: Path) -> None:
    (written / "small.yaml").write_text(YAML.replace("unseen_pair", "unseen_context"))
    with pytest.raises(ConfigError, match="nothing to ask by unseen_context"):
        evaluate_table(written / "small.yaml", written / "out")
    (written / "small.yaml").write_text(YAML.replace("{ask: unseen_pair}", "{ask: unseen_pair, within: [al]}"))
    with pytest.raises(ConfigError, match="no context named 'al'; did you mean 'all'"):
        evaluate_table(written / "small.yaml", written / "out")


@pytest.mark.parametrize(
    "given", [[], ["runs/x", "--measured", "a.h5ad"], ["--measured", "a.h5ad"], ["--predictions", "a.h5ad"]]
)
def test_one_thing_is_scored_at_a_time(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", *given]) == 2
    assert "RUN, a YAML file, or --predictions with --measured" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "given"),
    [
        (["--truth", "truth"], ["--predictions", "a.h5ad", "--measured", "b.h5ad"]),
        (["--truth", "truth"], ["small.yaml"]),
        (["--set", "screen.seed=1"], ["--predictions", "a.h5ad", "--measured", "b.h5ad"]),
        (["--condition", "condition"], ["runs/x"]),
        (["--control", "ctrl"], ["small.yaml"]),
        (["--context", "line"], ["runs/x"]),
        (["--split", "split"], ["small.yml"]),
        (["--share-content"], ["runs/x"]),
    ],
)
def test_an_option_of_another_kind_is_refused(
    option: list[str], given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["evaluate", *given, *option]) == 2
    assert f"aivc evaluate {option[0]}: expected" in capsys.readouterr().err


def test_scores_are_put_between_the_mean_rule_and_the_ceiling(written: Path) -> None:
    shown = board(evaluate_table(written / "small.yaml", written / "out")).set_index("metric")
    one = shown.loc["pearson_delta_profile"]
    assert one["scaled"] == pytest.approx(
        (one["model"] - one["mean rule"]) / (one["ceiling"] - one["mean rule"]), abs=1e-4
    )
    # By decree the mean rule is at -1 there: from that everybody would look good.
    by_decree = shown.loc["systema_delta"]
    assert by_decree["mean rule"] == 0.0
    assert by_decree["scaled"] == pytest.approx(by_decree["model"] / by_decree["ceiling"], abs=1e-4)


def test_pathways_are_scored_beside_genes_in_a_screen(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (written / "small.yaml").write_text(YAML + "evaluation: {pathways: ./sets.gmt}\n")
    found = evaluate_table(sets(written).with_name("small.yaml"), written / "out")
    assert list(found.provenance["pathways"]) == ["sets.gmt"]
    rows = [one for one in found.results if one.readout == "pathways"]
    assert {one.metric for one in rows} == set(METRICS) and {one.kind for one in rows} == {
        "model",
        "baseline",
        "ceiling",
    }
    assert {one.predictor for one in rows} == {one.predictor for one in found.results if one.readout == "response"}
    value = {(one.metric, one.predictor): one.value for one in rows}
    assert value["pearson_delta_profile", "model"] > 0.8 and value["pds_cosine", "replicate_half"] > 0.7
    # The two kinds of terms weigh alike in the risk, and each has its line on the terminal.
    assert found.risk["intervention"]["tasks"] == ["unseen_pair_2_seen"]
    assert board(found).set_index(["readout", "metric"]).index.is_unique
    (written / "small.yaml").write_text(YAML + "evaluation: {pathways: ./absent.gmt}\n")
    assert cli.main(["evaluate", str(written / "small.yaml"), "--out", str(written / "out")]) == 2
    assert "absent.gmt" in capsys.readouterr().err


def test_activities_are_those_of_profiles_without_what_was_done_itself(written: Path) -> None:
    data = measured()
    data.var_names = ["A", *data.var_names[1:]]  # the first gene is itself a target
    seen = responses_of(data, "condition", "control")
    exam = examine(seen, next(unseen_pair(seen, ~seen.is_control)), cells=False)
    footprints = Footprints(
        pd.DataFrame({"source": "s", "target": data.var_names[:10], "weight": 1.0}), list(data.var_names)
    )
    true = exam.of_profiles(exam.measured.profile)
    found = in_pathways(exam.scored(true), footprints)
    effect = np.where(exam.measured.own, 0.0, exam.measured.effect)
    assert exam.measured.own.any()
    expected = effect[:, :10].mean(axis=1) - effect[:, 10:].mean(axis=1)
    np.testing.assert_allclose(found.measured.effect[:, 0], expected)
    np.testing.assert_allclose(found.model.profile, found.measured.profile)
    one, other = found.ceilings["replicate_half"].pairs[0]
    assert one.profile.shape == other.profile.shape == found.measured.profile.shape


def test_a_planted_leak_fails_unless_accepted_and_then_the_page_says_so(
    written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planted(measured()).write_h5ad(written / "screen.h5ad")
    told, asked = "A+B holds the same cells (24) as E, which trains", ["evaluate", str(written / "small.yaml")]
    assert cli.main([*asked, "--out", str(written / "out")]) == 2
    message = capsys.readouterr().err
    assert told in message and "share_content: true" in message and not (written / "out/evaluation.json").exists()
    assert cli.main([*asked, "--out", str(written / "out"), "--set", "screen.share_content=true"]) == 0
    assert f"the split leaks: {told}" in capsys.readouterr().err
    found = read_evaluation(written / "out/evaluation.json")
    assert found.leakage["accepted"] == [told] and found.leakage["by_split"]["test"] == pytest.approx(1 / 5)
    page = (written / "out/report.html").read_text()
    assert "Part of the test data was seen in training:" in page and told in page


def test_a_table_has_a_card_an_audit_and_the_hashes_of_its_files(written: Path) -> None:
    found = evaluate_table(written / "small.yaml", written / "out")
    digest = hashlib.sha256((written / "screen.h5ad").read_bytes()).hexdigest()
    assert found.provenance["files"] == {"screen.h5ad": digest}
    card = found.card
    assert card["data"]["cells"] == len(NAMES) * CELLS and card["data"]["contexts"]["all"]["control_cells"] == CELLS
    assert card["split"]["questions"][0]["asked"] == 5 and card["split"]["questions"][0]["folds"] == 5
    assert card["not_evaluated"]["axes"] == ["modality", "scale", "context"]
    assert set(card["not_evaluated"]["tasks"]) == {"unseen_gene", "unseen_context"}
    assert {one["about"] for one in card["assumptions"]} == {
        "identifiability",
        "confounding",
        "measurement",
        "intervals",
    }
    for what in ("similarity", "nearest", "optimism"):
        assert list(found.leakage[what]) == ["unseen_pair_2_seen"]
    assert len(found.risk["similarity"]["similarity"]) == 5 and found.risk["similarity"]["slope"] is not None
    assert found.calibration[0]["reason"] == "insufficient groups: 5 of 9 perturbations"
    write_scored_table(written / "out")
    page = (written / "out/report.html").read_text()
    for said in ("Card of these scores", digest, "Batches are not named", "unseen pair 2 seen: share of all likeness"):
        assert said in page, said
    assert "insufficient groups: 5 of 9 perturbations" in page
    other = evaluate_predictions(written / "said.h5ad", written / "screen.h5ad", written / "other")
    assert set(other.provenance["files"]) == {"said.h5ad", "screen.h5ad"}
    assert any("whether they saw what is tested" in one["says"] for one in other.card["assumptions"])
    write_scored_table(written / "other")


def test_settings_are_put_over_the_file_and_axes_weigh_as_it_says(written: Path) -> None:
    (written / "small.yaml").write_text(YAML + "evaluation: {weights: {intervention: 2, context: 1}}\n")
    config = load_table_config(written / "small.yaml", ["screen.seed=3", "evaluation.weights.context=0"])
    assert config.screen.seed == 3 and config.evaluation.weights == {"intervention": 2.0, "context": 0.0}
    assert evaluate_table(written / "small.yaml", written / "out").risk["weights"] == {"intervention": 1.0}
    (written / "small.yaml").write_text(YAML + "evaluation: {weights: {intervention: 0, context: 1}}\n")
    assert evaluate_table(written / "small.yaml", written / "out").risk["weights"] == {}
    with pytest.raises(ConfigError, match=r"--set screen\.sede: .*did you mean 'seed'"):
        load_table_config(written / "small.yaml", ["screen.sede=3"])
    assert cli.main(["evaluate", str(written), "--set", "screen.seed=3"]) == 2


@pytest.mark.parametrize(
    ("spoil", "said"), [("baseline", "no baseline beside"), ("leakage", "no figure for the split")]
)
def test_a_table_without_baseline_or_leakage_figure_is_refused(written: Path, spoil: str, said: str) -> None:
    evaluate_table(written / "small.yaml", written / "out")
    path = written / "out/evaluation.json"
    torn = json.loads(path.read_text())
    if spoil == "baseline":
        torn["results"] = [one for one in torn["results"] if one["kind"] != "baseline"]
    else:
        torn["leakage"]["by_split"] = {}
    path.write_text(json.dumps(torn))
    with pytest.raises(StoreError, match=said):
        read_evaluation(path)
