"""Tissue of types alone by the verbs: built, trained, asked, scored and shown without a single count."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from aivc_graph.config import load_config
from aivc_graph.errors import QueryError
from aivc_graph.evaluation.records import read_evaluation
from aivc_graph.graph.store import read_store
from aivc_graph.pipeline.build import build
from aivc_graph.pipeline.tasks.task import Asked
from aivc_graph.pipeline.tasks.types import context_to_type
from aivc_graph.pipeline.train import train
from aivc_graph.query.virtual_tissue import VirtualTissue

Say = Callable[..., tuple[int, str, str]]
TYPES = ("acinar", "alpha", "beta", "ductal")
CELLS, DONORS = 240, 6


def write_cells(folder: Path) -> Path:
    """Write one table of six donors: islets of alpha and beta cells, the latter gone in the later stage, in tissue."""
    rng, tables = np.random.default_rng(0), []
    for d in range(DONORS):
        pos = np.round(rng.random((CELLS, 2)) * 190, 2)
        islet = ((pos - 95) ** 2).sum(axis=1) < 55**2
        late = d % 2
        inside = np.where(rng.random(CELLS) < (0.05 if late else 0.6), "beta", "alpha")
        outside = np.where(rng.random(CELLS) < 0.3, "ductal", "acinar")
        facts = {"image": f"i{d}", "case": f"d{d}", "stage": "late" if late else "early"}
        kind = np.where(islet, inside, outside)
        tables.append(pd.DataFrame({"x": pos[:, 0], "y": pos[:, 1], "cellType": kind} | facts))
    pd.concat(tables).to_csv(folder / "cells.csv", index=False)
    source = {
        "path": "./cells.csv", "reader": "plain_table", "values": "types", "label": "cellType",
        "barcode": ["image", "x", "y"], "level": "cell", "um_per_unit": 1.0, "diameter_um": 10,
    }  # fmt: skip
    entry = {"name": "t", "sections_by": "image", "donor_by": "case", "traits_by": ["stage"], "sources": [source]}
    config = {
        "task": {"name": "t", "sections": [entry], "split": {"kind": "by_group", "key": "donor", "test": ["d4", "d5"]}},
        "evaluation": {"endpoint": "stage"},
        "graph": {"edges": {"cell": {"kind": "knn", "k": 8}, "patch": {"kind": "knn", "k": 4}}},
        "model": {"rings": [4, 8]},
        "training": {"epochs": 2},
    }
    (folder / "types.yaml").write_text(yaml.safe_dump(config))
    return folder / "types.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run folder of tissue of which types are all that is known."""
    folder = tmp_path_factory.mktemp("types")
    config = load_config(write_cells(folder), [])
    return train(build(config, folder / "graph.zarr"), config, folder / "run").folder


def test_a_source_of_types_needs_its_label(say: Say, tmp_path: Path) -> None:
    config = yaml.safe_load(write_cells(tmp_path).read_text())
    del config["task"]["sections"][0]["sources"][0]["label"]
    (tmp_path / "types.yaml").write_text(yaml.safe_dump(config))
    code, _, told = say("build", str(tmp_path / "types.yaml"), "--out", str(tmp_path / "graph.zarr"))
    assert code == 2 and "`values: types` without a `label:`" in told


def test_nothing_but_types_is_in_the_graph_and_all_of_them(run: Path) -> None:
    tissue = VirtualTissue.load(run)
    assert tissue.graph.modalities("cell") == [] and "gene" not in tissue.graph.node_types
    assert tissue.model.plan.panels == {"cell": {"type": TYPES}} and tissue.model.plan.features == {}
    assert tissue.base_level == "cell"


def test_niches_and_their_marks_are_islets_and_what_is_around(say: Say, run: Path) -> None:
    tissue = VirtualTissue.load(run)
    niches = tissue.niches(k=2).obs
    inside = niches.groupby("niche", observed=True)["label"].apply(lambda kind: kind.isin(["alpha", "beta"]).mean())
    assert inside.max() > 0.75 and inside.min() < 0.25
    marks = tissue.markers(n=1, k=2).set_index("niche")["gene"]
    assert marks[inside.idxmax()] in ("alpha", "beta") and marks[inside.idxmin()] in ("acinar", "ductal")
    code, _, told = say("query", str(run), "markers", "--by", "stage", "--genes", "bta")
    assert code == 2 and "'beta'" in told


def test_the_share_of_a_type_among_some_is_that_of_the_table(run: Path) -> None:
    tissue = VirtualTissue.load(run)
    table = tissue.ask("abundance", by="stage", among="alpha,beta")
    found = table[(table["what"] == "cell type") & (table["name"] == "beta")].iloc[0]
    obs = tissue.graph.obs("cell")
    islet = obs[obs["label"].isin(["alpha", "beta"])]
    share = islet.assign(beta=islet["label"] == "beta").groupby(["stage", "case"], observed=True)["beta"].mean()
    assert found["share"] == pytest.approx(share[found["group"]].mean())
    assert found["share_against"] == pytest.approx(share[found["against"]].mean())
    assert set(table[table["what"] == "cell type"]["name"]) == {"alpha", "beta"}
    with pytest.raises(QueryError, match="abundance --among: no cell type named 'betta'; did you mean 'beta'"):
        tissue.ask("abundance", by="stage", among="betta")


def test_types_are_told_where_they_are_missing(say: Say, run: Path, tmp_path: Path) -> None:
    code, _, told = say("query", str(run), "types", "--out", str(tmp_path / "t.csv"), "--plot", str(tmp_path / "t.png"))
    assert code == 0, told
    table = pd.read_csv(tmp_path / "t.csv")
    assert len(table) == CELLS * DONORS and table["measured"].all() and (table["type"] == table["label"]).all()
    probabilities = table[[f"p_{one}" for one in TYPES]]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-4)
    np.testing.assert_allclose(probabilities.max(axis=1), table["probability"], atol=1e-6)
    assert 0.5 < (table["told"] == table["label"]).mean() < 0.9  # its own label was not looked at
    assert (tmp_path / "t.png").stat().st_size > 0


def test_other_tissue_without_labels_is_answered_and_one_unlike_any_is_no_type(run: Path) -> None:
    tissue = VirtualTissue.load(run)
    other = read_store(run.parent / "graph.zarr")
    label = other.obs("cell")["label"].astype(object).to_numpy()
    label[::2], label[1] = None, "schwann"
    other["cell"].obs = other.obs("cell").assign(label=label)
    table = tissue.on(other).ask("types")
    assert not table["measured"][::2].any() and not table["measured"].iloc[1] and table["measured"].iloc[3]
    assert set(table["type"]) <= set(TYPES) and table["supported"].all()


def test_types_are_scored_beside_rules_and_held_out_labels_do_not_leak(
    say: Say, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, told = say("evaluate", str(run), "--quiet")
    assert code == 0, told
    found = read_evaluation(run / "evaluation.json")
    scored = {(one.task, one.metric, one.predictor): one.value for one in found.results}
    rules = {"global_mean", "types_of_6_neighbours", "types_of_18_neighbours"}
    assert rules <= {who for task, _, who in scored if task == "context_to_type"}
    loss = {
        who: value for (task, metric, who), value in scored.items() if (task, metric) == ("context_to_type", "log_loss")
    }
    assert loss["model"] < loss["global_mean"]
    assert ("endpoint", "macro_f1", "shares_of_types") in scored and ("endpoint", "macro_f1", "model") in scored
    assert (run / "report.html").stat().st_size > 10_000
    # Labels of hidden cells are gone from what is asked: others in their place change nothing.
    tissue = VirtualTissue.load(run)
    asked = Asked(tissue, load_config(run / "config.yaml", []))
    first = context_to_type(asked)[0].model
    away = asked.scored("cell") & (np.random.default_rng(tissue.seed).random(len(asked.scored("cell"))) < 0.25)
    label = tissue.graph.obs("cell")["label"].astype(object).to_numpy()
    label[away] = np.random.default_rng(1).permutation(label[away])
    tissue.graph["cell"].obs = tissue.graph.obs("cell").assign(label=label)
    again = context_to_type(Asked(VirtualTissue(tissue.graph, tissue.model, tissue.diagnostics), asked.config))[0]
    np.testing.assert_array_equal(first, again.model)
    assert json.loads((run / "evaluation.json").read_text())["results"]
