"""One modality told from another by the four verbs: scored, asked, asked of other tissue, refused where it leaks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml

from aivc_graph.errors import ConfigError
from aivc_graph.evaluation.records import Evaluation, read_evaluation
from aivc_graph.pipeline.evaluate import evaluate
from aivc_graph.query.virtual_tissue import VirtualTissue

Say = Callable[..., tuple[int, str, str]]
RULES = {"global_mean", "ridge", "kernel_ridge_of_features", "knn_of_features"}
FAST = ("--set", "training.epochs=1", "--quiet")


def write_pair(folder: Path, n: int = 80, donors: tuple[str, ...] = ("d1", "d2"), positions: bool = False) -> None:
    """Write RNA and protein of cells of five kinds, `n` a donor, one file a modality."""
    rng = np.random.default_rng(0)
    kind, donor = rng.integers(0, 5, n * len(donors)), np.repeat(donors, n)
    for name, k in (("rna", 60), ("protein", 12)):
        rate = 8.0 * np.random.default_rng(k).gamma(0.7, 1.0, (5, k))[kind] * rng.gamma(8.0, 1 / 8, (len(kind), 1))
        obs = pd.DataFrame({"donor": donor}, index=[f"c{i}" for i in range(len(kind))])
        var = pd.DataFrame(index=[f"{name}{j}" for j in range(k)])
        table = ad.AnnData(rng.poisson(rate).astype(np.float32), obs, var)
        if positions:
            table.obsm["spatial"] = np.random.default_rng(1).uniform(0, 12 * np.sqrt(len(kind)), (len(kind), 2))
        table.write_h5ad(folder / f"{name}.h5ad")


def config(folder: Path, *files: str, positions: bool = False, **split: Any) -> Path:
    """Write a task of the RNA file and of the protein file, as far as named, and return where it lies."""
    sources: list[dict[str, Any]] = [{"path": f"./{one}.h5ad", "dissociated": True} for one in files]
    sources[-1] |= {"modality": files[-1]}
    sections = [{"name": "pair", "sections_by": "donor", "donor_by": "donor", "sources": sources}]
    if positions:
        tables = {one: ad.read_h5ad(folder / f"{one}.h5ad") for one in files}
        for donor in ("d1", "d2"):
            for one, table in tables.items():
                table[table.obs["donor"] == donor].write_h5ad(folder / f"{donor}_{one}.h5ad")
        placed = {"level": "cell", "um_per_unit": 1, "diameter_um": 8}
        sections = [
            {
                "name": one,
                "donor": one,
                "sources": [{"path": f"./{one}_rna.h5ad", **placed, "beside": {"protein": f"{one}_protein.h5ad"}}],
            }
            for one in ("d1", "d2")
        ]
    task = {"name": "pair", "sections": sections, "split": {"kind": "by_group", "test": ["d2"], **split}}
    (folder / f"{'_'.join(files)}.yaml").write_text(yaml.safe_dump({"task": task}))
    return folder / f"{'_'.join(files)}.yaml"


def values(found: Evaluation, readout: str) -> dict[tuple[str, str], float]:
    mine = [one for one in found.results if one.task == "cell_to_modality" and one.readout == readout]
    return {(one.metric, one.predictor): one.value for one in mine if one.value is not None}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run trained on the first of two donors, beside the files of both."""
    from aivc_graph import cli

    folder = tmp_path_factory.mktemp("pair")
    write_pair(folder)
    assert cli.main(["train", str(config(folder, "rna", "protein")), "--out", str(folder / "run"), *FAST]) == 0
    return folder / "run"


def test_both_directions_are_scored_beside_all_rules_and_a_ceiling(run: Path) -> None:
    found = evaluate(run)
    assert {one.readout for one in found.results} == {"protein from rna", "rna from protein"}
    for readout in ("protein from rna", "rna from protein"):
        rows = values(found, readout)
        assert {predictor for _, predictor in rows} >= {"model", "split_half", "closed_form_only"} | RULES
        assert rows["rmse", "model"] < 1.03 * min(rows["rmse", rule] for rule in RULES)
        assert rows["rmse", "model"] < 0.7 * rows["rmse", "global_mean"]
        assert rows["pearson_by_gene", "model"] > 0.5 and rows["foscttm", "model"] < 0.25
    assert {(one.axis, one.unit, one.n_units, one.leakage) for one in found.results} == {("modality", "donor", 1, 0.0)}
    assert {one.against for one in found.comparisons} == {"baseline", "ablation"}


def test_what_was_held_out_is_not_looked_up(run: Path, tmp_path: Path) -> None:
    """Other proteins of the asked donor change what is measured, and not what is told."""
    from aivc_graph.pipeline.tasks import cell_modality
    from aivc_graph.query.predictions import told_by_others

    said = []
    for factor in (1.0, 2.0):
        tissue = VirtualTissue.load(run)
        test = tissue.graph.in_split("cell", "test").numpy()
        counts = tissue.graph["protein", "observed_in", "cell"].adj_t
        rows = np.repeat(np.arange(len(test)), np.diff(counts.crow_indices().numpy()))
        counts.values().numpy()[test[rows]] *= factor
        asked: list[np.ndarray] = []

        def told(*given: Any, asked: list[np.ndarray] = asked) -> Any:
            asked.append(told_by_others(*given))
            return asked[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cell_modality, "told_by_others", told)
            evaluate(run, out=tmp_path, tissue=tissue)
        said.append(asked[0])
    np.testing.assert_array_equal(*said)


def test_a_run_answers_for_cells_of_which_one_modality_was_measured(run: Path, say: Say) -> None:
    own = VirtualTissue.load(run)
    alone = config(run.parent, "rna")
    out = run.parent / "told.h5ad"
    question = ("query", run, "expression", "--at", "cell", "--modality", "protein")
    code, _, err = say(*question, "--on", alone, "--out", out, "--quiet")
    assert (code, err) == (0, "")
    told = ad.read_h5ad(out)
    true = own.expression(at="cell", modality="protein")[told.obs_names, told.var_names]
    assert np.isnan(told.layers["measured"]).all() and told.obs["supported"].all() and told.n_obs == 160
    mean = true.layers["measured"].mean(axis=0)
    error, spread = (np.square(one - true.layers["measured"]).mean() for one in (told.X, mean))
    assert error < 0.5 * spread
    code, _, err = say("query", run, "expression", "--at", "cell", "--modality", "atac")
    assert code == 2 and "no atac was measured at any level of this tissue; protein, rna can be asked" in err
    assert say("export", run, "--to", "h5ad", "--out", run.parent / "out.h5ad", "--quiet")[0] == 0


def test_fewer_than_forty_cells_make_no_model(tmp_path: Path, say: Say) -> None:
    write_pair(tmp_path, n=35)
    assert say("train", config(tmp_path, "rna", "protein"), "--out", tmp_path / "run", *FAST)[0] == 0
    code, out, _ = say("evaluate", tmp_path / "run")
    assert (code, out.strip()) == (0, "cell_to_modality: no model: fewer than 40 cells")
    found = read_evaluation(tmp_path / "run/evaluation.json")
    rows = values(found, "protein from rna")
    assert {predictor for _, predictor in rows} == {"split_half"} | RULES and not found.comparisons
    assert "no model: fewer than 40 cells" in json.dumps(found.card["not_evaluated"])
    assert "no model: fewer than 40 cells" in (tmp_path / "run/report.html").read_text()
    assert say("query", tmp_path / "run", "expression", "--at", "cell", "--modality", "protein")[0] == 0


def test_tissue_with_two_modalities_is_asked_too(tmp_path: Path, say: Say) -> None:
    write_pair(tmp_path, n=150, positions=True)
    path = config(tmp_path, "rna", "protein", positions=True)
    assert say("train", path, "--out", tmp_path / "run", *FAST)[0] == 0
    found = evaluate(tmp_path / "run")
    rows = values(found, "protein from rna")
    assert rows["rmse", "model"] < 1.03 * min(rows["rmse", rule] for rule in RULES)
    assert {one.unit for one in found.results if one.task == "cell_to_modality"} == {"block"}


@pytest.mark.parametrize("modality", ["rna", "protein"])
@pytest.mark.parametrize("change", ["none", "thrice"])
def test_cells_of_one_donor_under_the_name_of_another_are_refused(
    modality: str, change: str, tmp_path: Path, say: Say
) -> None:
    write_pair(tmp_path)
    table = ad.read_h5ad(tmp_path / f"{modality}.h5ad")
    if modality == "protein":  # as many as copies that are not exact are looked for among
        more = np.random.default_rng(0).poisson(5.0, (160, 30)).astype(np.float32)
        var = pd.DataFrame(index=[f"p{i}" for i in range(table.n_vars + 30)])
        table = ad.AnnData(np.hstack([table.X, more]), table.obs, var)
    table.X[140:] = table.X[:20] * (3 if change == "thrice" else 1)
    table.write_h5ad(tmp_path / f"{modality}.h5ad")
    path = config(tmp_path, "rna", "protein")
    code, _, err = say("train", path, "--out", tmp_path / "run", *FAST)
    where = f"d1 · table 'cell_{modality}'"
    assert code == 2 and f"{where}: expected no content on two sides, found the same rows of counts (20) as d2" in err
    path = config(tmp_path, "rna", "protein", share_content=True)
    assert say("train", path, "--out", tmp_path / "run", *FAST)[0] == 0
    found = evaluate(tmp_path / "run")
    assert len(found.leakage["accepted"]) == 1 and "holds the same rows of counts (20)" in found.leakage["accepted"][0]
    if (modality, change) == ("rna", "none"):
        assert found.leakage["by_split"] == {"test": 0.25}


def test_one_file_is_not_two_modalities(tmp_path: Path, say: Say) -> None:
    write_pair(tmp_path)
    (tmp_path / "protein.h5ad").write_bytes((tmp_path / "rna.h5ad").read_bytes())
    code, _, err = say("build", config(tmp_path, "rna", "protein"), "--out", tmp_path / "g.zarr")
    assert code == 2 and "found the same values as d1 · table 'cell_" in err and "name the file of each modality" in err


@pytest.mark.parametrize("verb", ["build", "train", "evaluate"])
def test_a_file_of_former_versions_is_told_how_it_is_written_now(verb: str, tmp_path: Path, say: Say) -> None:
    write_pair(tmp_path)
    former = {"name": "p", "given": "./rna.h5ad", "asked": "./protein.h5ad", "donor": "donor", "test": ["d2"]}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump({"pairing": former}))
    code, _, err = say(verb, tmp_path / "p.yaml")
    assert code == 2 and "p.yaml:1: pairing" in err
    mend = err.split("write it as `")[1].split("`")[0]
    (tmp_path / "new.yaml").write_text(mend)
    assert say("build", tmp_path / "new.yaml", "--out", tmp_path / "g.zarr", "--quiet")[0] == 0


def test_a_donor_that_differs_between_the_files_is_named(tmp_path: Path, say: Say) -> None:
    write_pair(tmp_path)
    table = ad.read_h5ad(tmp_path / "protein.h5ad")
    table.obs["donor"] = "d3"
    table.write_h5ad(tmp_path / "protein.h5ad")
    code, _, err = say("build", config(tmp_path, "rna", "protein"), "--out", tmp_path / "g.zarr")
    assert code == 2 and "d3" in err


def test_nothing_held_out_is_not_asked(tmp_path: Path, say: Say) -> None:
    write_pair(tmp_path, positions=True)
    path = config(tmp_path, "rna", "protein", positions=True)
    told = yaml.safe_load(path.read_text())
    del told["task"]["split"]
    path.write_text(yaml.safe_dump(told))
    assert say("train", path, "--out", tmp_path / "run", *FAST)[0] == 0
    assert "cell_to_modality" not in {one.task for one in evaluate(tmp_path / "run").results}


def test_protein_from_rna_of_another_donor(data_dir: Path, tmp_path: Path, say: Say) -> None:
    path = Path(__file__).resolve().parents[2] / "configs/bmmc.yaml"
    code, _, err = say("train", path, "--out", tmp_path / "run", "--set", "training.epochs=2", "--quiet")
    assert (code, err) == (0, "")
    value = values(evaluate(tmp_path / "run"), "protein from rna")
    assert value["rmse", "global_mean"] == pytest.approx(0.781, abs=1e-3)
    assert value["rmse", "ridge"] == pytest.approx(0.526, abs=5e-3)
    for metric, better in (("rmse", -1), ("foscttm", -1), ("pearson_by_gene", 1)):
        assert all(better * value[metric, "model"] > better * value[metric, rule] for rule in RULES), metric


def test_a_pairing_of_former_versions_is_no_task(tmp_path: Path) -> None:
    from aivc_graph.config import load_config

    (tmp_path / "p.yaml").write_text("pairing: [a]\n")
    with pytest.raises(ConfigError, match="sections_by: COLUMN"):
        load_config(tmp_path / "p.yaml")
