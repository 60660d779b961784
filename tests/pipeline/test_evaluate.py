"""A run is scored on donors it never saw, beside baselines; what cannot be asked, read or written is named."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from aivc_graph import cli
from aivc_graph.config import Config, load_config
from aivc_graph.errors import QueryError, ReadError
from aivc_graph.evaluation.metrics.metric import METRICS
from aivc_graph.evaluation.records import Evaluation, read_evaluation
from aivc_graph.evaluation.scoring import score
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.model.settings import ModelConfig
from aivc_graph.pipeline.evaluate import evaluate, score_table
from aivc_graph.pipeline.tasks.niches import niches
from aivc_graph.pipeline.tasks.registration import to_block
from aivc_graph.pipeline.tasks.response import response
from aivc_graph.pipeline.tasks.task import Asked
from aivc_graph.pipeline.train import train, train_config
from aivc_graph.pipeline.truth import Truth
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.simulate.simulate import simulate
from aivc_graph.training.settings import TrainingConfig

CONFIG = Config(
    model=ModelConfig(latent=4, rings=(6, 12)), training=TrainingConfig(epochs=2, window_nodes=400, device="cpu")
)
GRAPH = GraphConfig(edges={"cell": {"kind": "knn", "k": 12}, "patch": {"kind": "knn", "k": 6}})
TURN = np.array([[0.0, -1.0, 260.0], [1.0, 0.0, 20.0], [0.0, 0.0, 1.0]])


def sections_of(striped_section: Callable[..., Any], splits: tuple[str, ...]) -> list[Any]:
    made = []
    for i, split in enumerate(splits):
        made.append(striped_section(f"s{i}", n=400, levels=("cell", "patch"), seed=i, donor=f"d{i}"))
        made[-1].shapes["cell"]["split"] = made[-1].shapes["patch"]["split"] = split
    return made


def write_truth(sections: list[Any], folder: Path) -> Path:
    for section in sections:
        place = folder / section.attrs["aivc"]["section"]
        place.mkdir(parents=True)
        cells, spots = section.shapes["cell"], section.shapes["patch"]
        pd.DataFrame({"cell_id": cells.index, "niche": cells["label"].to_numpy()}).to_parquet(place / "cells.parquet")
        shares = pd.get_dummies(spots["label"]).astype(float).add_prefix("share_").reset_index(drop=True)
        shares.insert(0, "barcode", spots.index.to_numpy())
        shares.to_parquet(place / "spots.parquet", index=False)
    return folder


@pytest.fixture(scope="module")
def made(striped_section: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run of four donors, one of them tested, and the truth of all."""
    folder = tmp_path_factory.mktemp("evaluated")
    sections = sections_of(striped_section, ("train", "train", "validation", "test"))
    write_truth(sections, folder / "truth")
    train(build_graph(sections, GRAPH), CONFIG, folder / "run")
    return folder


@pytest.fixture(scope="module")
def found(made: Path) -> Evaluation:
    return evaluate(made / "run", made / "truth")


def test_every_task_stands_beside_its_baselines(made: Path, found: Evaluation) -> None:
    assert read_evaluation(made / "run/evaluation.json") == found
    tasks = {(r.task, r.readout) for r in found.results}
    assert {task for task, _ in tasks} == {
        "cell_to_type",
        "context_distribution",
        "context_to_expression",
        "context_to_type",
        "image_to_composition",
        "image_to_expression",
        "image_to_niche",
        "niches",
        "spot_to_composition",
    }
    assert ("spot_to_composition", "composition, true shares") in tasks
    for task in ("context_to_expression", "image_to_expression"):
        assert {readout for of, readout in tasks if of == task} == {"genes", "neighbourhood", "niche composition"}
    assert {r.split for r in found.results} == {"test"} and {r.leakage for r in found.results} == {0.0}
    jsd = [r for r in found.results if (r.task, r.metric) == ("spot_to_composition", "jsd")]
    assert jsd and all(r.lower is not None and r.lower <= r.value <= r.upper for r in jsd)
    assert found.risk["intervention"] == "not evaluated" and found.risk["scale"]["tasks"]
    table = score_table(found)
    assert len(table) == sum(c.against == "baseline" for c in found.comparisons) and table["difference"].notna().all()
    np.testing.assert_allclose(table["model"] - table["baseline"], table["difference"], rtol=1e-3, atol=1e-5)


def test_each_question_is_asked_without_a_part_too(found: Evaluation) -> None:
    without = [c for c in found.comparisons if c.against == "ablation"]
    asked = {task: {c.b for c in without if c.task == task} for task in {c.task for c in without}}
    off, whole = {"messages_off", "rewired_graph"}, {"messages_off", "rewired_graph", "features_only"}
    # Cells have no features; where counts are hidden everywhere, features are all there is anyway.
    assert {task: names - {"closed_form_only"} for task, names in asked.items()} == {
        "cell_to_type": whole,
        "context_to_expression": whole,
        "context_to_type": whole,
        "image_to_composition": off,
        "image_to_expression": off,
        "niches": off,
        "spot_to_composition": whole,
    }
    gain = {(c.task, c.b): c.lower for c in without}
    assert all((gain["context_to_expression", name] or 0) > 0 for name in off)
    assert set(found.provenance["ablations"]) == whole | {"closed_form_only"}


def test_scores_come_to_a_risk_between_floor_and_ceiling(found: Evaluation) -> None:
    risk = found.risk
    assert set(risk["weights"]) == {"modality", "scale", "context"}
    assert sum(risk["weights"].values()) == pytest.approx(1, abs=1e-5)
    assert risk["total"]["lower"] < risk["total"]["value"] <= risk["worst_axis"]["value"]
    # Clear stripes: better than the mean rule, but for niches, where cells tell of theirs without their neighbours.
    assert risk["modality"]["value"] < 1.0 and risk["context"]["value"] < 1.0
    halves = {r.metric: r.value for r in found.results if r.predictor == "split_half" and "image" in r.task}
    assert 0.5 < halves["pearson_by_gene"] < 1.0 and halves["rmse_log"] > 0
    beneath = [s for s in risk["scale"]["scores"] if s["readout"] == "composition, cells beneath"]
    assert beneath and all(s["risk"] is None and "typed once" in s["reason"] for s in beneath)


def test_what_was_not_evaluated_and_what_is_assumed_is_on_the_card(found: Evaluation) -> None:
    card = found.card
    assert card["not_evaluated"]["axes"] == ["intervention"]
    without = "spot_to_hidden_molecules"  # no reference there
    missing = {"cell_to_modality", "conditions", "endpoint", "pathways", "registration", "response", without}
    assert set(card["not_evaluated"]["tasks"]) == missing
    assert card["split"]["donors_scored"] == ["d3"] and card["data"]["donors"] == 4
    said = {one["about"]: one["says"] for one in card["assumptions"]}
    assert "association" in said["identifiability"] and "do not vary" in said["confounding"]


def test_units_and_calibration_stand_beside_the_scores(found: Evaluation) -> None:
    one = next(u for u in found.units if (u.task, u.metric) == ("context_to_expression", "rmse_log"))
    assert one.unit == "block" and len(one.names) == len(set(one.names)) >= 5
    assert "split_half" not in one.values and all(value is not None for value in one.values["model"])
    (calibration,) = found.calibration
    assert calibration["reason"] == "insufficient groups: 1 of 9 donors"
    assert calibration["conformal"] is None and 0.7 < calibration["stated"]["coverage"] <= 1.0
    assert list(calibration["coverage"]) == ["50%", "80%", "90%", "95%"]
    assert calibration["withheld"]["best"] <= calibration["withheld"]["area"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda d: d | {"results": [r for r in d["results"] if r["kind"] != "baseline"]}, "no baseline beside"),
        (lambda d: d | {"results": [r | {"split": "other"} for r in d["results"]]}, "no figure for the split 'other'"),
        (
            lambda d: d | {"results": [{k: v for k, v in r.items() if k != "split"} for r in d["results"]]},
            "Field required",
        ),
        (lambda d: d | {"leakage": {}}, "no figure for the split 'test'"),
    ],
)
def test_scores_of_tissue_without_baselines_split_or_leakage_are_refused(
    found: Evaluation, spoil: Callable[[dict[str, Any]], dict[str, Any]], said: str
) -> None:
    whole = found.model_dump(mode="json")
    assert Evaluation.model_validate(whole) == found
    with pytest.raises(ValidationError, match=said):
        Evaluation.model_validate(spoil(whole))


def test_clear_structure_is_recovered(found: Evaluation) -> None:
    best = {(r.task, r.metric): r.value for r in found.results if r.predictor == "model"}
    assert best["niches", "ari"] > 0.7 and best["spot_to_composition", "jsd"] < 0.2
    assert best["spot_to_composition", "rmse_shares"] < 0.15 and best["image_to_expression", "rmse_log"] < 1.0


def test_same_run_same_bytes(made: Path, found: Evaluation, tmp_path: Path) -> None:
    evaluate(made / "run", made / "truth", tmp_path)
    assert (tmp_path / "evaluation.json").read_bytes() == (made / "run/evaluation.json").read_bytes()


def test_changing_what_is_asked_changes_no_answer(
    made: Path, found: Evaluation, striped_section: Callable[..., Any], tmp_path: Path
) -> None:
    """The tested section's own counts are taken away before the model is asked, down to its mean profile."""
    from aivc_graph.graph.hiding import hide_observations
    from aivc_graph.query.predictions import expected_log_expression

    model, answers = VirtualTissue.load(made / "run").model, []
    for factor in (1, 5):
        sections = sections_of(striped_section, ("train", "train", "validation", "test"))
        for level in ("cell_rna", "patch_rna"):
            sections[3].tables[level].X = (sections[3].tables[level].X * factor)[:, ::-1]
        graph = build_graph(sections, GRAPH)
        test = {level: graph.in_split(level, "test").numpy() for level in ("cell", "patch")}
        left = hide_observations(graph, {(level, "rna"): rows for level, rows in test.items()})
        answers.append(expected_log_expression(model, left, "patch", test["patch"]))
    np.testing.assert_array_equal(*answers)


def test_without_truth_and_held_out_nodes_leakage_is_said(striped_section: Callable[..., Any], tmp_path: Path) -> None:
    run = train(build_graph(sections_of(striped_section, ("train",)), GRAPH), CONFIG, tmp_path / "run").folder
    found = evaluate(run)
    assert {r.split for r in found.results} == {"hidden"} and {r.leakage for r in found.results} == {1.0}
    assert {r.task for r in found.results} == {
        "context_distribution",
        "context_to_expression",
        "context_to_type",
        "spot_to_composition",
    }
    assert {r.unit for r in found.results} == {"block"} and found.provenance["truth"] is False


def test_the_command_writes_prints_and_refuses(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = str(made / "run"), str(tmp_path / "scores")
    assert cli.main(["evaluate", run, "--truth", str(made / "truth"), "--out", out, "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 120
    assert (
        "spot_to_composition · composition, cells beneath · test · " in shown
        and (tmp_path / "scores/evaluation.json").is_file()
    )
    before = (tmp_path / "scores/evaluation.json").read_bytes()
    for given, said in (
        ([run, "--truth", str(tmp_path / "absent")], "no such folder"),
        ([run, "--truth", str(made / "run")], "no <section>/cells.parquet"),
        ([str(tmp_path)], "no run.json"),
    ):
        assert cli.main(["evaluate", *given, "--out", out]) == 2
        assert said in capsys.readouterr().err
    assert (tmp_path / "scores/evaluation.json").read_bytes() == before


def test_the_truth_of_another_study_is_refused(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = Path(shutil.copytree(made / "truth", tmp_path / "truth"))
    cells = pd.read_parquet(truth / "s3/cells.parquet")
    cells.assign(cell_id="other" + cells["cell_id"]).to_parquet(truth / "s3/cells.parquet")
    assert cli.main(["evaluate", str(made / "run"), "--truth", str(truth), "--out", str(tmp_path)]) == 2
    assert "s3/cells.parquet: expected ≥ 95%, found 0% of the graph's 400 barcodes" in capsys.readouterr().err
    assert not (tmp_path / "evaluation.json").exists()


def test_damaged_truth_is_named(made: Path, tmp_path: Path) -> None:
    truth = Path(shutil.copytree(made / "truth", tmp_path / "truth"))
    (truth / "s3/cells.parquet").write_bytes(b"torn")
    with pytest.raises(ReadError, match=r"cells\.parquet: a table that cannot be read"):
        evaluate(made / "run", truth, tmp_path)
    pd.DataFrame({"name": ["a"]}).to_parquet(truth / "s3/cells.parquet")
    with pytest.raises(ReadError, match="expected a column 'cell_id'"):
        evaluate(made / "run", truth, tmp_path)
    assert not (tmp_path / "evaluation.json").exists()


def test_a_run_that_can_be_asked_nothing_says_why(striped_section: Callable[..., Any], tmp_path: Path) -> None:
    section = striped_section("s0", n=400, levels=("patch",))
    del section.tables["patch_rna"]
    del section.shapes["patch"]["label"]
    run = train(build_graph([section], GRAPH), CONFIG, tmp_path / "run").folder
    with pytest.raises(
        QueryError, match=r"nothing it could be asked; what the tasks need: cell_to_modality: .*; context_d"
    ):
        evaluate(run)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run folder of a tiny simulated study, its truth beside its sections."""
    folder = tmp_path_factory.mktemp("study")
    tissue = simulate("tiny", folder / "tissue")
    settings = ["task.features=null", "model.latent=8", "training.epochs=1", "training.device=cpu"]
    config = load_config(tissue / "config.yaml", settings)
    return train_config(config, None, folder / "run", resume=False, device="cpu").folder


def test_effects_are_scored_against_what_truly_would_have_been(study: Path, tmp_path: Path) -> None:
    found = evaluate(study, out=tmp_path)
    assert found.provenance["truth"] is True and {r.split for r in found.results} == {"test"}
    effects = [r for r in found.results if r.task == "response"]
    terms = {"effect, cells", "effect, regions", "effect, profile over distance"}
    assert {r.readout for r in effects} == terms | {"called genes, regions", "called genes, niches"}
    without = {"messages_off", "rewired_graph", "closed_form_only"}
    assert {r.predictor for r in effects} == {"model", "no_change", "mean_shift", "truth"} | without
    assert {(r.metric, r.value) for r in effects if r.kind == "ceiling" and r.readout in terms} == {
        ("pearson_delta", 1.0),
        ("effect_sign", 1.0),
        ("rmse_effect", 0.0),
    }
    assert "untreated tissue of the same donor, which 2 donors have" in found.card["assumptions"][0]["says"]
    assert "one donor only" not in str(found.card["assumptions"])
    still = {r.metric: r.value for r in effects if r.predictor == "no_change" and r.readout == "effect, cells"}
    assert still["effect_sign"] == 0.0 and still["pearson_delta"] == -1.0 and still["rmse_effect"] > 0
    assert {r.axis for r in effects} == {"intervention"} and found.risk["intervention"]["tasks"] == ["response"]


def test_answers_equal_to_the_truth_are_perfect(study: Path) -> None:
    asked = Asked(VirtualTissue.load(study), load_config(study / "config.yaml"), Truth(study.parent / "tissue/truth"))
    for scored in response(asked):
        results, _ = score([dataclasses.replace(scored, model=scored.measured)])
        for one in results:
            # Where no gene changes by a tenth, none is called, and nothing is said.
            if one.kind == "model" and (one.value is not None or not scored.readout.startswith("called")):
                assert one.value == pytest.approx(METRICS.facts[one.metric]["best"]), (scored.readout, one.metric)


def test_interventions_that_cannot_be_read_are_named(study: Path, tmp_path: Path) -> None:
    truth = Path(shutil.copytree(study.parent / "tissue/truth", tmp_path / "truth"))
    (truth / "interventions.json").write_text('{"a": [{"kind": "curse", "name": "X"}]}')
    with pytest.raises(ReadError, match=r"interventions\.json: expected name → parts"):
        evaluate(study, truth, tmp_path)


def test_a_turned_neighbour_is_placed(striped_section: Callable[..., Any], tmp_path: Path) -> None:
    sections = sections_of(striped_section, ("train", "train"))
    sections[1] = sections_of(striped_section, ("train",))[0]
    sections[1].attrs["aivc"]["section"] = "s1"
    from aivc_graph.tissue.frame import place

    for level in ("cell", "patch"):
        place(sections[1], level, np.linalg.inv(TURN))
    truth = write_truth(sections, tmp_path / "truth")
    warp = {"amplitude_um": [[3.0, 0.0]], "direction": [[0.0, 1.0]], "length_um": [400.0], "phase": [0.5]}
    for name, matrix in (("s0", np.eye(3)), ("s1", TURN)):
        frame = {"block": "b", "cells": matrix.tolist(), "warp": warp}
        (truth / name / "transforms.json").write_text(json.dumps(frame))
    run = train(build_graph(sections, GRAPH), CONFIG, tmp_path / "run").folder
    found = {r.predictor: r.value for r in evaluate(run, truth).results if r.task == "registration"}
    assert found["model"] < 15 < found["identity"]
    np.testing.assert_allclose(
        to_block(np.array([[0.0, 100.0]]), {"cells": np.eye(3), "warp": warp}), [[3 * np.sin(np.pi / 2 + 0.5), 100.0]]
    )


def test_named_regions_are_an_annotation_and_no_truth(striped_section: Callable[..., Any], tmp_path: Path) -> None:
    sections = [striped_section(f"s{i}", n=800, levels=("patch",), seed=i, donor=f"d{i}") for i in range(2)]
    labels = sections[1].shapes["patch"]["label"].astype(object).copy()
    labels.iloc[:10], labels.iloc[10:20] = "Undetermined", None
    sections[1].shapes["patch"]["label"] = labels
    for section in sections:
        section.shapes["patch"]["split"] = "train"
    run = train(build_graph(sections, GRAPH), CONFIG, tmp_path / "run").folder
    (scored,) = niches(Asked(VirtualTissue.load(run), load_config(run / "config.yaml")))
    assert (scored.modality, scored.readout, scored.ceilings) == ("rna → annotation", "annotated region", {})
    assert len(scored.measured) == 200 - 20 and len(np.unique(scored.measured)) == 3
    results = {r.predictor: r.value for r in score([scored])[0]}
    assert set(results) == {"model", "own_mixture", "neighbour_mean_mixture"}
    assert results["model"] > results["neighbour_mean_mixture"] > 0.5
    for column, said in ((None, None), ("regio", "no column of patch named 'regio'")):
        config = load_config(run / "config.yaml", [f"evaluation.annotation={column or 'null'}"])
        if said is None:
            assert niches(Asked(VirtualTissue.load(run), config)) == []
        else:
            with pytest.raises(QueryError, match=said):
                niches(Asked(VirtualTissue.load(run), config))


def test_pathways_are_scored_where_weights_are_named(made: Path, tmp_path: Path) -> None:
    sets = [f"S{k}\t\t" + "\t".join(f"G{10 * k + i}" for i in range(10)) for k in range(3)]
    (tmp_path / "sets.gmt").write_text("\n".join(sets))
    found = evaluate(made / "run", made / "truth", tmp_path, tmp_path / "sets.gmt")
    digest = hashlib.sha256((tmp_path / "sets.gmt").read_bytes()).hexdigest()
    assert found.provenance["pathways"] == {"sets.gmt": digest}
    value = {(r.task, r.metric, r.predictor): r.value for r in found.results if r.readout == "pathways"}
    assert {task for task, *_ in value} == {"context_to_expression", "image_to_expression"}
    # A stripe is a set of genes: its activity is told better than any gene of it.
    genes = {(r.task, r.metric, r.predictor): r.value for r in found.results if r.readout == "genes"}
    for task in ("context_to_expression", "image_to_expression"):
        assert value[task, "pearson_by_pathway", "model"] > genes[task, "pearson_by_gene", "model"] > 0.1
        assert value[task, "pearson_by_pathway", "split_half"] > value[task, "pearson_by_pathway", "global_mean"]
    assert any(row["readout"][0] == "pathways" for row in found.inversions)
    (tmp_path / "mouse.gmt").write_text("S\t\t" + "\t".join(f"g{i}" for i in range(10)))
    with pytest.raises(QueryError, match="same species"):
        evaluate(made / "run", made / "truth", tmp_path, tmp_path / "mouse.gmt")
