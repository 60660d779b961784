"""Tissue that was imaged and never sequenced goes the whole way: table, graph, model, scores, answers, export, page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from aivc_graph import cli
from aivc_graph.errors import QueryError
from aivc_graph.query.virtual_tissue import VirtualTissue
from tests.imaged import MARKERS, imaged

UNIT = "intensity, in the file's units"
YAML = """
task:
  name: imaged
  split: {{kind: by_group, key: donor, test: [d3], validation: [d2]}}
  sections:
{sections}
graph: {{edges: {{cell: {{kind: knn, k: 12}}}}}}
model: {{latent: 4, rings: [6, 12]}}
training: {{epochs: 2, window_nodes: 500, device: cpu}}
evaluation: {{annotation: label, endpoint: stage}}
"""
SECTION = """
    - name: s{i}
      donor: d{i}
      traits: {{stage: {stage}}}
      sources: [{{path: {folder}/s{i}.csv, um_per_unit: 1.0, label: kind}}]
"""


@pytest.fixture(scope="module")
def run(striped_section: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run folder of four donors, two a stage, of which one is held out."""
    folder = tmp_path_factory.mktemp("imaged")
    for i in range(4):
        section = imaged(striped_section, f"s{i}", n=500, seed=i, brighter=0.4 * i)
        table, cells = section.tables["cell_intensity"], section.shapes["cell"]
        columns = {"CellID": table.obs["barcode"], "X_centroid": cells.geometry.x, "Y_centroid": cells.geometry.y}
        frame = pd.DataFrame({key: np.asarray(values) for key, values in columns.items()}).assign(
            Area=78.5, kind=cells["label"].to_numpy(), **dict(zip(MARKERS, table.X.T, strict=True))
        )
        frame.to_csv(folder / f"s{i}.csv", index=False)
    sections = "\n".join(SECTION.format(i=i, folder=folder, stage="early" if i % 2 else "late") for i in range(4))
    (folder / "aivc.yaml").write_text(YAML.format(sections=sections))
    for verb in (["train", str(folder / "aivc.yaml"), "--out", str(folder / "run")], ["evaluate", str(folder / "run")]):
        assert cli.main([*verb, "--quiet"]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def tissue(run: Path) -> VirtualTissue:
    return VirtualTissue.load(run)


def test_held_out_likelihood_grows_from_the_mean_profile_to_the_closed_form(run: Path) -> None:
    told = json.loads((run / "training.json").read_text())["likelihoods"]
    assert told["closed form"] < 0.9 * told["mean profile"]
    assert told["trained, expression"] < told["closed form"] + 0.02


def test_hidden_cells_niches_and_endpoint_are_scored_beside_their_baselines(run: Path) -> None:
    scores = json.loads((run / "evaluation.json").read_text())["results"]
    value = {(one["task"], one["readout"], one["metric"], one["predictor"]): one["value"] for one in scores}
    of_cells = "context_to_expression", "genes", "pearson_by_gene"
    assert value[*of_cells, "model"] > value[*of_cells, "mean_of_6_neighbours"] + 0.01
    assert value["niches", "annotated region", "ari", "model"] > 0.6
    assert {one["task"] for one in scores} >= {"context_distribution", "niches", "endpoint"}
    told = {"intensity", "intensity → annotation", "intensity → type", "tissue around → type"}
    assert {one["modality"] for one in scores} == told


def test_answers_are_in_the_units_of_the_file(tissue: VirtualTissue) -> None:
    by_niche = tissue.expression(["M0", "M1"], at="niche", k=3)
    assert set(by_niche["unit"]) == {UNIT} and set(by_niche["gene"]) == {"M0", "M1"}
    # Means of arcsinh, back in units: what is expected of measured cells is what was measured of them.
    np.testing.assert_allclose(by_niche["expected"], by_niche["measured"], rtol=0.1)
    assert ((by_niche["lower"] <= by_niche["expected"]) | by_niche["lower"].isna()).all()
    answer = tissue.expression(["M0"], at="cell")
    assert answer.uns["units"]["X"] == f"expected {UNIT}"
    np.testing.assert_allclose(answer.layers["measured"].ravel(), tissue.graph["cell"].intensity[:, 0])
    with pytest.raises(QueryError, match="no measured marker named 'M99'"):
        tissue.expression(["M99"], at="cell")
    with pytest.raises(QueryError, match="no RNA was measured at any level of this tissue"):
        tissue.expression(at="cell", modality="rna")


def test_markers_stand_out_by_their_arcsinh(tissue: VirtualTissue) -> None:
    table = tissue.markers(n=3, by="label")
    assert set(table["unit"]) == {UNIT} and set(table["label"]) == {"stripe 0", "stripe 1", "stripe 2"}
    loading = np.random.default_rng(11).normal(size=(3, len(MARKERS)))
    for stripe in range(3):
        lead = table.loc[table["label"] == f"stripe {stripe}", "gene"].iloc[0]
        apart = loading[stripe] - np.delete(loading, stripe, axis=0).mean(axis=0)
        assert MARKERS.index(lead) in np.argsort(-apart)[:3]
    first = table.iloc[0]
    assert first["log2_ratio"] == pytest.approx(np.log2(first["inside"] / first["outside"]), rel=0.25)


def test_likeness_abundance_and_composition_are_answered(tissue: VirtualTissue) -> None:
    assert len(tissue.similar_to(niche=1, n=5)) == 5
    assert {"late", "early"} & set(tissue.abundance("stage").astype(str).to_numpy().ravel())
    assert tissue.composition().filter(like="stripe").sum(axis=1).to_numpy() == pytest.approx(1.0)


def test_the_graph_is_exported_with_its_intensities_and_the_page_says_no_counts(run: Path, tmp_path: Path) -> None:
    assert cli.main(["export", str(run), "--to", "h5ad", "--out", str(tmp_path / "x"), "--quiet"]) == 0
    table = ad.read_h5ad(tmp_path / "x" / "cell.h5ad")
    assert table.obsm["intensity"].shape == (2000, len(MARKERS)) and list(table.uns["intensity_names"]) == MARKERS
    page = (run / "report.html").read_text()
    assert "Measured intensity, in the file&#39;s units" in page and "counts per 10,000" not in page


def test_other_tissue_is_read_with_the_cofactors_of_the_run(tissue: VirtualTissue) -> None:
    again = tissue.on(tissue.graph)
    same = (again.niches(k=3).obs["niche"].astype(str) == tissue.niches(k=3).obs["niche"].astype(str)).mean()
    assert same > 0.95


def test_responses_of_imaged_tissue_are_refused_for_what_it_is(run: Path, say: Callable[..., Any]) -> None:
    code, _, err = say("query", run, "response", "--intervention", "drug:X")
    assert code == 2 and "found a run of intensity; responses are of counts alone" in err


def test_expression_is_told_where_markers_were_measured(run: Path, say: Callable[..., Any], tmp_path: Path) -> None:
    code, _, err = say("query", run, "expression", "--genes", MARKERS[0], "--out", tmp_path / "e.csv")
    assert code == 0, err
    assert len(pd.read_csv(tmp_path / "e.csv")) == 4 * 500
