"""Weights of genes by pathway are read from sets as well."""

from __future__ import annotations

from pathlib import Path

from aivc_graph.io.footprints import read_footprints


def test_gene_sets_are_weights_of_one(tmp_path: Path) -> None:
    (tmp_path / "sets.gmt").write_text("A\tabout A\tG01\tG02\tG01\nB\t\tG03\n")
    found = read_footprints(tmp_path / "sets.gmt")
    assert found.to_numpy().tolist() == [["A", "G01", 1.0], ["A", "G02", 1.0], ["B", "G03", 1.0]]
