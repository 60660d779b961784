"""Genes named alike over sections: ids, versions, capitals, and the genes of another species."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from aivc_graph.config import load_config
from aivc_graph.errors import GraphError
from aivc_graph.graph.build import GraphConfig, build_graph
from aivc_graph.graph.gene_names import named_alike, read_orthologs
from aivc_graph.graph.panels import panel, panel_overlap
from aivc_graph.pipeline.inspect import describe_graph


def table(names: list[str], ids: list[str] | None = None) -> ad.AnnData:
    var = pd.DataFrame(index=names) if ids is None else pd.DataFrame({"gene_id": ids}, index=names)
    return ad.AnnData(np.ones((3, len(names)), np.float32), var=var)


def named(*tables: ad.AnnData, orthologs: pd.DataFrame | None = None) -> list[list[str]]:
    found = named_alike([{f"s{i}": one for i, one in enumerate(tables)}], orthologs)[0]
    return [list(one.var_names) for one in found.values()]


def test_ids_of_any_version_take_the_symbol_another_table_has() -> None:
    symbols = table(["ACTB", "CD3E", "MKI67"], ["ENSG00000075624", "ENSG00000198851.4", "ENSG00000148773"])
    ids = table(["ENSG00000198851", "ENSG00000075624.12", "ENSG00000111111.2"])
    assert named(symbols, ids)[1] == named(ids, symbols)[0] == ["CD3E", "ACTB", "ENSG00000111111"]
    assert named(symbols, ids)[0] == ["ACTB", "CD3E", "MKI67"]


def test_levels_take_each_others_symbols() -> None:
    cells, spots = {"s": table(["ACTB"], ["ENSG00000075624"])}, {"s": table(["ENSG00000075624.1"])}
    assert list(named_alike([cells, spots], None)[1]["s"].var_names) == ["ACTB"]


def test_other_capitals_are_another_spelling_where_most_names_agree() -> None:
    first = table(["C1orf112", "ACTB", "CD3E", "GAPDH"])
    assert named(first, table(["C1ORF112", "ACTB", "GAPDH"]))[1] == ["C1orf112", "ACTB", "GAPDH"]
    mouse = ["C1orf112", "Actb", "Cd3e", "Gapdh"]
    assert named(first, table(mouse))[1] == mouse  # another species: no spelling


def test_a_name_that_two_genes_would_share_stays() -> None:
    first = table(["ACTB", "CD3E", "GAPDH"], ["ENSG00000075624", "ENSG2", "ENSG3"])
    assert named(first, table(["ACTB", "ENSG00000075624", "CD3E"]))[1] == ["ACTB", "ENSG00000075624", "CD3E"]


def test_mouse_genes_become_their_single_human_orthologs() -> None:
    rows = [["ACTB", "60", "Actb"], ["CD3E", "916", "Cd3e"], ["CYP2D6", "1", "Cyp2d9"], ["CYP2D6", "1", "Cyp2d10"]]
    orthologs = pd.DataFrame([*rows, ["NOTCH2", "2", "Notch2"], ["NOTCH2NLA", "3", "Notch2"]])
    mouse = table(["Cyp2d9", "Actb", "Cyp2d10", "Cd3e", "Notch2", "Gm123"])
    human = table(["ACTB", "CD3E", "GAPDH"])
    assert named(human, mouse, orthologs=orthologs) == [
        ["ACTB", "CD3E", "GAPDH"],
        ["Cyp2d9", "ACTB", "Cyp2d10", "CD3E", "Notch2", "Gm123"],
    ]
    assert named(mouse, human, orthologs=orthologs)[0][1] == "ACTB"  # whichever comes first


def test_mouse_and_human_sections_are_one_graph(striped_section: Callable[..., Any], tmp_path: Path) -> None:
    human, mouse = (striped_section(name, n=80, seed=i, donor=name) for i, name in enumerate(("human", "mouse")))
    human.tables["cell_rna"].var_names = [f"COL{i}A1" for i in range(30)]
    mouse.tables["cell_rna"].var_names = [f"Col{i}a1" for i in range(30)]
    with pytest.raises(GraphError, match=r"30 differ by capitals alone.*two species: `graph.orthologs`") as caught:
        build_graph([human, mouse])
    assert "human | mouse" in str(caught.value)
    file = tmp_path / "orthologs.rpt"
    file.write_text("".join(f"COL{i}A1\t{i}\tCol{i}a1\tMGI:{i}\t\n" for i in range(25)))
    graph = build_graph([human, mouse], GraphConfig(orthologs=file))
    assert len(panel(graph, "cell", "rna")) == 35
    overlap = panel_overlap(graph)["cell · rna"]
    assert (overlap["molecules"], overlap["in_all_sections"]) == (35, 25)
    assert overlap["by_section"] == {"human": 30, "mouse": 30}
    assert overlap["shared"]["human"] == {"human": 30, "mouse": 25}
    assert describe_graph(graph)["panels"] == panel_overlap(graph)


def test_panels_that_do_not_differ_are_not_tabled(striped_section: Callable[..., Any]) -> None:
    graph = build_graph([striped_section("a", n=60), striped_section("b", n=60, seed=1)])
    assert panel_overlap(graph) == {} and "panels" not in describe_graph(graph)


def test_a_table_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("ACTB\nCD3E\n")
    for name, said in (("none.txt", "no such file"), ("one.txt", "no table|one column")):
        with pytest.raises(GraphError, match=said):
            read_orthologs(tmp_path / name)


def test_mgi_table_is_read(data_dir: Path) -> None:
    found = read_orthologs(data_dir / "priors" / "HMD_HumanPhenotype.rpt")
    human, mouse = table(["ACTB", "CD3E", "COL1A1"]), table(["Col1a1", "Actb", "Cd3e"])
    assert named(human, mouse, orthologs=found)[1] == ["COL1A1", "ACTB", "CD3E"]


def test_the_yaml_says_where_orthologs_lie(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("task: {name: t}\ngraph: {genes: shared, orthologs: ./o.tsv}\n")
    found = load_config(tmp_path / "c.yaml").graph
    assert found.genes == "shared" and found.orthologs == tmp_path / "o.tsv"


def test_orthologs_that_name_no_gene_of_the_tissue_are_refused(tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_text("human,mouse\nENSG00000000001,ENSMUSG00000000001\n")
    tables = [{"s": ad.AnnData(np.ones((3, 2)), var=pd.DataFrame(index=["ACTB", "CD4"]))}]
    with pytest.raises(GraphError, match=r"expected genes .*'ACTB', 'CD4', found names such as 'ENSG00000000001'"):
        named_alike(tables, read_orthologs(tmp_path / "o.csv"))
