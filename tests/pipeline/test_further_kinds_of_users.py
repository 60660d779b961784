"""Kinds of faults that outsiders ran into, in what users say and are told: two and more further cases a kind."""

from __future__ import annotations

import gzip
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.io import mmwrite

from aivc_graph.errors import ReadError, TissueError
from aivc_graph.io.reading import read, reader_for, recognise
from aivc_graph.tissue.doubt import doubts_heard
from tests.pipeline.test_further_kinds import GENES, PLACED, N, Say, _said, _table, _visium, _xenium
from tests.vendor_folders import some_cells, write_mcmicro, write_merscope


def _build(say: Say, folder: Path, section: str, graph: str = "") -> tuple[int, str]:
    (folder / "t.yaml").write_text(f"task: {{name: t, sections: [{section}]}}\n{graph}")
    code, _, err = say("build", folder / "t.yaml", "--out", folder / "g.zarr")
    return code, err if code else "\n".join(json.loads(say("inspect", folder / "g.zarr", "--json")[1])["doubts"])


# 4. What the user named or measured is dropped silently.


def test_each_section_of_a_slide_has_its_part_of_picture_and_transcripts(tmp_path: Path) -> None:
    reader = reader_for(_xenium(tmp_path / "o"), None, slide="morphology_focus.ome.tif")
    whole = reader.read(tmp_path / "o", "s")
    parts = reader.read_by(tmp_path / "o", ("piece",))
    assert sum(len(one.points["transcripts"]) for one in parts.values()) == len(whole.points["transcripts"]) == 80
    assert all(one.images["slide"].shape[2] < 0.5 * whole.images["slide"].shape[2] for one in parts.values())
    cells = write_merscope(some_cells(), tmp_path / "m")
    for name, one in reader_for(cells).read_by(cells, ("region",)).items():
        known = set(one.shapes["cell"].index)
        assert set(one.points["transcripts"]["cell"].compute()) <= {*known, ""}, name


def test_settings_of_what_is_not_there_are_doubted(tmp_path: Path, say: Say) -> None:
    _table().write_h5ad(tmp_path / "t.h5ad")
    section = "{name: s, sources: [{path: ./t.h5ad, level: patch, um_per_unit: 1, diameter_um: 8}]}"
    graph = "graph: {cofactor: {CD3: 5}, edges: {cell: {kind: knn, k: 4}, patch: {kind: knn, k: 4}}}\n"
    code, said = _build(say, tmp_path, section, graph)
    assert code == 0 and "graph.cofactor: expected some, found no intensities" in said
    assert "graph.edges.cell: expected some, found no cell nodes" in said and "edges.patch" not in said


def test_markers_that_the_vendors_list_leaves_out_are_told(tmp_path: Path) -> None:
    path = write_mcmicro(some_cells(), tmp_path / "m")
    listed = pd.read_csv(path / "markers.csv")
    assert not _said(path)[1]
    listed[:4].to_csv(path / "markers.csv", index=False)
    assert "3 columns that look like markers and are not listed: Ki67, SMA, Blank1" in _said(path)[1]


def test_a_delivery_behind_a_link_is_looked_at(tmp_path: Path, say: Say) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "S1").symlink_to(_visium(tmp_path / "elsewhere"))
    (tmp_path / "study" / "again").symlink_to(tmp_path / "study")
    found = json.loads(say("init", tmp_path / "study", "--json")[1])
    assert [one.split(":")[0] for one in found["found"]] == ["S1"]


def test_an_unrelated_table_beside_a_file_makes_no_section_unreadable(tmp_path: Path, say: Say) -> None:
    table = _table()
    table.write_h5ad(tmp_path / "study.h5ad")
    other = pd.DataFrame(np.random.default_rng(0).poisson(2.0, (40, 31)), columns=[f"M{i}" for i in range(31)])
    other.assign(x=range(40), y=range(40)).to_csv(tmp_path / "plate.csv", index_label="barcode")
    found = json.loads(say("init", tmp_path, "--json")[1])
    assert any("which of the sections of this folder belong together" in one for one in found["unclear"])
    assert any("study.h5ad (h5ad)" in one and "plate" not in one for one in found["found"])
    code, _, err = say("build", tmp_path / "aivc.yaml", "--out", tmp_path / "g.zarr")
    assert code == 0, err


def test_a_label_that_no_row_has_and_genes_without_a_name_are_told(tmp_path: Path) -> None:
    table = _table()
    table.obs["kind"] = pd.Categorical([None] * N, categories=["a"])
    table.write_h5ad(tmp_path / "t.h5ad")
    assert "kind: expected some, found no row with a label" in _said(tmp_path / "t.h5ad", label="kind", **PLACED)[1]
    _table(["", "nan", *GENES[2:]]).write_h5ad(tmp_path / "t.h5ad")
    with pytest.raises(ReadError, match=r"2 of 30 features without symbol or id.*`symbols:`"):
        read(tmp_path / "t.h5ad", **PLACED)


# 5. The first of several taken.


def test_of_two_lists_of_spots_it_is_told_which_is_taken(tmp_path: Path) -> None:
    path = _visium(tmp_path / "v")
    spots = pd.read_csv(path / "spatial" / "tissue_positions.csv")
    spots.to_csv(path / "spatial" / "tissue_positions_list.csv", index=False, header=False)
    assert "tissue_positions_list.csv beside tissue_positions.csv, which is taken" in _said(path)[1]


def test_of_two_columns_of_labels_it_is_told_which_is_taken(tmp_path: Path) -> None:
    path = _xenium(tmp_path / "o")
    named = pd.read_parquet(path / "cells.parquet")["cell_id"]
    labels = pd.DataFrame(
        {"Barcode": named, "Cluster": np.arange(80) % 3, "group": np.where(np.arange(80) < 40, "a", "b")}
    )
    labels.to_csv(path / "clusters.csv", index=False)
    section, said = _said(path, labels="clusters.csv")
    assert (
        set(section.shapes["cell"]["label"]) == {"a", "b"}
        and "labels from 'group', and 'Cluster' there as well" in said
    )


# 6. Told on the terminal alone.


def test_how_positions_and_letters_were_understood_stands_in_the_record(tmp_path: Path, say: Say) -> None:
    table = _table()
    xy = table.obsm.pop("spatial")
    table.obs["x_centroid"], table.obs["y_centroid"] = xy.T
    table.write_h5ad(tmp_path / "t.h5ad")
    source = "{path: ./t.h5ad, level: cell, um_per_unit: 1, diameter_um: 8}"
    assert (
        "positions are the columns x_centroid, y_centroid of obs"
        in _build(say, tmp_path, f"{{name: s, sources: [{source}]}}")[1]
    )
    frame = table.to_df().assign(x=xy[:, 0], y=xy[:, 1], note="ü").rename_axis("barcode")
    (tmp_path / "w.csv").write_bytes(frame.to_csv().encode("cp1252"))
    assert "read as cp1252" in _said(tmp_path / "w.csv", columns=("note",), **PLACED)[1]


# 7. Numbers that are names.


def test_sections_donors_and_what_is_kept_are_named_by_floats(tmp_path: Path, say: Say) -> None:
    table = _table()
    table.obs["sample"], table.obs["case"] = np.repeat([1.0, 2.0], N // 2), np.repeat([12345678.0, 12345679.0], N // 2)
    table.write_h5ad(tmp_path / "t.h5ad")
    source = "{path: ./t.h5ad, level: cell, um_per_unit: 1, diameter_um: 8}"
    code, said = _build(say, tmp_path, f"{{name: s, sections_by: sample, donor_by: case, sources: [{source}]}}")
    assert code == 0, said
    from aivc_graph.graph.store import read_store

    sections = read_store(tmp_path / "g.zarr").obs("section")
    assert sections["donor"].to_dict() == {"1": "12345678", "2": "12345679"}
    assert len(read(tmp_path / "t.h5ad", keep={"sample": 2}, **PLACED).shapes["cell"]) == N // 2


def test_fields_and_numbers_of_cosmx_that_went_through_a_float(tmp_path: Path) -> None:
    from tests.vendor_folders import write_cosmx

    path = write_cosmx(some_cells(), tmp_path / "o")
    cells = pd.read_csv(path / "S1_metadata_file.csv").astype({"fov": float, "cell_ID": float})
    cells.to_csv(path / "S1_metadata_file.csv", index=False)
    assert read(path).shapes["cell"].index[:2].tolist() == ["1_1", "1_2"]


# 8. Advice that cannot be followed.


def test_layers_that_are_no_counts_are_not_offered(tmp_path: Path) -> None:
    import anndata

    table = _table()
    table.layers["umi"], logs = table.X.copy(), np.log1p(table.X.toarray())
    table.raw = anndata.AnnData(logs, obs=table.obs, var=table.var)
    table.X = (logs - logs.mean(axis=0)) / logs.std(axis=0)
    table.write_h5ad(tmp_path / "t.h5ad")
    with pytest.raises(ReadError, match=r"as `layer:` \(layers: umi\)"):
        read(tmp_path / "t.h5ad", **PLACED)
    assert read(tmp_path / "t.h5ad", layer="umi", **PLACED)["cell_rna"].X.sum() == table.layers["umi"].sum()


def test_a_file_of_types_alone_is_read_as_advised(tmp_path: Path) -> None:
    table = _table()
    table.X, table.obs["kind"] = None, np.array(["a", "b"])[np.arange(N) % 2]
    table.write_h5ad(tmp_path / "t.h5ad")
    with pytest.raises(ReadError, match=r"no `X`, and no layer; of rows with a type alone say `values: types`"):
        read(tmp_path / "t.h5ad", **PLACED)
    section = read(tmp_path / "t.h5ad", values="types", label="kind", **PLACED)
    assert section.shapes["cell"]["label"].value_counts().to_dict() == {"a": 36, "b": 36}


def test_positions_under_another_key_are_named(tmp_path: Path) -> None:
    table = _table()
    table.obsm["spatal"] = table.obsm.pop("spatial")
    table.write_h5ad(tmp_path / "t.h5ad")
    with pytest.raises(ReadError, match=r"did you mean 'spatal'\?.*name the one that holds them as `spatial_key:`"):
        read(tmp_path / "t.h5ad", **PLACED)
    assert len(read(tmp_path / "t.h5ad", spatial_key="spatal", **PLACED).shapes["cell"]) == N


def test_names_that_repeat_between_sections_are_parted_as_advised(tmp_path: Path) -> None:
    table = _table()
    table.obs["mouse"] = np.repeat(["m1", "m2"], N // 2)
    table.obs_names = [f"c{i % (N // 2)}" for i in range(N)]
    table.write_h5ad(tmp_path / "t.h5ad")
    with pytest.raises(ReadError, match=r"36 names of rows twice, none within one 'mouse'.*`sections_by: mouse`"):
        read(tmp_path / "t.h5ad", **PLACED)
    parts = reader_for(tmp_path / "t.h5ad", **PLACED).read_by(tmp_path / "t.h5ad", ("mouse",))
    assert {name: len(one.shapes["cell"]) for name, one in parts.items()} == {"m1": 36, "m2": 36}


def test_spots_all_beside_the_tissue_and_a_list_that_is_cut_off(tmp_path: Path) -> None:
    path = _visium(tmp_path / "v", in_tissue=0)
    with pytest.raises(ReadError, match=r"0 of each of 72 spots; `only_in_tissue: false` takes all"):
        read(path)
    assert len(read(path, only_in_tissue=False).shapes["patch"]) == N
    other = _visium(tmp_path / "w")
    spots = pd.read_csv(other / "spatial" / "tissue_positions.csv")
    spots[:40].to_csv(other / "spatial" / "tissue_positions.csv", index=False)
    with pytest.raises(
        TissueError, match=rf"none such as {spots['barcode'][40]!r} has one: is the list of positions whole"
    ):
        read(other)


def test_what_no_reader_takes_is_told_for_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "t.rds").write_bytes(gzip.compress(b"X\n\0\0\0\3" + bytes(100)))
    (tmp_path / "e.h5ad").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "t.xlsx", "w") as book:
        book.writestr("[Content_Types].xml", "<Types/>")
    for name, told in (
        ("t.rds", "an object of R"),
        ("e.h5ad", "an empty file"),
        ("t.xlsx", "a workbook; save its sheet"),
    ):
        with pytest.raises(ReadError, match=told):
            recognise(tmp_path / name)


def test_a_part_of_a_delivery_and_the_folder_above_it_name_what_to_give(tmp_path: Path) -> None:
    path = _visium(tmp_path / "study" / "S1")
    with pytest.raises(ReadError, match=r"it is part of a delivery: give its folder .*S1 \(spaceranger\)"):
        recognise(path / "filtered_feature_bc_matrix.h5")
    with pytest.raises(ReadError, match=r"give what lies in it: S1 \(spaceranger\)"):
        recognise(tmp_path / "study")


def test_metadata_without_the_suffix_of_barcodes_are_joined(tmp_path: Path) -> None:
    mmwrite(tmp_path / "matrix.mtx", sparse.csc_matrix(np.random.default_rng(0).poisson(3.0, (30, N))))
    pd.DataFrame({"id": GENES}).to_csv(tmp_path / "genes.tsv", index=False, header=False)
    (tmp_path / "barcodes.tsv").write_text("\n".join(f"C{i}-1" for i in range(N)))
    known = pd.DataFrame({"barcode": [f"C{i}" for i in range(N)], "kind": np.arange(N) % 3 / 1.0})
    known.to_csv(tmp_path / "known.csv", index=False)
    section, said = _said(tmp_path, metadata=tmp_path / "known.csv", label="kind")
    assert section.shapes["cell"]["label"].tolist()[:4] == ["0", "1", "2", "0"] and "without their suffix" in said


# 9. Errors of libraries, and faults that are told twice.


def test_a_cofactor_below_zero_is_one_fault(tmp_path: Path, say: Say) -> None:
    code, said = _build(say, tmp_path, "{name: s, sources: [{path: ./t.h5ad}]}", "graph: {cofactor: {CD3: -5}}\n")
    assert code == 2 and said.count("graph.cofactor") == 1 and "graph.cofactor.CD3: expected greater than 0" in said


@pytest.mark.parametrize("kind", ["t.h5ad", "t.csv", "t.loom", "t.gem", "t.gct", "cells.parquet", "t.npz", "t.tif"])
def test_files_without_anything_in_them_are_named(kind: str, tmp_path: Path) -> None:
    for content in (b"", b"\n", b"\0" * 64):
        (tmp_path / kind).write_bytes(content)
        with pytest.raises(ReadError, match=kind):
            recognise(tmp_path / kind)


def test_a_folder_that_cannot_be_written_is_told_before_the_work(tmp_path: Path, say: Say, monkeypatch: Any) -> None:
    path = _visium(tmp_path / "Größe (1)" / "S 1")

    def refused(*_: Any, **__: Any) -> Any:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    code, _, err = say("init", path)
    assert code == 2 and "Read-only file system: nothing can be written there" in err and "--out" in err
    monkeypatch.undo()
    assert say("init", path, "--out", tmp_path / "o.yaml")[0] == 0
    with doubts_heard() as doubts:
        assert len(read(path).shapes["patch"]) == N and not doubts
