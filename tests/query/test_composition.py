"""What niches, patches and regions are made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aivc_graph.errors import QueryError
from aivc_graph.graph.build import build_graph
from aivc_graph.pipeline.train import train
from aivc_graph.query.answers import composition_table
from aivc_graph.query.virtual_tissue import VirtualTissue
from tests.query.stripes import CONFIG, GRAPH


@pytest.mark.parametrize("by", ["niche", "section"])
def test_composition_sums_to_one(tissue: VirtualTissue, by: str) -> None:
    table = tissue.composition(k=3, by=by)
    labels = [c for c in table if c.startswith("stripe")]
    np.testing.assert_allclose(table[labels].sum(axis=1), 1.0)
    assert table["n_nodes"].sum() == 1000 and len(table) == (3 if by == "niche" else 2)


def test_composition_of_patches_is_predicted_beside_the_cells_measured_there(tissue: VirtualTissue) -> None:
    table = tissue.composition(level="patch", k=3)
    types = [f"stripe {i}" for i in range(3)]
    assert len(table) == tissue.graph["patch"].num_nodes and list(table.columns[5:8]) == types
    np.testing.assert_allclose(table[types].sum(axis=1), 1.0, atol=1e-6)
    assert table["measured_stripe 0"].notna().mean() > 0.2
    label = tissue.graph.obs("patch")["label"].to_numpy()
    assert (table[types].to_numpy().argmax(axis=1) == [types.index(name) for name in label]).mean() > 0.9
    by_niche = tissue.composition(level="patch", k=3, by="niche")
    assert by_niche["n_nodes"].sum() == len(table) and len(by_niche) == 3


def test_composition_without_labels_is_that_of_sections(tissue: VirtualTissue) -> None:
    obs = tissue.niches(k=3).obs.drop(columns="label")
    table = composition_table(obs, "niche")
    np.testing.assert_allclose(table[["s1", "s2"]].sum(axis=1), 1.0)


def test_nodes_without_a_label_are_no_kind_of_their_own(tissue: VirtualTissue) -> None:
    obs = tissue.niches(k=3).obs
    bare = (obs["niche"] == obs["niche"].cat.categories[0]).to_numpy()
    some = bare | (np.arange(len(obs)) % 5 == 0)
    obs["label"] = obs["label"].astype(object).where(~some, np.nan)
    table = composition_table(obs, "niche")
    assert list(table.columns) == ["niche", "n_nodes", "n_labelled", *(f"stripe {i}" for i in range(3))]
    assert table["n_labelled"].tolist() == [int((~some[obs["niche"] == name]).sum()) for name in table["niche"]]
    shares = table[[f"stripe {i}" for i in range(3)]].to_numpy()
    assert np.isnan(shares[0]).all() and table["n_nodes"].sum() == 1000
    np.testing.assert_allclose(shares[1:].sum(axis=1), 1.0)


def test_regions_are_answered_one_by_one_from_the_labels_beneath(tissue: VirtualTissue) -> None:
    table = tissue.composition(level="region", k=3)
    types = [f"stripe {i}" for i in range(3)]
    assert list(table["barcode"]) == list(tissue.graph.obs("region")["barcode"])
    np.testing.assert_allclose(table[types].sum(axis=1), 1.0)
    home, label = tissue.graph["cell"].region_index.numpy(), tissue.graph.obs("cell")["label"].to_numpy()
    for row in range(len(table)):
        assert table["stripe 1"].iloc[row] == pytest.approx((label[home == row] == "stripe 1").mean())
    by_section = tissue.composition(level="region", k=3, by="section")
    assert by_section["n_nodes"].sum() == len(table) and len(by_section) == 2


def test_regions_over_nodes_without_labels_say_what_they_need(
    striped_section: Callable[..., Any], tmp_path: Path
) -> None:
    section = striped_section("s", n=200)
    del section.shapes["cell"]["label"]
    bare = train(build_graph([section], GRAPH), CONFIG, tmp_path / "run").tissue
    with pytest.raises(
        QueryError, match="at region: expected labelled nodes, found no label, nor beneath it; ask for the"
    ):
        bare.composition(level="region")
    assert len(bare.composition(k=2)) == 2
