"""Screens, pairings and anybody's predictions become a valid ``evaluation.json``; what cannot be matched is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from aivc_graph import cli
from aivc_graph.errors import ConfigError, ReadError, StoreError
from aivc_graph.evaluation.readouts.footprints import Footprints
from aivc_graph.evaluation.records import Evaluation, read_evaluation
from aivc_graph.evaluation.responses.activities import METRICS, in_pathways
from aivc_graph.evaluation.responses.asking import examine
from aivc_graph.evaluation.responses.questions import unseen_pair
from aivc_graph.evaluation.responses.table import responses_of
from aivc_graph.pipeline.evaluate_predictions import evaluate_predictions
from aivc_graph.pipeline.evaluate_tables import evaluate_table
from aivc_graph.pipeline.scores import board
from aivc_graph.pipeline.table_settings import load_table_config
from aivc_graph.report.write import write_scored_table

GENES, CELLS = 40, 24
NAMES = ("control", "A", "B", "C", "D", "E", "A+B", "C+D", "A+C", "B+D", "D+E")
YAML = """\
screen:
  name: small
  path: ./screen.h5ad
  condition: condition
  control: control
  questions:
    - {ask: unseen_pair}
"""


def effects(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    alone = {part: rng.normal(size=GENES) * (rng.random(GENES) < 0.4) for part in "ABCDE"}
    return {name: sum((alone[p] for p in name.split("+") if p in alone), np.zeros(GENES)) for name in NAMES}


def measured(seed: int = 0) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    base = np.log(np.random.default_rng(9).gamma(2.0, 2.0, GENES))
    x = np.concatenate([rng.poisson(np.exp(base + effect), (CELLS, GENES)) for effect in effects().values()])
    return table(x, np.repeat(NAMES, CELLS).tolist())


def table(x: Any, names: list[str], **columns: Any) -> ad.AnnData:
    obs = pd.DataFrame({"condition": names, **columns}, index=[f"c{i}" for i in range(len(names))])
    made = ad.AnnData(sparse.csr_matrix(np.asarray(x, float)), obs=obs)
    made.var_names = [f"G{i}" for i in range(GENES)]
    return made


def sided(given: ad.AnnData, names: tuple[str, ...] = ("A+B", "C+D")) -> ad.AnnData:
    given.obs["split"] = ["test" if name in names else "train" for name in given.obs["condition"]]
    return given


def profiles(names: tuple[str, ...] = ("A+B", "C+D"), depth: float = 1e4) -> ad.AnnData:
    """Return true expected profiles as log1p of counts per 10,000 or of another depth, one row a condition."""
    base = np.log(np.random.default_rng(9).gamma(2.0, 2.0, GENES))
    rate = np.exp(base + np.stack([effects()[name] for name in names]))
    return table(np.log1p(depth * rate / rate.sum(axis=1, keepdims=True)), list(names))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    sided(measured()).write_h5ad(tmp_path / "screen.h5ad")
    profiles().write_h5ad(tmp_path / "said.h5ad")
    (tmp_path / "small.yaml").write_text(YAML)
    return tmp_path


def values(found: Evaluation) -> dict[tuple[str, str], float | None]:
    return {(one.metric, one.predictor): one.value for one in found.results}


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
    assert {one.unit for one in found.results} == {"condition"} and {one.n_units for one in found.results} == {5}
    before = (out / "evaluation.json").read_bytes()
    evaluate_table(written / "small.yaml", out)
    assert (out / "evaluation.json").read_bytes() == before


def test_predictions_of_profiles_are_matched_by_name_at_any_depth(written: Path) -> None:
    said = profiles()[:, ::-1].copy()
    said.write_h5ad(written / "said.h5ad")
    found = evaluate_predictions(written / "said.h5ad", written / "screen.h5ad", written / "out")
    rows = values(found)
    assert rows["pearson_delta_profile", "model"] > 0.9 > rows["pearson_delta_profile", "global_mean"]
    assert (
        rows["pds_cosine", "model"] == 1.0 and rows["energy_distance", "model"] < rows["energy_distance", "no_change"]
    )
    assert found.provenance["conditions"] == {"asked": 2, "train": 8, "predicted but not measured": 0}
    assert read_evaluation(written / "out/evaluation.json") == found


def test_predicted_cells_are_judged_as_cells(written: Path) -> None:
    again = measured(seed=1)
    again[again.obs["condition"].isin(["A+B", "C+D", "control"])].copy().write_h5ad(written / "said.h5ad")
    rows = values(evaluate_predictions(written / "said.h5ad", written / "screen.h5ad", written / "out"))
    assert rows["pearson_delta_profile", "model"] > 0.9 and abs(rows["energy_distance", "model"]) < 0.3
    assert rows["unbiased_mse_ratio", "model"] < 0.1
    assert rows["sig_jaccard", "model"] > 0.4


def test_predictions_all_alike_are_said_aloud(written: Path, caplog: pytest.LogCaptureFixture) -> None:
    alike = profiles(("A+B", "A+B"))
    alike.obs["condition"] = ["A+B", "C+D"]
    alike.write_h5ad(written / "said.h5ad")
    with caplog.at_level("WARNING", logger="aivc_graph"):
        found = evaluate_predictions(written / "said.h5ad", written / "screen.h5ad", written / "out")
    assert found.provenance["collapsed"] == ["predictions"] and "all alike" in caplog.text


def test_without_a_split_what_is_predicted_is_tested(written: Path) -> None:
    measured().write_h5ad(written / "screen.h5ad")
    found = evaluate_predictions(written / "said.h5ad", written / "screen.h5ad", written / "out")
    assert found.provenance["split"] == "what is predicted is tested, all else trains"
    assert found.provenance["conditions"]["train"] == 8


def refused(written: Path, said: ad.AnnData | None = None, true: ad.AnnData | None = None, **given: Any) -> str:
    for name, one in (("said", said), ("screen", true)):
        if one is not None:
            one.write_h5ad(written / f"{name}.h5ad")
    with pytest.raises(ReadError) as raised:
        evaluate_predictions(written / "said.h5ad", written / "screen.h5ad", written / "out", **given)
    assert not (written / "out/evaluation.json").exists()
    return str(raised.value)


def test_what_cannot_be_matched_is_refused(written: Path) -> None:
    other = profiles()
    other.var_names = [f"ENSG{i}" for i in range(GENES)]
    assert "0 of the 40 measured genes, such as 'G0'" in refused(written, said=other)
    assert "no prediction of 1 tested conditions, such as 'C+D'" in refused(written, said=profiles(("A+B",)))
    assert "did you mean 'condition'" in refused(written, said=profiles(), condition="conditions")
    large = profiles()
    large.X = large.X * 100.0
    assert "expected profiles up to 20" in refused(written, said=large)
    torn = sided(measured())
    torn.obs.iloc[-1, 1] = "test"
    assert "'D+E' has cells that train and cells that test" in refused(written, said=profiles(), true=torn)
    none = sided(measured())
    none.X = none.X * 0
    assert "expected measured expression, found no count above zero" in refused(written, said=profiles(), true=none)
    for name, made in (("predictions", profiles()), ("measured", sided(measured()))):
        made.layers["log"], made.X = made.X.copy(), None
        other = {"said": made} if name == "predictions" else {"said": profiles(), "true": made}
        message = refused(written, **{"true": sided(measured()), **other})
        assert f"· {name}: expected values in X, found no X (layers: log)" in message
    second = sided(measured())
    second.obs.loc[second.obs["condition"] == "E", "condition"] = "non-targeting"
    told = "found 'non-targeting' beside 'control', in which nothing was done either; give all controls one name"
    assert told in refused(written, said=profiles(), true=second)
    mine = sided(measured(), NAMES[1:])
    everything = refused(written, said=profiles(NAMES[1:]), true=mine)
    assert "no condition to train on" in everything


def test_what_is_measured_as_logarithm_needs_predictions_of_the_kind(written: Path) -> None:
    true = sided(measured())
    true.X = sparse.csr_matrix(np.log1p(true.X.toarray()))
    again = measured(seed=1)
    message = refused(written, said=again[again.obs["condition"].isin(["A+B", "C+D"])].copy(), true=true)
    assert "expected log-normalised values, as measured, found counts" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (YAML.replace("unseen_pair", "unseen_pairs"), "small.yaml:7: screen.questions[0].ask"),
        ("task: {name: a}\n", "train it, and evaluate its run folder"),
        (YAML.replace("condition: condition", "conditon: x"), "did you mean 'condition'"),
        (YAML + "    - {ask: unseen_pair, within: [all]}\n", "unseen_pair is asked twice; ask it once"),
        (YAML + "evaluation: {weights: {scale: 1e308, context: 1e308}}\n", "the sum of all weights is infinite"),
        (YAML + "pairing: {name: a, given: ./a, asked: ./b, donor: d, test: [x]}\n", "keep one of the two"),
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


def test_a_pairing_tells_one_modality_from_the_other(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    state = rng.normal(size=(160, 3))
    donor = np.repeat(["d1", "d2"], 80).tolist()
    for name, k in (("rna", 30), ("protein", 8)):
        x = state @ np.random.default_rng(k).normal(size=(3, k)) + 0.1 * rng.normal(size=(160, k))
        made = ad.AnnData(x, obs=pd.DataFrame({"donor": donor}, index=[f"c{i}" for i in range(160)]))
        made.write_h5ad(tmp_path / f"{name}.h5ad")
    text = "pairing: {name: p, given: ./rna.h5ad, asked: ./protein.h5ad, donor: donor, test: [d2]}\n"
    (tmp_path / "p.yaml").write_text(text)
    found = evaluate_table(tmp_path / "p.yaml", tmp_path / "out")
    rows = values(found)
    assert {predictor for _, predictor in rows} == {
        "model",
        "global_mean",
        "ridge",
        "kernel_ridge_of_features",
        "knn_of_features",
    }
    assert rows["pearson_by_gene", "ridge"] > 0.9 and rows["foscttm", "ridge"] < 0.05
    assert rows["rmse", "ridge"] < 0.3 * rows["rmse", "global_mean"]
    # Nothing is to be found beyond ridge here; that eighty cells choose the weights costs a little.
    assert rows["rmse", "model"] < 1.03 * rows["rmse", "ridge"]
    assert {one.a for one in found.comparisons} <= {"model"}
    (tmp_path / "p.yaml").write_text(text.replace("[d2]", "[d3]"))
    with pytest.raises(ConfigError, match="no donor named 'd3'"):
        evaluate_table(tmp_path / "p.yaml", tmp_path / "out")


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


def sets(folder: Path) -> Path:
    """Write four sets of ten genes each."""
    lines = [f"set{k}\t\t" + "\t".join(f"G{10 * k + i}" for i in range(10)) for k in range(4)]
    (folder / "sets.gmt").write_text("\n".join(lines))
    return folder / "sets.gmt"


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


def test_predictions_are_read_as_pathways_by_weights_given(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--predictions", str(written / "said.h5ad"), "--measured", str(written / "screen.h5ad")]
    out = ["--out", str(written / "out")]
    assert cli.main(["evaluate", *given, *out, "--weights", str(sets(written))]) == 0
    assert "pathways" in capsys.readouterr().out
    found = read_evaluation(written / "out/evaluation.json")
    assert any(one.readout == "pathways" for one in found.results)
    (written / "other.gmt").write_text("A\t\t" + "\t".join(f"g{i}" for i in range(9)))
    assert cli.main(["evaluate", *given, *out, "--weights", str(written / "other.gmt")]) == 2
    assert "same species" in capsys.readouterr().err


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


def planted(made: ad.AnnData, of: str = "A+B", into: str = "E") -> ad.AnnData:
    """Return a screen in which cells of an asked condition stand under the name of one that trains."""
    x, name = made.X.toarray(), made.obs["condition"].to_numpy()
    x[name == into] = x[name == of]
    made.X = sparse.csr_matrix(x)
    return made


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
    assert "What is scored here was partly seen in training:" in page and told in page


def test_predictions_of_what_trains_under_another_name_are_refused(written: Path) -> None:
    leaking = sided(planted(measured()))
    assert "A+B holds the same cells (24) as E, which trains" in refused(written, true=leaking)
    files = [str(written / name) for name in ("said.h5ad", "screen.h5ad")]
    asked = ["evaluate", "--predictions", files[0], "--measured", files[1], "--out", str(written / "let")]
    assert cli.main([*asked, "--share-content", "--quiet"]) == 0
    assert "What is scored here was partly seen" in (written / "let/report.html").read_text()
    twice = sided(measured(), ("A+B", "C+D"))
    twice.obs.loc[twice.obs["condition"] == "D+E", "condition"] = "B+A"
    assert "A+B is asked, and trains as B+A" in refused(written, true=twice)


def test_predictions_that_are_the_measured_cells_are_refused(written: Path) -> None:
    both = [one[one.obs["condition"] == name] for one, name in ((measured(), "A+B"), (measured(seed=1), "C+D"))]
    copied = table(np.concatenate([one.X.toarray() for one in both]), np.repeat(["A+B", "C+D"], CELLS).tolist())
    message = refused(written, said=copied)
    assert "the prediction of A+B holds measured cells of it (24)" in message and "of C+D" not in message


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
    assert found.calibration[0]["reason"] == "insufficient groups: 5 of 9 conditions"
    write_scored_table(written / "out")
    page = (written / "out/report.html").read_text()
    for said in ("Card of these scores", digest, "Batches are not named", "unseen pair 2 seen: share of all likeness"):
        assert said in page, said
    assert "insufficient groups: 5 of 9 conditions" in page
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


def test_cells_of_one_donor_under_the_name_of_another_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rna, protein = rng.poisson(4.0, (80, 30)).astype(float), rng.normal(size=(80, 12))
    rna[60:] = rna[:20]
    obs = pd.DataFrame({"donor": np.repeat(["d1", "d2"], 40)}, index=[f"c{i}" for i in range(80)])
    for name, x in (("rna", rna), ("protein", protein)):
        ad.AnnData(x, obs=obs).write_h5ad(tmp_path / f"{name}.h5ad")
    text = "pairing: {name: p, given: ./rna.h5ad, asked: ./protein.h5ad, donor: donor, test: [d2]}\n"
    (tmp_path / "p.yaml").write_text(text)
    told = r"d2 holds the same cells \(20\) as d1, which trains \(rna.h5ad\)"
    with pytest.raises(ReadError, match=told):
        evaluate_table(tmp_path / "p.yaml", tmp_path / "out")
    found = evaluate_table(tmp_path / "p.yaml", tmp_path / "out", ["pairing.share_content=true"])
    assert len(found.leakage["accepted"]) == 1 and found.leakage["by_split"] == {"test": 0.5}
    assert found.leakage["optimism"]["cell"]["profile"]["gap"] is not None
    assert found.card["data"]["donors"] == {"train": ["d1"], "test": ["d2"]}
    write_scored_table(tmp_path / "out")
    assert "Card of these scores" in (tmp_path / "out/report.html").read_text()
    other = ad.AnnData(protein, obs=obs.assign(donor="d3"))
    other.write_h5ad(tmp_path / "protein.h5ad")
    with pytest.raises(ReadError, match="80 cells of another donor than in rna"):
        evaluate_table(tmp_path / "p.yaml", tmp_path / "out")


@pytest.mark.parametrize("spoilt", ["rna", "protein"])
def test_a_pairing_needs_finite_values_of_two_modalities(tmp_path: Path, spoilt: str) -> None:
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"donor": ["d1", "d2"] * 10}, index=[f"c{i}" for i in range(20)])
    for name in ("rna", "protein"):
        made = ad.AnnData(rng.normal(size=(20, 3)), obs=obs)
        made.X[4, 2] = np.nan if name == spoilt else 1.0
        made.write_h5ad(tmp_path / f"{name}.h5ad")
    text = "pairing: {name: p, given: ./rna.h5ad, asked: ./protein.h5ad, donor: donor, test: [d2]}\n"
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(
        ReadError, match=rf"{spoilt}.h5ad: expected finite values, found 1 that .* such as 2 of cell c4"
    ):
        evaluate_table(tmp_path / "p.yaml", tmp_path / "out")
    (tmp_path / "p.yaml").write_text(text.replace("protein", "rna"))
    with pytest.raises(ConfigError, match=r"found the same content as in `given`, .*rna\.h5ad"):
        evaluate_table(tmp_path / "p.yaml", tmp_path / "out")


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


def logged() -> ad.AnnData:
    """Return the screen as log1p of counts per 80: low values, as of a panel, that also undone are below twenty."""
    true = sided(measured())
    x = true.X.toarray()
    true.X = sparse.csr_matrix(np.log1p(80 * x / x.sum(axis=1, keepdims=True)))
    return true


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x, base: x - base, "these look like effects"),
        (lambda x, _: np.expm1(x), "times the control"),
        (lambda x, _: 3 * x, "times the control"),
    ],
)
def test_values_of_another_scale_than_measured_are_refused(written: Path, change: Any, said: str) -> None:
    true, other = logged(), profiles(depth=80)
    base = np.asarray(true[true.obs["condition"] == "control"].X.mean(axis=0))
    other.X = sparse.csr_matrix(change(other.X.toarray(), base))
    assert said in refused(written, said=other, true=true)


def test_effects_are_refused_beside_counts_but_profiles_a_little_below_zero_pass(written: Path) -> None:
    effect, below = profiles(), profiles(depth=80)
    effect.X = sparse.csr_matrix(effect.X.toarray() - effect.X.toarray().mean(axis=0))
    assert "these look like effects" in refused(written, said=effect)
    below.X = sparse.csr_matrix(below.X.toarray() - 0.05)
    logged().write_h5ad(written / "screen.h5ad")
    below.write_h5ad(written / "said.h5ad")
    evaluate_predictions(written / "said.h5ad", written / "screen.h5ad", written / "out")


def test_what_is_not_finite_is_named_by_gene_and_row(written: Path) -> None:
    torn = profiles()
    x = torn.X.toarray()
    x[1, 3] = np.nan
    torn.X = sparse.csr_matrix(x)
    assert "nan for gene 'G3' of 'C+D'" in refused(written, said=torn)


def test_predictions_that_are_the_measured_mean_or_cells_scaled_are_refused(written: Path) -> None:
    true = logged()
    own = [true[true.obs["condition"] == name].X.toarray() for name in ("A+B", "C+D")]
    mean = table(np.stack([x.mean(axis=0) for x in own]), ["A+B", "C+D"])
    assert "the prediction of A+B is the measured profile itself" in refused(written, said=mean, true=true)
    scaled = table(1.0001 * np.concatenate(own), np.repeat(["A+B", "C+D"], CELLS).tolist())
    assert "the prediction of C+D holds measured cells of it (24)" in refused(written, said=scaled, true=true)


def test_few_controls_are_warned_of_and_one_is_refused(written: Path, caplog: pytest.LogCaptureFixture) -> None:
    true = sided(measured())
    kept = [np.r_[:n, CELLS : true.n_obs] for n in (1, 9)]
    assert "found 1 control cell (control in context all)" in refused(written, true=true[kept[0]].copy())
    true[kept[1]].copy().write_h5ad(written / "screen.h5ad")
    with caplog.at_level("WARNING", logger="aivc_graph"):
        evaluate_predictions(written / "said.h5ad", written / "screen.h5ad", written / "out")
    assert "9 control cells (control in context all)" in caplog.text
    caplog.clear()
    with caplog.at_level("WARNING", logger="aivc_graph"):
        evaluate_table(written / "small.yaml", written / "out")
    assert "9 control cells (control in context all)" in caplog.text


def test_names_and_labels_that_do_not_match_are_told(written: Path) -> None:
    true = sided(measured())
    true.obs["split"] = true.obs["split"].str.upper()
    assert "expected 'train' and 'test', found the labels 'TEST', 'TRAIN'" in refused(written, true=true)
    wrong = profiles()
    wrong.obs["condition"] = ["A+B", "C+DD"]
    told = refused(written, said=wrong, true=sided(measured()))
    assert "predicted but not measured: 'C+DD' (did you mean 'C+D'?)" in told
    wrong.obs["condition"] = ["B+A", "C+D"]
    wrong.write_h5ad(written / "said.h5ad")
    found = evaluate_predictions(written / "said.h5ad", written / "screen.h5ad", written / "out")
    assert found.provenance["conditions"] == {"asked": 2, "train": 8, "predicted but not measured": 0}


def test_what_is_no_file_of_the_kind_is_called_so(written: Path) -> None:
    (written / "said.h5ad").write_bytes(b"")
    assert "said.h5ad: not an HDF5 file" in refused(written)
    (written / "said.h5ad").unlink()
    (written / "said.h5ad").mkdir()
    assert "found a folder; name the file inside it" in refused(written)
