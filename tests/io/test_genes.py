"""Gene names: unique, of one organism, without versions, and every change on record."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from aivc_graph.errors import ReadError
from aivc_graph.io.genes import name_genes
from aivc_graph.io.matrices import count_table


def _table(symbols: list[str], **columns: Any) -> Any:
    counts = sparse.csr_matrix(np.arange(1, 1 + 2 * len(symbols), dtype=np.float32).reshape(2, -1))
    return count_table(counts, ["a", "b"], pd.DataFrame(columns, index=symbols))


def test_counts_of_one_symbol_add_up_and_none_is_lost() -> None:
    table = _table(["B", "A", "B", "C", "A"], gene_ids=["e1", "e2", "e3", "e4", "e5"])
    named = name_genes(table, "t")
    assert list(named.var_names) == ["B", "A", "C"] and list(named.var["gene_id"]) == ["e1", "e2", "e4"]
    assert named.X.toarray().tolist() == [[1 + 3, 2 + 5, 4], [6 + 8, 7 + 10, 9]]
    assert list(named.uns["genes"]["summed"]) == ["A", "B"]
    with pytest.raises(
        ReadError, match=r"t: expected unique symbols, found 2 symbols that stand for several columns: 'A', 'B'"
    ):
        name_genes(table, "t", duplicates="refuse")


def test_versions_go_but_are_kept_on_record() -> None:
    ids = ["ENSG00000243485.5", "ENSG00000243485.7_PAR_Y", "RP11-34P13.7"]
    named = name_genes(_table(["A", "C", "D"], gene_ids=ids), "t")
    assert list(named.var["gene_id"]) == ["ENSG00000243485", ids[1], ids[2]]
    assert list(named.var["gene_version"]) == ["5", "", ""] and named.uns["genes"]["versions_stripped"] == 1


def test_an_empty_symbol_is_replaced_by_its_id_and_unknown_ids_are_counted() -> None:
    named = name_genes(_table(["", "nan", "A"], gene_ids=["ENSG00000000001", "ENSG00000000002", "DEPRECATED_1"]), "t")
    assert list(named.var_names) == ["ENSG00000000001", "ENSG00000000002", "A"]
    assert named.uns["genes"]["without_ensembl_id"] == 1


@pytest.mark.parametrize(
    ("symbols", "columns"),
    [
        (["GRCh38_A", "GRCh38_B", "mm10_A"], {}),
        (["A", "B", "A"], {"genome": ["GRCh38", "GRCh38", "mm10"]}),
        (["A", "B", "A"], {"gene_ids": ["ENSG00000000001", "ENSG00000000002", "ENSMUSG00000000001"]}),
    ],
)
def test_mixed_organisms_are_tabled_and_chosen_from(symbols: list[str], columns: dict[str, Any]) -> None:
    with pytest.raises(
        ReadError, match=r"(?s)2 organisms; set `organism:`.*human +2 genes +57.1% of.*mouse +1 genes +42.9%"
    ):
        name_genes(_table(symbols, **columns), "t")
    human = name_genes(_table(symbols, **columns), "t", organism="human")
    assert list(human.var_names) == ["A", "B"] and human.uns["genes"]["dropped_other_organism"] == 1
    assert list(name_genes(_table(symbols, **columns), "t", organism="mm10").var_names) == ["A"]
    with pytest.raises(ReadError, match=r"t · organism: expected rat, found genes of human, mouse"):
        name_genes(_table(symbols, **columns), "t", organism="rat")


def test_an_organism_is_believed_where_nothing_tells() -> None:
    assert name_genes(_table(["A", "B"]), "t", organism="mouse").n_vars == 2


def test_a_prefix_of_one_genome_goes_without_asking() -> None:
    assert list(name_genes(_table(["mm10___Xkr4", "mm10___Rp1"]), "t").var_names) == ["Xkr4", "Rp1"]
