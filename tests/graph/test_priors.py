"""What is known of molecules becomes nodes, edges and vectors of the graph; its controls keep what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from aivc_graph import names
from aivc_graph.errors import GraphError, ReadError
from aivc_graph.graph.known import CONTROLS, PRIORS, Known, know_as, known_of, priors_told, rewired_edges
from aivc_graph.graph.priors import add_priors
from aivc_graph.graph.profiles import add_section_profiles
from aivc_graph.graph.rewiring import rewired, without_messages
from aivc_graph.graph.schema import check_graph
from aivc_graph.graph.store import read_store, write_store
from aivc_graph.graph.tissue_graph import TissueGraph, to_scipy_csr
from aivc_graph.tissue.doubt import doubts_heard
from aivc_graph.tissue.prior import Prior
from tests.graph.screen_graphs import screen_graph
from tests.graph.tissues import random_tissue

SHA = "0" * 64


def related(*edges: tuple[str, str, float, float], relation: str = "regulates", **more: object) -> Prior:
    table = pd.DataFrame(list(edges), columns=["source", "target", "sign", "weight"])
    return Prior(relation, table, {"file": f"{relation}.csv", "layout": "columns", "sha256": SHA}, **more)  # type: ignore[arg-type]


def described(**rows: tuple[float, ...]) -> Prior:
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["v0", "v1"])
    return Prior("describes", table, {"file": "v.csv", "layout": "vectors", "sha256": SHA, "species": "human"})


KNOWN = (
    related(("G0", "G1", -1, 2), ("G0", "NEW", 1, 1), ("FAR", "AWAY", 0, 1)),
    related(("G2", "G3", 0, 1), relation="binds"),
    described(G4=(1.0, 0.0), NEW=(0.0, 1.0)),
)


@pytest.fixture
def tissue() -> TissueGraph:
    graph = random_tissue(120)
    add_priors(graph, KNOWN)
    return graph


def test_relations_stay_typed_with_sign_weight_and_origin(tissue: TissueGraph) -> None:
    check_graph(tissue)
    index, relation = tissue.obs("gene").index, tissue["gene", "regulates", "gene"]
    adjacency = to_scipy_csr(relation.adj_t).tocoo()
    found = {
        (index[s], index[t]): (float(sign), float(w), int(origin))
        for s, t, w, sign, origin in zip(
            adjacency.col, adjacency.row, adjacency.data, relation.sign, relation.origin, strict=True
        )
    }
    assert found == {("G0", "G1"): (-1, 2, 0), ("G0", "NEW"): (1, 1, 0), ("FAR", "AWAY"): (0, 1, 0)}
    assert tissue["gene"][PRIORS][1]["relation"] == "binds" and tissue["gene"][PRIORS][0]["sha256"] == SHA
    assert priors_told(tissue)[2].startswith(
        "v.csv (vectors, human): describes, vectors of 2 genes; 1 of 20 molecules of this tissue; sha256 0000"
    )


def test_genes_that_were_not_measured_are_in_no_panel_and_counts_stay(tissue: TissueGraph) -> None:
    plain = random_tissue(120)
    assert list(tissue.obs("gene").index[:20]) == list(plain.obs("gene").index)
    assert sorted(tissue.obs("gene").index[20:]) == ["AWAY", "FAR", "NEW"]
    assert tissue["cell"].rna_panel.tolist() == [True] * 20 + [False] * 3
    wide, narrow = (to_scipy_csr(one.counts("cell", "rna")) for one in (tissue, plain))
    assert wide.shape[1] == 23 and (wide[:, :20] != narrow).nnz == 0 and wide[:, 20:].nnz == 0
    for graph in (tissue, plain):
        add_section_profiles(graph)
    for key in ("cell_rna_mean", "cell_rna_offset"):
        np.testing.assert_allclose(tissue["section"][key][:, :20], plain["section"][key], atol=1e-6)
    np.testing.assert_allclose(tissue["cell"].rna_common[:20], plain["cell"].rna_common, atol=1e-5)


def test_a_store_gives_them_back(tissue: TissueGraph, tmp_path: Path) -> None:
    write_store(tissue, tmp_path / "graph.zarr")
    back = read_store(tmp_path / "graph.zarr")
    assert back["gene"][PRIORS] == tissue["gene"][PRIORS]
    torch.testing.assert_close(back["gene"].known, tissue["gene"].known, equal_nan=True)
    for key in ("sign", "origin"):
        torch.testing.assert_close(back["gene", "regulates", "gene"][key], tissue["gene", "regulates", "gene"][key])
    one, other = known_of(back), known_of(tissue)
    assert one is not None and other is not None and one.sources == ("regulates", "binds", "describes")
    assert (one.relations["regulates"] != other.relations["regulates"]).nnz == 0


def test_a_file_that_says_nothing_of_the_tissue_is_refused_by_name() -> None:
    graph = random_tissue(60)
    with pytest.raises(
        GraphError, match=r"binds\.csv: expected names such as G0, G1, G10, found names such as A, B"
    ) as told:
        add_priors(graph, [related(("A", "B", 0, 1), relation="binds"), related(("C", "D", 0, 1)), KNOWN[0]])
    assert "regulates.csv" in str(told.value) and "names_by" in str(told.value)
    with pytest.raises(GraphError, match="no edge of 'encodes' in this tissue"):
        add_priors(random_tissue(60), [related(("G0", "CD3", 0, 1), relation="encodes")])


def test_names_match_without_versions_by_letter_case_and_by_a_table() -> None:
    graph = random_tissue(60)
    with doubts_heard() as doubts:
        add_priors(graph, [related(("g0", "g1", 0, 1), ("g5", "NEW", 0, 1))])
    assert graph["gene"][PRIORS][0]["by_letter_case"] == 3
    assert "G1" in graph.obs("gene").index and "g1" not in graph.obs("gene").index
    assert any("match by letter case alone" in one for one in doubts)
    table = pd.DataFrame([["ensembl", "symbol"], ["ENSG000001", "G0"], ["ENSG000002", "G1"], ["ENSG000009", "Q9"]])
    graph = random_tissue(60)
    add_priors(graph, [related(("ENSG000001", "ENSG000002", 1, 1), names_by=table)])
    index = graph.obs("gene").index
    edges = to_scipy_csr(graph["gene", "regulates", "gene"].adj_t)
    assert edges[index.get_loc("G1"), index.get_loc("G0")] == 1 and len(index) == 20
    with pytest.raises(ReadError, match="no column of the tissue's names"):
        add_priors(
            random_tissue(60),
            [related(("ENSG000001", "ENSG000002", 1, 1), names_by=table.replace("^G.*", "?", regex=True))],
        )


def test_proteins_are_encoded_and_peaks_lead_to_genes_by_distance() -> None:
    graph = random_tissue(60)
    for kind, index in (("protein", ["CD3"]), ("peak", ["chr1:900-1100", "chr1:9000-9100", "chr2:900-1100"])):
        graph[kind].obs, graph[kind].num_nodes = pd.DataFrame(index=index), len(index)
    places = pd.DataFrame({"gene": ["G0", "G1"], "chromosome": ["1", "3"], "begins_bp": [2000.0, 0.0]})
    near = Prior("near", places, {"file": "genes.tsv", "layout": "positions", "sha256": SHA}, within_bp=5000)
    add_priors(graph, [related(("G2", "CD3", 0, 1), relation="encodes"), near])
    assert to_scipy_csr(graph["gene", "encodes", "protein"].adj_t).nonzero()[1].tolist() == [2]
    adjacency = to_scipy_csr(graph["peak", "near", "gene"].adj_t).tocoo()
    assert (adjacency.row.tolist(), adjacency.col.tolist()) == ([0], [0])
    assert adjacency.data[0] == pytest.approx(0.5)  # its middle lies 1,000 bp from where the gene begins
    assert "CD3" not in graph.obs("gene").index
    for other in (rewired(graph, 0), without_messages(graph)):  # these take away messages of the tissue alone
        assert other["peak", "near", "gene"].adj_t is graph["peak", "near", "gene"].adj_t


def test_a_screen_without_counts_gets_genes_of_what_is_known() -> None:
    values = np.zeros((6, 2))
    graph = screen_graph(values, ["G0", "G1"], ["control", "K", "K+L"] * 2, ["a"] * 6, ["train"] * 6)
    add_priors(graph, [related(("K", "X", 0, 1), ("G0", "X", 0, 1))])
    assert graph["gene"][PRIORS][0] | {"matched": 2, "of": 4} == graph["gene"][PRIORS][0]
    known = known_of(graph)
    assert known is not None and known.has(["K", "X", "L", "nowhere"]).tolist() == [True, True, False, False]


def test_what_is_known_goes_with_the_molecules_of_a_run(tissue: TissueGraph) -> None:
    other = random_tissue(60, n_genes=23)
    other["gene", "binds", "gene"].adj_t = tissue["gene", "binds", "gene"].adj_t
    other["gene", "binds", "gene"].sign = torch.zeros(1)
    other["gene"].obs = tissue.obs("gene")
    know_as(other, tissue)
    one, whole = known_of(other), known_of(tissue)
    assert one is not None and whole is not None and one.sources == whole.sources
    know_as(other, random_tissue(60))
    assert known_of(other) is None and ("gene", "binds", "gene") not in other.edge_types


def many(seed: int = 0) -> Known:
    rng = np.random.default_rng(seed)
    graph = random_tissue(60, n_genes=60)
    ends = rng.integers(0, 60, (400, 2))
    edges = {(f"G{a}", f"G{b}", float(rng.choice([-1, 1])), 1.0) for a, b in ends if a != b}
    add_priors(graph, [related(*sorted(edges)), described(**{f"G{i}": (float(i), 1.0) for i in range(20)})])
    found = known_of(graph)
    assert found is not None
    return found


def test_controls_keep_degrees_or_structure_and_lose_who_is_who() -> None:
    known = many()
    edges = known.relations["regulates"]
    rewired = known.control("rewired", 1)
    dealt = rewired.relations["regulates"]
    for axis in (0, 1):
        assert (np.asarray((dealt != 0).sum(axis=axis)) == np.asarray((edges != 0).sum(axis=axis))).mean() > 0.95
    assert (abs(dealt) - abs(edges)).nnz > edges.nnz
    assert dealt.diagonal().sum() == 0
    has = np.isfinite(known.vectors).all(axis=1)
    assert (np.isfinite(rewired.vectors).all(axis=1) == has).all() and not np.array_equal(
        rewired.vectors[has], known.vectors[has]
    )
    shuffled = known.control("shuffled", 1)
    degrees = [sorted(np.diff(one.relations["regulates"].indptr)) for one in (known, shuffled)]
    assert degrees[0] == degrees[1] and (shuffled.relations["regulates"] != edges).nnz
    assert known.control("none", 1).sources == () and not known.control("none", 1).has(["G0"]).any()
    assert known.control("true", 1) is known
    again = [known.control(kind, 3).likeness(["G0", "G1", "G2"]) for kind in CONTROLS for _ in (0, 1)]
    for one, other in zip(again[::2], again[1::2], strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_genes_with_the_same_neighbours_are_alike_and_opposite_signs_count_against_it() -> None:
    graph = random_tissue(60)
    edges = [(f"TF{k}", f"G{i}", -1.0 if k == 2 else 1.0, 1.0) for k in (0, 1, 2) for i in range(6)]
    add_priors(graph, [related(*edges, ("TF3", "G9", 1, 1)), described(G0=(1.0, 2.0), G1=(1.0, 2.0), G2=(-4.0, 0.0))])
    known = known_of(graph)
    assert known is not None
    alike = known.likeness(["TF0", "TF1", "TF2", "TF3", "nowhere"])["regulates"]
    assert alike[0, 1] > 0.8 and alike[0, 2] < 0 and abs(alike[0, 3]) < 1e-9
    np.testing.assert_allclose(np.diag(alike), [1, 1, 1, 1, 0], atol=1e-9)
    by_vector = known.likeness(["G0", "G1", "G2", "G3"])["describes"]
    assert by_vector[0, 1] == pytest.approx(1.0) and by_vector[0, 2] < 0 and not by_vector[3].any()


def test_dealing_edges_anew_makes_none_twice() -> None:
    edges = many(2).relations["regulates"]
    dealt = rewired_edges(edges, np.random.default_rng(0)).tocoo()
    assert len(set(zip(dealt.row, dealt.col, strict=True))) == dealt.nnz >= 0.95 * edges.nnz
    assert (dealt.row != dealt.col).all()


def test_without_priors_a_graph_is_as_before() -> None:
    graph = random_tissue(60)
    add_priors(graph, [])
    assert known_of(graph) is None and priors_told(graph) == [] and graph["gene"].num_nodes == 20
    assert all(names.GENE not in (s, t) or r == names.OBSERVED_IN for s, r, t in graph.edge_types)
