"""Dissociated cells placed in tissue of three stripes: in the stripe of their kind, and not where genes say nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from aivc_graph.errors import QueryError
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr, to_torch_csr
from aivc_graph.model.settings import ModelConfig
from aivc_graph.operators import placing_encoder
from aivc_graph.pipeline.ask import _unplaced, save_answer
from aivc_graph.query.placing import compared, missing_from, sides
from aivc_graph.query.questions.place import PlaceQuestion
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.tissue.doubt import doubts_heard
from aivc_graph.tissue.section import add_cells, add_observation, new_section
from tests.fitting import model_of

EDGES = GraphConfig(edges={"cell": {"kind": "knn", "k": 6}, "patch": {"kind": "knn", "k": 6}})
SIDE = 12.0 * np.sqrt(600)


def loose(maker: Callable[..., Any], name: str, seed: int, genes: slice = slice(None)) -> Any:
    """Return cells of a striped section without their positions, which only their labels still tell of."""
    source = maker(name, n=200, seed=seed, donor=f"of {name}")
    table = source.tables["cell_rna"][:, genes].copy()
    table.obs_names = table.obs["barcode"].astype(str)
    section = new_section(name, donor=f"of {name}")
    add_cells(section, table.obs_names, source.shapes["cell"][["label"]])
    add_observation(section, "cell", "rna", table)
    return section


@pytest.fixture(scope="module", autouse=True)
def short() -> Iterator[None]:
    """Learn for a third of the steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placing_encoder, "STEPS", 100)
        yield


@pytest.fixture(scope="module")
def sections(striped_section: Callable[..., Any]) -> list[Any]:
    """Tissue of cells and spots that lacks genes, and two dissociated samples, one of which lacks others."""
    tissue = striped_section("tissue", n=600, seed=1, levels=("cell", "patch"))
    tissue.tables["cell_rna"] = tissue.tables["cell_rna"][:, :28].copy()
    return [tissue, loose(striped_section, "a", 2), loose(striped_section, "b", 3, slice(2, None))]


@pytest.fixture(scope="module")
def tissue(sections: list[Any]) -> VirtualTissue:
    graph = build_graph(sections, EDGES)
    return VirtualTissue(graph, model_of(graph, ModelConfig(latent=3, rings=(4, 8))))


@pytest.fixture(scope="module")
def answer(tissue: VirtualTissue) -> Any:
    return tissue.ask("place")


def stripe(x_um: Any) -> np.ndarray:
    return np.array([f"stripe {k}" for k in np.minimum(np.asarray(x_um) / SIDE * 3, 2).astype(int)])


def right(answer: Any) -> float:
    return float((stripe(answer.obs["x_um"]) == answer.obs["label"].astype(str)).mean())


def on(tissue: VirtualTissue, graph: TissueGraph) -> VirtualTissue:
    return VirtualTissue(graph, tissue.model)


def test_cells_lie_in_the_stripe_of_their_kind(answer: Any) -> None:
    assert answer.n_obs == 400 and set(answer.obs["section"]) == {"a", "b"}
    assert (answer.obs["placed_in"] == "tissue").all() and answer.obs["supported"].mean() > 0.95
    assert right(answer) > 0.9
    by_section = answer.obs.groupby("section", observed=True)["x_um"].mean()
    assert by_section.between(0.3 * SIDE, 0.7 * SIDE).all()
    assert answer.uns["place"]["nats_over_knowing_nothing"]["learnt"] > 0.5
    covered = answer.uns["place"]["coverage_of_hidden_nodes"]
    assert list(covered) == ["among_nodes"] and 0.8 < covered["among_nodes"] <= 1.0


def test_it_passes_through_the_genes_of_the_cells_asked(tissue: VirtualTissue) -> None:
    graph = copy.copy(tissue.graph)
    relation, rng = ("gene", "observed_in", "cell"), np.random.default_rng(0)
    counts = to_scipy_csr(graph[relation].adj_t)
    loose_ones = np.flatnonzero(~np.isfinite(graph["cell"].pos.numpy()).all(axis=1))
    order = np.arange(counts.shape[0])
    order[loose_ones] = rng.permutation(loose_ones)
    graph[relation].adj_t = to_torch_csr(counts[order])
    assert right(on(tissue, graph).ask("place", of="a")) < 0.5


def test_probability_lies_where_the_point_is(answer: Any) -> None:
    total = np.asarray(answer.X.sum(axis=1)).ravel()
    assert (total <= 1 + 1e-5).all() and (total > 0.5).all()
    in_stripe = np.asarray(answer.X @ (stripe(answer.var["x_um"])[:, None] == np.unique(answer.obs["label"])))
    assert (np.unique(answer.obs["label"])[in_stripe.argmax(axis=1)] == answer.obs["label"].astype(str)).mean() > 0.9
    assert answer.var["cells"].sum() == pytest.approx(answer.obs["supported"].sum(), rel=1e-4)
    assert answer.var["n_nodes"].sum() == 600


def test_a_table_has_a_row_a_cell_and_rank(answer: Any) -> None:
    table = PlaceQuestion(top=3).as_table(answer)
    assert len(table) == 1_200 and table.index[:4].tolist() == [*answer.obs_names[[0, 0, 0]], answer.obs_names[1]]
    assert table["rank"].tolist()[:4] == [1, 2, 3, 1]
    falling = table["probability"].to_numpy().reshape(-1, 3)
    assert (np.diff(falling, axis=1) <= 0).all()
    told = {
        "section",
        "barcode",
        "placed_in",
        "likely_x_um",
        "within_100_um",
        "spread_um",
        "region_um2",
        "fit",
        "supported",
        "place_x_um",
    }
    assert told <= set(table)


def test_spots_get_cells(tissue: VirtualTissue) -> None:
    asked = PlaceQuestion(level="patch", by="place", of="b")
    told = asked.answer(tissue)
    table = asked.as_table(told)
    assert len(table) == 75 and table["barcode"].str.startswith("patch").all()
    kinds = [f"cells_stripe {k}" for k in range(3)]
    assert table[kinds].sum().sum() == pytest.approx(table["cells"].sum())
    likeliest = np.array(kinds)[table[kinds].to_numpy().argmax(axis=1)]
    assert (likeliest == np.char.add("cells_", stripe(table["x_um"]))).mean() > 0.8


def test_spots_of_more_cells_get_more(tissue: VirtualTissue) -> None:
    graph = copy.copy(tissue.graph)
    upper = graph["patch"].pos.numpy()[:, 1] > SIDE / 2
    graph["patch"].obs = graph.obs("patch").assign(held=np.where(upper, 5, 1))
    told = on(tissue, graph).ask("place", level="patch", mass="held")
    even = on(tissue, graph).ask("place", level="patch")
    share = [one.var["cells"][upper].sum() / one.var["cells"].sum() for one in (told, even)]
    assert share[0] > 0.7 > 0.65 > share[1]


def test_genes_that_not_all_measured_take_no_part(tissue: VirtualTissue, sections: list[Any]) -> None:
    assert len(compared(sides(tissue, None, "a", None)).genes) == 28
    assert len(compared(sides(tissue, None, None, None)).genes) == 26


def test_cells_of_its_donor_may_be_missing_from_gaps(tissue: VirtualTissue) -> None:
    def may(donors: Any, given: bool | None = None) -> bool:
        graph = copy.copy(tissue.graph)
        graph["section"].obs = graph.obs("section").assign(donor=donors)
        return missing_from(sides(on(tissue, graph), None, "a", None), given)

    assert not may(["x", "y", "z"]) and may(["x", "y", "z"], True)
    assert may("one") and not may("one", False) and not may(None)


def test_an_answer_does_not_hang_on_the_order_of_sections(
    tissue: VirtualTissue, sections: list[Any], answer: Any
) -> None:
    graph = build_graph(sections[::-1], EDGES)
    other = VirtualTissue(graph, model_of(graph, ModelConfig(latent=3, rings=(4, 8)))).ask("place")[answer.obs_names]
    assert np.median(np.hypot(*(other.obs[c] - answer.obs[c] for c in ("x_um", "y_um")))) < 1.0
    np.testing.assert_allclose(other.obs["fit"], answer.obs["fit"], atol=0.05)


def test_the_map_of_a_kind_is_drawn_and_the_answer_written(tissue: VirtualTissue, answer: Any, tmp_path: Path) -> None:
    axes = PlaceQuestion(label="stripe 0").draw(tissue, answer)
    values, at = axes.collections[0].get_array(), answer.var["x_um"].to_numpy()
    assert np.average(at, weights=np.asarray(values)) < SIDE / 3
    assert "stripe 0" in axes.get_title()
    assert save_answer(answer, tmp_path / "places.h5ad").exists()
    written = save_answer(PlaceQuestion().as_table(answer), tmp_path / "places.csv")
    assert len(pd.read_csv(written)) == 400


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"section": "tisue"}, "did you mean 'tissue'"),
        ({"of": "tissue"}, "expected cells to be placed, found no counted cells without positions in tissue; give"),
        ({"section": "a"}, "expected places at cell or patch, found no section 'a' of 60 counted nodes with positions"),
        ({"level": "patch", "mass": "held"}, "no column named 'held'"),
        ({"mass": "label"}, "expected numbers from 0, found 'label' that is no number of cells"),
        ({"top": 0}, "place · top"),
    ],
)
def test_what_cannot_be_asked_is_told(tissue: VirtualTissue, options: dict[str, Any], said: str) -> None:
    with pytest.raises(QueryError, match=said):
        tissue.ask("place", **options)


def test_a_label_that_nobody_bears_is_no_map(tissue: VirtualTissue, answer: Any) -> None:
    with pytest.raises(QueryError, match="no label named 'strip 0'; did you mean 'stripe 0'"):
        PlaceQuestion(label="strip 0").draw(tissue, answer)


def test_cells_that_fit_nowhere_are_told_as_a_whole(tissue: VirtualTissue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aivc_graph.operators.placing_support.Support.fit", lambda *_: np.zeros(200))
    asked = PlaceQuestion(level="patch", of="b", by="place")
    with doubts_heard() as doubts:
        told = asked.answer(tissue)
    assert asked.as_table(told)["cells"].sum() == 0
    assert any("200 of 200 cells of b that fit nowhere in tissue" in one for one in doubts)
    assert "(0 of 200)" in asked.draw(tissue, told).get_title()


def test_cells_from_elsewhere_are_placed_in_the_tissue_of_the_run(
    tissue: VirtualTissue, answer: Any, striped_section: Callable[..., Any]
) -> None:
    elsewhere = tissue.on(build_graph([loose(striped_section, "a", 2)], EDGES))
    told = elsewhere.ask("place", level="patch")
    assert set(told.obs["section"]) == {"a"} and set(told.obs["placed_in"]) == {"tissue"}
    assert right(told) > 0.9 and "barcode" in told.var
    assert PlaceQuestion(level="patch").draw(elsewhere, told).get_title().startswith("tissue: cells placed")
    assert set(elsewhere.ask("niches", level="cell").obs["section"]) == {"a"}


def test_cells_alone_are_asked_at_their_level_and_say_what_their_niche_is_worth(
    tissue: VirtualTissue, striped_section: Callable[..., Any]
) -> None:
    elsewhere = tissue.on(build_graph([loose(striped_section, "a", 2)], EDGES))
    assert len(elsewhere.ask("expression", genes=["G5"])) == 200  # the run has spots, and they have none
    assert len(tissue.ask("expression", genes=["G5"])) == tissue.graph["patch"].num_nodes
    apart = elsewhere.ask("neighbours")
    assert (apart["contacts"] == 0).all() and "no contact" in str(_unplaced(elsewhere, apart))
    told = _unplaced(elsewhere, elsewhere.ask("niches", level="cell"))
    assert told is not None and "as it stands out in their sample" in told
    assert "(a, b) are near nobody" in str(_unplaced(tissue, tissue.ask("niches", level="cell")))
    assert _unplaced(tissue, tissue.ask("niches", level="patch")) is None


def test_cells_without_a_count_are_said_to_be_left_out(striped_section: Callable[..., Any]) -> None:
    empty = loose(striped_section, "a", 2)
    counts = empty.tables["cell_rna"].X.toarray()
    counts[:7] = 0.0
    empty.tables["cell_rna"].X = sparse.csr_matrix(counts)
    graph = build_graph([striped_section("tissue", n=600, seed=1), empty], EDGES)
    with doubts_heard() as doubts:
        told = VirtualTissue(graph, model_of(graph, ModelConfig(latent=4)), seed=0).ask("place")
    assert len(told) == 193 and any("7 cells without a count, which are not placed" in one for one in doubts)


def test_niches_are_refused_where_the_level_they_are_found_at_is_missing(striped_section: Callable[..., Any]) -> None:
    graph = build_graph([striped_section("spots", n=400, levels=("patch",)), loose(striped_section, "a", 2)], EDGES)
    run = VirtualTissue(graph, model_of(graph, ModelConfig(latent=4)), seed=0)
    assert run.base_level == "patch"
    with pytest.raises(QueryError, match="found no patch, the level at which this run finds niches"):
        run.on(build_graph([loose(striped_section, "b", 3)], EDGES)).ask("niches")


def test_cells_of_the_run_are_placed_in_tissue_from_elsewhere(
    tissue: VirtualTissue, striped_section: Callable[..., Any]
) -> None:
    other = striped_section("other", n=600, seed=7, levels=("cell", "patch"))
    told = tissue.on(build_graph([other], EDGES)).ask("place", of="b", level="patch")
    assert set(told.obs["section"]) == {"b"} and set(told.obs["placed_in"]) == {"other"} and right(told) > 0.9


def test_few_shared_genes_are_refused(striped_section: Callable[..., Any]) -> None:
    spatial = striped_section("tissue", n=300, seed=1)
    graph = build_graph([spatial, loose(striped_section, "a", 2, slice(15, 30))], EDGES)
    told = VirtualTissue(graph, model_of(graph, ModelConfig(latent=3, rings=(4, 8))))
    with pytest.raises(QueryError, match="expected at least 20, found 15 genes that tissue and a all measured"):
        told.ask("place")
