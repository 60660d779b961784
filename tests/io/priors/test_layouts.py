"""Every layout of priors is told by its content and read as edges or vectors; what says nothing is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from aivc_graph.errors import ReadError
from aivc_graph.io.priors.layout import LAYOUTS, PriorConfig, read_prior
from aivc_graph.io.priors.naming import translated
from aivc_graph.tissue.doubt import doubts_heard
from aivc_graph.tissue.prior import Prior

DOROTHEA = "tf,confidence,target,mor\nKLF1,A,HBB,1\nKLF1,C,HBA1,-1\nTP53,A,TP53,1\nTP53,A,MDM2,1\n"
CELLCHAT = (
    ",interaction_name,ligand,receptor,ligand.symbol,receptor.symbol\n"
    'x,TGFB1_R,TGFB1,TGFbR1_R2,TGFB1,"TGFBR2, TGFBR1"\ny,ESTRADIOL_ESR1,Estradiol,ESR1,,ESR1\n'
)
LIANA = (
    ",source,target,source_genesymbol,target_genesymbol,resource\n"
    "1,P1,P2,LGALS9,PTPRC,consensus\n2,P1,P3,LGALS9,ITGA1_ITGB1,consensus\n3,P1,P4,Lgals9,Cd45,mouseconsensus\n"
)
STRING = "protein1 protein2 combined_score\n9606.P1 9606.P2 900\n9606.P2 9606.P1 900\n9606.P1 9606.P3 150\n"
SIF = "KLF1\tactivates\tHBB\tHBA1\nTP53\tinhibits\tCCNB1\nMDM2\tactivates\tE2F1\nALONE\nA\tactivates\tB\n"
POSITIONS = "gene\tchrom\tstart\tend\tstrand\nHBB\tchr11\t100\t900\t-\nMYC\t8\t50\t400\t+\n"


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def prior(folder: Path, name: str, text: str, **options: object) -> Prior:
    return read_prior(PriorConfig.model_validate({"path": written(folder, name, text), **options}))


def edges(found: Prior) -> list[tuple[str, str, float, float]]:
    return [(s, t, float(sign), round(float(w), 3)) for s, t, sign, w in found.table.itertuples(index=False)]


@pytest.mark.parametrize(
    ("name", "text", "layout", "relation", "expected"),
    [
        ("a.csv.gz", DOROTHEA, "regulons", "regulates", "KLF1 HBA1 -1 1, KLF1 HBB 1 1, TP53 MDM2 1 1"),
        ("a.tsv", "source\ttarget\tmor\nMYC\tTERT\t-1\n", "regulons", "regulates", "MYC TERT -1 1"),
        ("a.csv", CELLCHAT, "cellchat", "binds", "TGFB1 TGFBR1 0 0.5, TGFB1 TGFBR2 0 0.5"),
        ("a.csv", LIANA, "liana", "binds", "LGALS9 ITGA1 0 0.5, LGALS9 ITGB1 0 0.5, LGALS9 PTPRC 0 1"),
        ("a.gz", STRING, "string", "interacts", "9606.P1 9606.P2 0 0.9, 9606.P1 9606.P3 0 0.15, 9606.P2 9606.P1 0 0.9"),
        ("a.sif", SIF, "sif", "interacts", "A B 1 1, KLF1 HBA1 1 1, KLF1 HBB 1 1, MDM2 E2F1 1 1, TP53 CCNB1 -1 1"),
        ("a.csv", "a,b,w\nX,Y,2\nX,Y,3\nX,X,9\nY,Z,-1\n", "columns", "interacts", "X Y 0 3, Y Z -1 1"),
    ],
)
def test_a_layout_is_told_by_content_and_read_as_edges(
    tmp_path: Path, name: str, text: str, layout: str, relation: str, expected: str
) -> None:
    found = prior(tmp_path, name, text)
    assert (found.facts["layout"], found.relation) == (layout, relation)
    assert len(found.facts["sha256"]) == 64
    assert ", ".join(f"{s} {t} {sign:g} {weight:g}" for s, t, sign, weight in edges(found)) == expected


def test_options_choose_rows_and_columns(tmp_path: Path) -> None:
    assert {s for s, *_ in edges(prior(tmp_path, "a.csv", DOROTHEA, confidence="A"))} == {"KLF1", "TP53"}
    assert len(prior(tmp_path, "a.csv", DOROTHEA, confidence="A").table) == 2
    assert edges(prior(tmp_path, "a.csv", LIANA, species="mouse")) == [("Lgals9", "Cd45", 0, 1)]
    assert len(prior(tmp_path, "a.txt", STRING, least_weight=0.5).table) == 2
    named = prior(tmp_path, "b.csv", "from,to,up\nA,B,-1\n", sign="up", relation="binds")
    assert named.relation == "binds" and edges(named) == [("A", "B", -1, 1)]
    with pytest.raises(ReadError, match=r"no resource named 'consensu'; did you mean 'consensus'"):
        prior(tmp_path, "a.csv", LIANA, resource="consensu")
    with pytest.raises(ReadError, match="no column 'confidence'"):
        prior(tmp_path, "b.tsv", "source\ttarget\tmor\nA\tB\t1\n", confidence="A")


def test_a_pair_given_with_both_signs_has_none(tmp_path: Path) -> None:
    """Whichever row comes first; a row that knows no sign contradicts none, and a heavier row outweighs."""
    for first, second in (("1", "-1"), ("-1", "1")):
        text = f"source,target,sign,weight\nA,B,{first},1\nA,B,{second},1\nC,D,0,1\nC,D,-1,1\nE,F,-1,3\nE,F,1,2\n"
        found = edges(prior(tmp_path, "a.csv", text))
        assert [(s, sign) for s, _, sign, _ in found] == [("A", 0), ("C", -1), ("E", -1)]


def test_sets_describe_genes_or_name_their_factor(tmp_path: Path) -> None:
    text = "SET_A\thttp\tHBB\tMYC\nSET_B\t\tMYC\n"
    found = prior(tmp_path, "s.gmt", text)
    assert found.describes and found.table.loc["MYC"].tolist() == [1, 1] and found.table.loc["HBB"].tolist() == [1, 0]
    assert edges(prior(tmp_path, "s.gmt", text, relation="regulates"))[0] == ("SET_A", "HBB", 0, 1)
    found = prior(tmp_path, "p.csv", "gene,pathway,weight\nHBB,WNT,-2\nMYC,WNT,3\n")
    assert found.facts["layout"] == "progeny" and found.table["WNT"].to_dict() == {"HBB": -2.0, "MYC": 3.0}


def test_vectors_are_read_from_every_container_alike(tmp_path: Path) -> None:
    values = np.arange(6.0).reshape(3, 2)
    frame = pd.DataFrame(values, index=["HBB", "MYC", "GATA1"], columns=["v0", "v1"])
    frame.to_csv(tmp_path / "v.csv", index_label="gene")
    frame.to_csv(tmp_path / "v.tsv", sep="\t", index_label="gene")
    frame.reset_index(names="gene").to_parquet(tmp_path / "v.parquet")
    np.savez(tmp_path / "v.npz", genes=np.array(frame.index, dtype="U"), x=values)
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["vectors"], file["genes"] = values, list(frame.index)
    for name in ("v.csv", "v.tsv", "v.parquet", "v.npz", "v.h5"):
        found = read_prior(PriorConfig(path=tmp_path / name))
        assert found.describes and found.facts["layout"] == "vectors", name
        np.testing.assert_array_equal(found.table.loc[list(frame.index)].to_numpy(), values, err_msg=name)


def test_genes_with_several_vectors_are_told(tmp_path: Path) -> None:
    with doubts_heard() as doubts:
        found = prior(tmp_path, "v.csv", "gene,v0,v1\nHBB,1,2\nMYC,3,4\nMYC,3,4\nHBB,5,6\n")
    assert found.table.loc["HBB"].tolist() == [1, 2] and len(found.table) == 2
    assert len(doubts) == 1 and "1 genes with several vectors, such as 'HBB'; the first counts" in doubts[0]


def test_vectors_without_names_with_gaps_or_pickled_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 2)))
    np.savez(tmp_path / "b.npz", x=np.array([[1.0, np.nan]]), genes=np.array(["A"]))
    np.savez(tmp_path / "c.npz", x=np.zeros((1, 2)), genes=np.array(["A"], dtype=object))
    with pytest.raises(ReadError, match="no names for 3 rows"):
        read_prior(PriorConfig(path=tmp_path / "a.npz"))
    with pytest.raises(ReadError, match="missing or infinite"):
        read_prior(PriorConfig(path=tmp_path / "b.npz"))
    with pytest.raises((ReadError, ValueError), match=r"pickle|Object arrays"):
        read_prior(PriorConfig(path=tmp_path / "c.npz"))


def test_places_of_genes_begin_where_their_strand_does(tmp_path: Path) -> None:
    found = prior(tmp_path, "g.tsv", POSITIONS)
    assert found.placed and found.table.to_dict("list") == {
        "gene": ["HBB", "MYC"], "chromosome": ["11", "8"], "begins_bp": [900.0, 50.0],
    }  # fmt: skip


def test_what_no_layout_holds_is_refused_with_what_each_expects(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="no layout of priors recognises it") as told:
        prior(tmp_path, "x.txt", "KLF1\nGATA1\n")
    assert all(f"  {name}: " in str(told.value) for name in LAYOUTS)
    with pytest.raises(ReadError, match="no such file"):
        read_prior(PriorConfig(path=tmp_path / "absent.csv"))
    with pytest.raises(ReadError, match="says anything"):
        prior(tmp_path, "a.txt", STRING, least_weight=2.0)
    with pytest.raises(ReadError, match="positions, which say no 'binds'"):
        prior(tmp_path, "g.tsv", POSITIONS, relation="binds")


@pytest.mark.parametrize(
    ("name", "options", "layout", "relation", "size"),
    [
        ("dorothea_hs_ABC.csv.gz", {}, "regulons", "regulates", (13_223, 4)),
        ("dorothea_mm_ABC.csv.gz", {"confidence": "A"}, "regulons", "regulates", None),
        ("cellchat_ppi_human_edges.csv.gz", {}, "columns", "interacts", (13_851, 4)),
        ("cellchatdb_human_interaction.csv.gz", {}, "cellchat", "binds", (2_951, 4)),
        ("cellchatdb_mouse_interaction.csv.gz", {}, "cellchat", "binds", None),
        ("liana_omni_resource.csv", {"species": "mouse"}, "liana", "binds", (4_071, 4)),
        ("h.all.v7.0.symbols.gmt", {}, "gmt", "describes", (4_384, 50)),
        ("progeny_mouse_top500.csv", {}, "progeny", "describes", (5_647, 14)),
    ],
)
def test_the_tables_of_the_field_are_read_as_they_come(
    data_dir: Path, name: str, options: dict[str, str], layout: str, relation: str, size: tuple[int, int] | None
) -> None:
    found = read_prior(PriorConfig.model_validate({"path": data_dir / "priors" / name, **options}))
    assert (found.facts["layout"], found.relation) == (layout, relation)
    assert size is None or found.table.shape == size
    if not found.describes:
        assert (found.table["weight"] > 0).all() and set(found.table["sign"]) <= {-1.0, 0.0, 1.0}
        assert (found.table["source"] != found.table["target"]).all()
        assert not found.table.duplicated(["source", "target"]).any()


def test_orthologs_lead_mouse_footprints_to_human_genes(data_dir: Path) -> None:
    path = data_dir / "priors" / "progeny_mouse_top500.csv"
    found = read_prior(PriorConfig(path=path, names_by=data_dir / "priors" / "HMD_HumanPhenotype.rpt"))
    human = {"TNFAIP3", "NFKBIA", "VEGFA", "EGFR"}
    named = translated(found, human)
    assert {"TNFAIP3", "NFKBIA"} <= set(named.table.index) and "Tnfaip3" not in named.table.index
    assert named.table.loc["TNFAIP3", "NFkB"] == found.table.loc["Tnfaip3", "NFkB"]
