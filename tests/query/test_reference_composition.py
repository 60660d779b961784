"""What spots are made of, asked of a run that was trained on spots and a reference of dissociated cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aivc_graph.errors import QueryError
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.tissue_graph import to_scipy_csr
from aivc_graph.model.plan import ModelPlan
from aivc_graph.model.tissue_model import TissueModel
from aivc_graph.pipeline.ask import _few
from aivc_graph.pipeline.train import train
from aivc_graph.query import composition, states
from aivc_graph.query.questions.question import question
from aivc_graph.query.states import niche_level
from aivc_graph.query.virtual_tissue import VirtualTissue
from aivc_graph.splits.by_block import BlockSplit
from aivc_graph.tissue.doubt import doubts_heard
from aivc_graph.tissue.section import add_observation
from tests.query.stripes import CONFIG
from tests.reference import GENES, TYPES, _table, cells_of, rates, reference_section, spot_section, spots_of

EDGES = GraphConfig(edges={"patch": {"kind": "knn", "k": 4}})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sections = [spot_section("s1", spots_of()[0]), reference_section(*cells_of())]
    return train(build_graph(sections, EDGES), CONFIG, tmp_path_factory.mktemp("reference") / "run").folder


@pytest.fixture(scope="module")
def asked(folder: Path) -> VirtualTissue:
    return VirtualTissue.load(folder)


@pytest.fixture(scope="module")
def answer(asked: VirtualTissue) -> pd.DataFrame:
    return asked.composition()


def test_each_spot_has_shares_with_intervals_near_the_truth(answer: pd.DataFrame) -> None:
    _, true = spots_of()
    place = [int(one[1:]) for one in answer["barcode"]]
    shares, lower, upper = (answer[[f"{x}{t}" for t in TYPES]].to_numpy() for x in ("", "lower_", "upper_"))
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=1e-5)
    assert (lower <= shares + 1e-6).all() and (shares <= upper + 1e-6).all() and (upper <= 1.0).all()
    assert np.sqrt(((shares - true[place]) ** 2).mean()) < 0.1  # non-negative least squares: 0.19
    assert "unexplained" in answer and not any(name.startswith("measured_") for name in answer)
    assert not answer["barcode"].isin([f"c{i}" for i in range(9)]).any()  # cells of the reference lie in no tissue


def test_a_saved_run_answers_as_the_one_that_was_trained(folder: Path, answer: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(VirtualTissue.load(folder).composition(), answer)


def test_spots_without_neighbours_are_doubted_and_asked_none_the_less(caplog: pytest.LogCaptureFixture) -> None:
    sections = [spot_section("s1", spots_of()[0]), reference_section(*cells_of())]
    graph = build_graph(sections, GraphConfig(edges={"cell": {"kind": "knn", "k": 4}}))
    assert "graph.edges.patch: expected a rule, found no rule, so no patch has neighbours" in caplog.text
    model = TissueModel(ModelPlan.of(graph, CONFIG.model))
    assert niche_level(model) == "patch"  # the cells of the reference lie in no tissue


def test_means_by_section_have_no_interval(asked: VirtualTissue) -> None:
    table = asked.composition(level="patch", by="section")
    assert list(table["section"]) == ["s1"] and not any(name.startswith("lower_") for name in table)


def test_it_is_drawn_as_maps_of_shares_and_widths_or_as_bars(asked: VirtualTissue, answer: pd.DataFrame) -> None:
    figure = question("composition", {}).draw(asked, answer).figure
    labels = [ax.get_ylabel() for ax in figure.axes]
    assert labels.count("share") == labels.count("width of the interval") == len(TYPES)
    by_niche = asked.composition(level="patch", by="niche")
    bars = question("composition", {"by": "niche"}).draw(asked, by_niche)
    assert [text.get_text() for text in bars.get_legend().get_texts()] == list(TYPES)


def test_other_tissue_is_answered_beside_the_reference_also_with_fewer_genes(asked: VirtualTissue) -> None:
    counts, true = spots_of(n=96, seed=11)
    kept = np.arange(len(GENES)) % 5 > 0
    sections = [
        spot_section("new", counts[:, kept], [g for g, k in zip(GENES, kept, strict=True) if k]),
        reference_section(*cells_of()),
    ]
    there = asked.on(build_graph(sections, EDGES))
    table = there.composition(level="patch")
    place = [int(one[1:]) for one in table["barcode"]]
    assert np.sqrt(((table[list(TYPES)].to_numpy() - true[place]) ** 2).mean()) < 0.1


def test_other_tissue_is_answered_alone_as_beside_the_reference(asked: VirtualTissue) -> None:
    """What the run learnt of the reference it holds: no cell need be listed again."""
    section = spot_section("new", spots_of(n=96, seed=11)[0])
    alone = asked.on(build_graph([section], EDGES)).composition(level="patch")
    beside = asked.on(build_graph([section, reference_section(*cells_of())], EDGES)).composition(level="patch")
    pd.testing.assert_frame_equal(alone[list(TYPES)], beside[list(TYPES)])


@pytest.mark.parametrize(("platform", "told"), [(0.8, False), (1.5, True)])
def test_spots_of_another_platform_are_doubted(asked: VirtualTissue, platform: float, told: bool) -> None:
    section = spot_section("new", spots_of(n=60, seed=11, platform=platform)[0])
    with doubts_heard() as doubts:
        asked.on(build_graph([section], EDGES)).composition(level="patch")
    assert any("of the molecules of a patch of new that no mixture" in one for one in doubts) == told


def test_dissociated_cells_lie_in_no_block_and_train() -> None:
    sections: list[Any] = [spot_section("s1", spots_of()[0]), reference_section(*cells_of())]
    found = BlockSplit(block_um=300, buffer_um=0, test_share=0.2, validation_share=0.1)(sections)
    assert set(found["cell"]) == {"train"} and set(found["patch"]) == {"train", "test", "validation"}


def test_spots_without_counts_have_no_shares(asked: VirtualTissue) -> None:
    counts = spots_of(n=48, seed=12)[0]
    counts[3] = 0.0
    section = spot_section("new", counts)
    del section.tables["patch_rna"]
    add_observation(section, "patch", "rna", _table(counts, [f"p{i}" for i in range(len(counts))], GENES))
    table = asked.on(build_graph([section, reference_section(*cells_of())], EDGES)).composition(level="patch")
    empty = table[table["barcode"] == "p3"]
    assert empty[[*TYPES, "unexplained"]].isna().all(axis=None) and table["A"].notna().sum() == len(table) - 1


def test_types_share_what_was_counted_of_a_gene(asked: VirtualTissue) -> None:
    genes = ("G0", "G11", "G55")
    found = [asked.ask("type_expression", type=one, genes=genes) for one in TYPES]
    counts, true = spots_of()
    place = [int(one[1:]) for one in found[0].obs["barcode"]]
    counted = counts[place][:, [GENES.index(one) for one in genes]]
    np.testing.assert_allclose(sum(one.X for one in found), counted, atol=1e-3)
    for one in found:
        assert (one.layers["lower"] <= one.X + 1e-5).all() and (one.layers["upper"] + 1e-5 >= one.X).all()
    # G0 is of type A, G11 of type B.
    assert np.corrcoef(found[0].X[:, 0] / np.maximum(counted[:, 0], 1), true[place, 0])[0, 1] > 0.8
    assert found[1].X[:, 1].sum() > 0.5 * counted[:, 1].sum() and found[0].X[:, 1].sum() < 0.3 * counted[:, 1].sum()


def test_a_gene_that_is_named_twice_is_told_once(asked: VirtualTissue) -> None:
    assert list(question("type_expression", {"type": "A", "genes": "G1,G2,G1"}).answer(asked).var_names) == ["G1", "G2"]


def test_genes_that_were_not_measured_are_told_of_each_type_by_the_composition(asked: VirtualTissue) -> None:
    counts, _ = spots_of(n=96, seed=11)
    kept = [g for g in GENES if g != "G0"]
    there = asked.on(build_graph([spot_section("new", counts[:, 1:], kept)], EDGES))
    found = [there.ask("type_expression", type=one, genes=("G0", "G11")) for one in TYPES]
    assert list(found[0].var["measured"]) == [False, True]
    told = sum(one.X[:, 0] for one in found)
    place = [int(one[1:]) for one in found[0].obs["barcode"]]
    assert np.corrcoef(told, counts[place, 0])[0, 1] > 0.7
    assert 0.5 < told.sum() / counts[place, 0].sum() < 2.0


@pytest.mark.parametrize(
    ("options", "said"),
    [({"type": "E"}, "'E'"), ({"type": "A", "genes": ("NOT",)}, "'NOT'")],
)
def test_what_the_reference_does_not_know_is_refused(asked: VirtualTissue, options: dict[str, Any], said: str) -> None:
    with pytest.raises(QueryError, match=said):
        asked.ask("type_expression", **options)


def test_an_answer_hangs_neither_on_windows_nor_on_the_order_of_sections(
    asked: VirtualTissue, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"type": "B", "genes": ("G11", "G12")}
    sections = [spot_section(f"s{one}", spots_of(n=48, seed=one)[0]) for one in (3, 4)]
    graphs = [build_graph(each, EDGES) for each in (sections, sections[::-1])]
    whole, turned = (asked.on(graph).ask("type_expression", **options) for graph in graphs)
    monkeypatch.setattr(states, "WINDOW_NODES", 30)
    pieces = asked.on(graphs[0]).ask("type_expression", **options)
    for other in (turned[whole.obs_names], pieces):
        np.testing.assert_allclose(other.X, whole.X, atol=2e-3, rtol=2e-3)
        np.testing.assert_allclose(other.layers["upper"], whole.layers["upper"], atol=2e-3, rtol=2e-3)


def test_types_that_bear_the_names_of_columns_are_refused() -> None:
    obs = pd.DataFrame({"section": ["s"], "barcode": ["p"]})
    for names in (["niche", "B"], ["lower_B", "B", "lower_B"], ["section", "B"]):
        with pytest.raises(QueryError, match=f"types named {names[0]}; rename"):
            composition._told(pd.DataFrame(0.5, obs.index, names), obs, None)


def test_shares_that_nothing_tells_are_doubted_with_a_way_on() -> None:
    obs = pd.DataFrame({"section": ["s", "s"]})
    for value, times in ((np.nan, 1), (0.5, 0)):
        with doubts_heard() as doubts:
            composition._told(pd.DataFrame(value, obs.index, ["A", "B"]), obs, None)
        assert sum("were spots read as cells, say `level: patch`" in one for one in doubts) == times


def counted_section(n: int = 96, seed: int = 11) -> tuple[Any, np.ndarray]:
    """Return spots of 3 to 12 cells, 120 molecules each, counted in every second one, and how many they hold."""
    number = np.random.default_rng(seed).integers(3, 13, n)
    _, shares = spots_of(n=n, seed=seed)
    counts = np.random.default_rng(seed + 1).poisson(120 * number[:, None] * (shares @ rates())).astype(np.float32)
    section = spot_section("new", counts)
    known = np.where(np.arange(n) % 2 == 0, number, np.nan)
    section.shapes["patch"]["nuclei"] = known
    return section, number


def test_cells_are_told_of_all_spots_where_some_were_counted(asked: VirtualTissue) -> None:
    section, number = counted_section()
    there = asked.on(build_graph([section], EDGES))
    table = there.ask("composition", level="patch", cells="nuclei")
    place = np.array([int(one[1:]) for one in table["barcode"]])
    fresh = place % 2 == 1
    told, true = table["cells"].to_numpy()[fresh], number[place][fresh]
    assert np.corrcoef(told, true)[0, 1] > 0.9 and abs(told.mean() / true.mean() - 1) < 0.1
    inside = (table["lower_cells"] <= number[place]) & (number[place] <= table["upper_cells"])
    assert 0.8 < inside[fresh].mean() <= 1.0
    figure = question("composition", {}).draw(there, table).figure
    assert [ax.get_ylabel() for ax in figure.axes].count("share") == len(TYPES)
    means = there.ask("composition", level="patch", cells="nuclei", by="section")
    assert means["cells"].item() == pytest.approx(table["cells"].mean()) and "lower_cells" not in means


def test_with_few_counted_cells_it_says_why_none_are_told_and_without_any_nothing(asked: VirtualTissue) -> None:
    section, _ = counted_section()
    section.shapes["patch"]["few"] = np.where(np.arange(len(section.shapes["patch"])) < 5, 3.0, np.nan)
    there = asked.on(build_graph([section], EDGES))
    for column, n_doubts in (("few", 1), (None, 0)):
        with doubts_heard() as doubts:
            table = there.ask("composition", level="patch", cells=column)
        said = [one for one in doubts if "5 patches whose cells were counted" in one and "`cells:`" in one]
        others = [one for one in doubts if "no mixture of the types" not in one]  # the platform is not the run's
        assert "cells" not in table and len(said) == n_doubts and len(others) == n_doubts
    with pytest.raises(QueryError, match="nucleii"):
        there.ask("composition", level="patch", cells="nucleii")


@pytest.mark.parametrize("wrong", ["many", -1.0, np.inf])
def test_a_column_of_anything_else_than_numbers_of_cells_is_refused(asked: VirtualTissue, wrong: Any) -> None:
    section, number = counted_section()
    column = section.shapes["patch"]["nuclei"].astype(object)
    column.iloc[0] = wrong
    there = asked.on(build_graph([section], EDGES))
    obs = there.graph.obs("patch").assign(nuclei=column.to_numpy())
    with pytest.raises(
        QueryError, match=r"composition · nuclei: expected numbers from 0, and gaps, found .* among 1 of 96"
    ):
        composition.counted_cells(there.graph, "cell", "patch", obs, "nuclei")
    obs["nuclei"] = pd.Categorical(np.where(np.arange(96) % 2 == 0, number, 0).astype(str))  # as a file may hold them
    assert composition.counted_cells(there.graph, "cell", "patch", obs, "nuclei")[0] == number[0]


def test_numbers_of_cells_are_asked_of_spots_alone(asked: VirtualTissue) -> None:
    with pytest.raises(QueryError, match="cells = 'nuclei' where no reference"):
        asked.ask("composition", level="region", cells="nuclei")
    for one in ("niches", "composition"):
        with pytest.raises(
            QueryError, match=r"niches at cell: expected nodes that belong to niches.*ask at patch or re"
        ):
            asked.ask(one, level="cell")


def test_the_number_of_cells_is_in_proportion_and_its_interval_holds_whatever_the_law() -> None:
    random = np.random.default_rng(0)
    amount, held = random.gamma(4.0, 1.0, 400), []
    number = 2.5 * amount * random.gamma(3.0, 1 / 3.0, 400)
    for _ in range(8):
        known = random.permutation(400) < 60
        told = composition.cells_of_patches(amount, np.where(known, number, np.nan))
        held.append(((told["lower_cells"] <= number) & (number <= told["upper_cells"]))[~known].mean())
        np.testing.assert_allclose(told["cells"], amount * number[known].sum() / amount[known].sum())
    assert 0.87 < np.mean(held) < 0.95
    empty = composition.cells_of_patches(np.r_[amount, 0.0], np.r_[number, 3.0])
    assert empty.iloc[-1].isna().all() and empty.iloc[:-1].notna().all(axis=None)
    with doubts_heard() as doubts:
        few = composition.cells_of_patches(amount, np.where(np.arange(400) < 19, number, np.nan))
    assert few.columns.empty and any("19 patches" in one for one in doubts)


def test_cells_beneath_are_counted_as_far_as_they_lie_inside(striped_section: Any) -> None:
    graph = build_graph([striped_section("s", levels=("cell", "patch"))], EDGES)
    number = composition.counted_cells(graph, "cell", "patch", graph.obs("patch"), None)
    overlap = to_scipy_csr(graph["cell", "within", "patch"].adj_t).toarray().sum(axis=1)
    np.testing.assert_allclose(number[overlap > 0], overlap[overlap > 0], rtol=1e-5)
    assert np.isnan(number[overlap == 0]).all() and (overlap > 0).any()


def test_niches_of_few_nodes_from_elsewhere_are_told_for_what_they_are(asked: VirtualTissue) -> None:
    counts = spots_of(n=120, seed=11)[0]
    few, many = (asked.on(build_graph([spot_section("new", counts[:n])], EDGES)) for n in (36, 120))
    assert "new (36)" in str(_few(few, few.niches()))
    assert _few(many, many.niches()) is None and _few(asked, asked.niches()) is None
